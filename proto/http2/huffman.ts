// The Huffman code of HPACK (RFC 7541, 5.2 and Appendix B), decoded a byte at a time.
import { errorCode, Http2Error } from './errors.js'

/** Bits of the code of each byte. The code is canonical: shorter ones first, those of one length in the order of their bytes. */
const codeBitLengths: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6,
  5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
  22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22,
  23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26,
  20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27,
  27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
  27, 27, 27, 26,
]
const codeBitLengthMax = 30
/** The end-of-string symbol, thirty ones: no text may hold it. */
const endSymbol = 256

/**
 * Tables of 256 entries, the first one at 0. An entry for the next eight bits is (bits used << 9 | symbol) where a code ends within
 * them, or the negative number of the table for the bits that follow.
 */
const tables = makeTables()

function makeTables(): Int16Array {
  const entries: number[] = new Array<number>(256).fill(0)
  const add = (symbol: number, code: number, bitLength: number): void => {
    let table = 0
    let restBitLength = bitLength
    for (; restBitLength > 8; restBitLength -= 8) {
      const at = table * 256 + ((code >>> (restBitLength - 8)) & 0xff)
      if (entries[at] === 0) {
        entries[at] = -(entries.length / 256)
        entries.push(...new Array<number>(256).fill(0))
      }
      table = -entries[at]
    }
    const freeBitLength = 8 - restBitLength
    const start = table * 256 + ((code << freeBitLength) & 0xff)
    entries.fill((restBitLength << 9) | symbol, start, start + (1 << freeBitLength))
  }
  let code = 0
  for (let bitLength = 1; bitLength <= codeBitLengthMax; bitLength++) {
    code *= 2
    codeBitLengths.forEach((length, symbol) => {
      if (length === bitLength) add(symbol, code++, bitLength)
    })
  }
  add(endSymbol, code, codeBitLengthMax)
  return Int16Array.from(entries)
}

/** Bytes that `byteLength` bytes of code stand for at most. */
export function decodedByteLengthMax(byteLength: number): number {
  return Math.floor((byteLength * 8) / 5)
}

/** Decodes [start, end) to the start of `target`, which has room; returns the number of bytes. Throws COMPRESSION_ERROR. */
export function decodeHuffman(source: Uint8Array, start: number, end: number, target: Uint8Array): number {
  let targetByteLength = 0
  let table = 0
  let bits = 0
  let bitLength = 0
  for (let at = start; at < end; at++) {
    bits = ((bits & 0xff) << 8) | source[at]
    bitLength += 8
    while (bitLength >= 8) {
      const entry = tables[table + ((bits >>> (bitLength - 8)) & 0xff)]
      if (entry < 0) {
        table = -entry << 8
        bitLength -= 8
        continue
      }
      const symbol = entry & 0x1ff
      if (symbol === endSymbol) throw compressionError('a text holds the end of one')
      target[targetByteLength++] = symbol
      bitLength -= entry >>> 9
      table = 0
    }
  }
  // What is left may be codes of fewer than eight bits, then fewer than eight ones.
  while (bitLength > 0) {
    const entry = tables[table + ((bits << (8 - bitLength)) & 0xff)]
    if (entry < 0 || entry >>> 9 > bitLength) break
    target[targetByteLength++] = entry & 0x1ff
    bitLength -= entry >>> 9
    table = 0
  }
  const ones = (1 << bitLength) - 1
  if (table !== 0 || (bits & ones) !== ones) throw compressionError('a text is filled up wrongly')
  return targetByteLength
}

/** The headers of a connection cannot be read any more: each block needs all those before it. */
export function compressionError(text: string): Http2Error {
  return new Http2Error(errorCode.compression, `headers that cannot be decoded: ${text}`)
}
