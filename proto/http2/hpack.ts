// HPACK, the form of headers in HTTP/2 (RFC 7541).
import { errorCode, Http2Error } from './errors.js'
import {
  type BlockKind,
  blockProblem,
  fieldByteLength,
  type HeaderBlock,
  HeaderField,
  type Headers,
} from './header-fields.js'
import { compressionError, decodedByteLengthMax, decodeHuffman } from './huffman.js'

export type { BlockKind, Headers }

/** RFC 7541, Appendix A; the first one has index 1. */
const staticFields: readonly HeaderField[] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  [':status', '200'],
  [':status', '204'],
  [':status', '206'],
  [':status', '304'],
  [':status', '400'],
  [':status', '404'],
  [':status', '500'],
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ['accept-language', ''],
  ['accept-ranges', ''],
  ['accept', ''],
  ['access-control-allow-origin', ''],
  ['age', ''],
  ['allow', ''],
  ['authorization', ''],
  ['cache-control', ''],
  ['content-disposition', ''],
  ['content-encoding', ''],
  ['content-language', ''],
  ['content-length', ''],
  ['content-location', ''],
  ['content-range', ''],
  ['content-type', ''],
  ['cookie', ''],
  ['date', ''],
  ['etag', ''],
  ['expect', ''],
  ['expires', ''],
  ['from', ''],
  ['host', ''],
  ['if-match', ''],
  ['if-modified-since', ''],
  ['if-none-match', ''],
  ['if-range', ''],
  ['if-unmodified-since', ''],
  ['last-modified', ''],
  ['link', ''],
  ['location', ''],
  ['max-forwards', ''],
  ['proxy-authenticate', ''],
  ['proxy-authorization', ''],
  ['range', ''],
  ['referer', ''],
  ['refresh', ''],
  ['retry-after', ''],
  ['server', ''],
  ['set-cookie', ''],
  ['strict-transport-security', ''],
  ['transfer-encoding', ''],
  ['user-agent', ''],
  ['vary', ''],
  ['via', ''],
  ['www-authenticate', ''],
].map(([name, value]) => new HeaderField(name, value))

/** Octets of a number after the first: above them it is beyond any length or index of ours. */
const continuationCountMax = 4
/** Blocks up to so many bytes are kept with what they say: those of one kind of call are all the same. */
const keptBlockByteLengthMax = 160
const keptBlockCount = 64
/** Such a block may name the largest field of the table a hundred times; what it says is kept up to so many bytes. */
const keptListByteLengthMax = 1024

export interface HeaderLimits {
  /** Of the dynamic table, as SETTINGS_HEADER_TABLE_SIZE has told the peer (4096 where it has not). */
  readonly tableByteLengthMax: number
  /** Of the fields of one block. */
  readonly listByteLengthMax: number
}

interface KeptBlock {
  readonly bytes: Buffer
  /** The state of the table it speaks of; null: of none. */
  readonly tableState: number | null
  readonly block: HeaderBlock
}

/** Texts on their way, of all connections: blocks are as long as these let them be, so it is three or four times the longest. */
let texts = Buffer.allocUnsafeSlow(256)

/** Decodes the blocks that one peer sends on one connection, all of them and in order: each may change what later ones mean. */
export class HeaderDecoder {
  readonly #listByteLengthMax: number
  readonly #table: DynamicTable
  readonly #kept: (KeptBlock | null)[] = new Array<KeptBlock | null>(keptBlockCount).fill(null)
  #block: Buffer = Buffer.alloc(0)
  #at = 0
  /** What the block that is being read has to do with the table. */
  #usesTable = false

  constructor({ tableByteLengthMax, listByteLengthMax }: HeaderLimits) {
    this.#table = new DynamicTable(tableByteLengthMax)
    this.#listByteLengthMax = listByteLengthMax
  }

  /**
   * The block's memory may be reused after the call. Throws Http2Error: COMPRESSION_ERROR, after which nothing can be decoded any more;
   * errors of the stream, after which all can: PROTOCOL_ERROR for what is none of its kind, ENHANCE_YOUR_CALM for too much.
   */
  decode(block: Buffer, kind: BlockKind): Headers {
    const decoded = this.read(block)
    if (decoded.isTooLarge) {
      throw new Http2Error(errorCode.enhanceYourCalm, `headers above ${this.#listByteLengthMax} bytes`, true)
    }
    const problem = blockProblem(decoded, kind)
    if (problem !== null) throw new Http2Error(errorCode.protocol, problem, true)
    return decoded.headers
  }

  /** What a block says, whatever it is for. Throws COMPRESSION_ERROR only. */
  read(block: Buffer): HeaderBlock {
    const slot = slotOf(block)
    if (slot < 0) return this.#decode(block)
    const kept = this.#kept[slot]
    if (kept !== null && (kept.tableState ?? this.#table.state) === this.#table.state && isSame(kept.bytes, block)) {
      return kept.block
    }
    const { state } = this.#table
    const decoded = this.#decode(block)
    if (state === this.#table.state && decoded.byteLength <= keptListByteLengthMax) {
      this.#kept[slot] = { bytes: Buffer.from(block), tableState: this.#usesTable ? state : null, block: decoded }
    }
    return decoded
  }

  #decode(block: Buffer): HeaderBlock {
    this.#block = block
    this.#at = 0
    this.#usesTable = false
    while ((block[this.#at] & 0xe0) === 0x20) this.#table.resize(this.#readNumber(5))
    const list = new HeaderList(this.#listByteLengthMax)
    while (this.#at < block.byteLength) list.add(this.#readField())
    return list.block()
  }

  #readField(): HeaderField {
    const first = this.#block[this.#at]
    if ((first & 0x80) !== 0) return this.#fieldAt(this.#readNumber(7))
    if ((first & 0xe0) === 0x20) throw compressionError('the size of the table changes within a block')
    const isIndexed = (first & 0x40) !== 0
    const nameIndex = this.#readNumber(isIndexed ? 6 : 4)
    const name = nameIndex === 0 ? this.#readText() : this.#fieldAt(nameIndex).name
    const field = new HeaderField(name, this.#readText())
    if (isIndexed) this.#table.insert(field)
    return field
  }

  #fieldAt(index: number): HeaderField {
    const field = staticFields[index - 1]
    if (field !== undefined) return field
    this.#usesTable = true
    return this.#table.field(index - staticFields.length)
  }

  #readNumber(prefixBitLength: number): number {
    const prefixMax = (1 << prefixBitLength) - 1
    let value = this.#readByte() & prefixMax
    if (value < prefixMax) return value
    for (let count = 0; count < continuationCountMax; count++) {
      const byte = this.#readByte()
      value += (byte & 0x7f) * 2 ** (7 * count)
      if ((byte & 0x80) === 0) return value
    }
    throw compressionError('a number is too large')
  }

  #readByte(): number {
    if (this.#at >= this.#block.byteLength) throw compressionError('a block ends within a field')
    return this.#block[this.#at++]
  }

  #readText(): string {
    const isHuffman = (this.#block[this.#at] & 0x80) !== 0
    const byteLength = this.#readNumber(7)
    const start = this.#at
    const end = start + byteLength
    if (end > this.#block.byteLength) throw compressionError('a block ends within a text')
    this.#at = end
    if (!isHuffman) return this.#block.toString('latin1', start, end)
    const needed = decodedByteLengthMax(byteLength)
    if (texts.byteLength < needed) texts = Buffer.allocUnsafeSlow(2 * needed)
    return texts.toString('latin1', 0, decodeHuffman(this.#block, start, end, texts))
  }
}

/** Where a block would be kept; negative: not at all. */
function slotOf(block: Buffer): number {
  const { byteLength } = block
  if (byteLength > keptBlockByteLengthMax) return -1
  let hash = byteLength
  for (let at = 0; at < byteLength; at++) hash = (Math.imul(hash, 31) + block[at]) | 0
  return (hash >>> 16) % keptBlockCount
}

function isSame(a: Buffer, b: Buffer): boolean {
  if (a.byteLength !== b.byteLength) return false
  for (let at = 0; at < a.byteLength; at++) if (a[at] !== b[at]) return false
  return true
}

/** RFC 7541, 2.3.2: the newest field has index 1; the oldest go when there is no room. */
class DynamicTable {
  readonly #byteLengthMax: number
  /** A ring: the newest field stands before #start, going down. */
  readonly #fields: (HeaderField | null)[]
  #start = 0
  #count = 0
  #byteLength = 0
  #capacityByteLength: number
  /** Another number after each change. */
  state = 0

  constructor(byteLengthMax: number) {
    this.#byteLengthMax = byteLengthMax
    this.#capacityByteLength = byteLengthMax
    this.#fields = new Array<HeaderField | null>(Math.floor(byteLengthMax / fieldByteLength) + 1).fill(null)
  }

  field(index: number): HeaderField {
    if (index < 1 || index > this.#count) throw compressionError('an index without a field')
    return this.#fields[(this.#start - index + this.#fields.length) % this.#fields.length]!
  }

  insert(field: HeaderField): void {
    this.state++
    this.#evict(this.#capacityByteLength - field.byteLength)
    // A field larger than the table leaves it empty.
    if (field.byteLength > this.#capacityByteLength) return
    this.#fields[this.#start] = field
    this.#start = (this.#start + 1) % this.#fields.length
    this.#count++
    this.#byteLength += field.byteLength
  }

  resize(byteLength: number): void {
    if (byteLength > this.#byteLengthMax) throw compressionError('a table larger than allowed')
    this.state++
    this.#capacityByteLength = byteLength
    this.#evict(byteLength)
  }

  /** Until no more than `byteLength` is left. */
  #evict(byteLength: number): void {
    while (this.#count > 0 && this.#byteLength > byteLength) {
      const oldest = (this.#start - this.#count + this.#fields.length) % this.#fields.length
      this.#byteLength -= this.#fields[oldest]!.byteLength
      this.#fields[oldest] = null
      this.#count--
    }
  }
}

/** Objects that have no property but their own, in shapes V8 knows: it gives none to those of Object.create(null). */
class NoHeaders {
  [name: string]: string
}
Object.setPrototypeOf(NoHeaders.prototype, null)
Reflect.deleteProperty(NoHeaders.prototype, 'constructor')

/** The fields of a block, as they come. What is above the limit is counted and not kept. */
class HeaderList {
  readonly #byteLengthMax: number
  #headers = new NoHeaders()
  #byteLength = 0
  #pseudoHeaders = 0
  #hasOthers = false
  #problem: string | null = null

  constructor(byteLengthMax: number) {
    this.#byteLengthMax = byteLengthMax
  }

  add(field: HeaderField): void {
    this.#byteLength += field.byteLength
    if (this.#byteLength > this.#byteLengthMax) return
    const { name, value, pseudoHeader } = field
    this.#problem ??= field.problem
    if (pseudoHeader === 0) this.#hasOthers = true
    else {
      if (this.#hasOthers) this.#problem ??= 'a pseudo-header behind other headers'
      if ((this.#pseudoHeaders & pseudoHeader) !== 0) this.#problem ??= 'a pseudo-header that is there twice'
      this.#pseudoHeaders |= pseudoHeader
    }
    const before = this.#headers[name]
    if (before === undefined) this.#headers[name] = value
    else this.#headers[name] = `${before}${name === 'cookie' ? '; ' : ', '}${value}`
  }

  block(): HeaderBlock {
    const isTooLarge = this.#byteLength > this.#byteLengthMax
    const headers: Headers = isTooLarge ? new NoHeaders() : this.#headers
    const byteLength = isTooLarge ? 0 : this.#byteLength
    return { headers, byteLength, pseudoHeaders: this.#pseudoHeaders, problem: this.#problem, isTooLarge }
  }
}

/** The first static field of each name. */
const staticIndexes = new Map<string, number>()
staticFields.forEach(({ name }, i) => {
  if (!staticIndexes.has(name)) staticIndexes.set(name, i + 1)
})

const nameShape = /^[\x21-\x40\x5b-\x7e]+$/
const valueShape = /^[\t\x20-\x7e\x80-\xff]*$/

/**
 * A block that means the same to every peer at any time: it neither uses nor changes a dynamic table, so it may be kept, sent again, and
 * put behind another one. Values are bytes as characters. Throws TypeError for what no header can hold.
 */
export function encodeHeaders(fields: readonly (readonly [name: string, value: string])[]): Buffer {
  const bytes: number[] = []
  for (const [name, value] of fields) {
    if (!nameShape.test(name) || !valueShape.test(value))
      throw new TypeError(`no header: ${JSON.stringify([name, value])}`)
    const index = staticFields.findIndex((field) => field.name === name && field.value === value) + 1
    if (index > 0) {
      pushNumber(bytes, 0x80, 7, index)
      continue
    }
    const nameIndex = staticIndexes.get(name) ?? 0
    pushNumber(bytes, 0, 4, nameIndex)
    if (nameIndex === 0) pushText(bytes, name)
    pushText(bytes, value)
  }
  return Buffer.from(bytes)
}

function pushNumber(bytes: number[], flags: number, prefixBitLength: number, value: number): void {
  const prefixMax = (1 << prefixBitLength) - 1
  if (value < prefixMax) {
    bytes.push(flags | value)
    return
  }
  bytes.push(flags | prefixMax)
  let rest = value - prefixMax
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80)
  bytes.push(rest)
}

function pushText(bytes: number[], text: string): void {
  pushNumber(bytes, 0, 7, text.length)
  for (let at = 0; at < text.length; at++) bytes.push(text.charCodeAt(at))
}
