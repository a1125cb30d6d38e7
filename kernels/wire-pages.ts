// Pages of a block as the packed values of a wire column: decoded and written in one go, while they are in a core's cache.
import { crc32cFolded } from './crc'
import { decodeFloat64Page } from './floats'
import { decodeInt64Page } from './ints'
import { PAGE_COUNT_MAX } from './page-codecs'
import { SMALL_SCRATCH, smallIntegers } from './small-ints'
import { decodeTimePage } from './times'
import { sameBytes, wireEncodeVarints } from './wire'

/** What pages hold. */
const FLOATS: i32 = 1
const TIMES: i32 = 2

/** The bytes of a page do not fit its checksum. */
const BAD_CHECKSUM: i32 = 1
const UNDECODABLE: i32 = 2
/** There is no room for what is written. */
const NO_ROOM: i32 = 3

/**
 * Writes rows of pages without missing cells, one page after the other, as packed doubles or packed varints.
 *
 * entries  entryCount × 6 × u32: where a page stands; its bytes; their CRC-32C; its values, at most 4096; which of them are
 *          written: [from, to)
 * kind     0: pages of int64, 1: of float64, 2: of times
 * scratch  8 bytes for each of 4096 values, 16-byte aligned, overwritten
 * target   any alignment; up to 16 bytes behind what is written are overwritten, but nothing at or after targetEnd
 *
 * Returns the bytes written, or -(4 × entry + what is wrong with it).
 */
export function wirePages(
  entriesPtr: usize,
  entryCount: i32,
  kind: i32,
  scratchPtr: usize,
  targetPtr: usize,
  targetEnd: usize,
): i32 {
  let pos = targetPtr
  for (let i = 0; i < entryCount; i++) {
    const entry = entriesPtr + <usize>(i * 24)
    const pagePtr = <usize>load<u32>(entry)
    const byteLength = load<i32>(entry, 4)
    const count = load<i32>(entry, 12)
    const from = load<i32>(entry, 16)
    const to = load<i32>(entry, 20)
    if (count < 1 || count > PAGE_COUNT_MAX) return -((i << 2) + UNDECODABLE)
    if (crc32cFolded(pagePtr, byteLength, 0, scratchPtr) !== load<u32>(entry, 8)) return -((i << 2) + BAD_CHECKSUM)
    if (kind === FLOATS) {
      const written = (<usize>(to - from)) << 3
      if (targetEnd - pos < written) return -((i << 2) + NO_ROOM)
      const isWhole = from === 0 && to === count
      if (decodeFloat64Page(pagePtr, byteLength, count, isWhole ? pos : scratchPtr) < 0)
        return -((i << 2) + UNDECODABLE)
      if (!isWhole) memory.copy(pos, scratchPtr + ((<usize>from) << 3), written)
      pos += written
    } else {
      // Most whole numbers are small: varints of one byte, which need no pass through 64 bits.
      const isDirect = from === 0 && to === count && targetEnd - pos >= <usize>count + 16
      const bytesPtr = isDirect ? pos : scratchPtr + SMALL_SCRATCH
      if (
        kind !== TIMES &&
        byteLength < count &&
        smallIntegers(pagePtr, byteLength, count, count, bytesPtr, scratchPtr)
      ) {
        const rowCount = <usize>(to - from)
        if (!isDirect) {
          if (targetEnd - pos < rowCount) return -((i << 2) + NO_ROOM)
          memory.copy(pos, bytesPtr + <usize>from, rowCount)
        }
        pos += rowCount
        continue
      }
      const status =
        kind === TIMES
          ? decodeTimePage(pagePtr, byteLength, count, scratchPtr)
          : decodeInt64Page(pagePtr, byteLength, count, scratchPtr)
      if (status < 0) return -((i << 2) + UNDECODABLE)
      const written = wireEncodeVarints(scratchPtr + ((<usize>from) << 3), <u32>(to - from), pos, targetEnd)
      if (written < 0) return -((i << 2) + NO_ROOM)
      pos += <usize>written
    }
  }
  return <i32>(pos - targetPtr)
}

/** Whether the entries of two lists, as wirePages takes them, name the same rows of pages of the same bytes: 1, else 0. */
export function arePagesAlike(entriesPtr: usize, otherEntriesPtr: usize, entryCount: i32): i32 {
  // Numbers first: they tell most others apart.
  for (let i = 0; i < entryCount; i++) {
    const entry = entriesPtr + <usize>(i * 24)
    const other = otherEntriesPtr + <usize>(i * 24)
    const isAlike =
      load<u32>(entry, 4) === load<u32>(other, 4) &&
      load<u64>(entry, 8) === load<u64>(other, 8) &&
      load<u64>(entry, 16) === load<u64>(other, 16)
    if (!isAlike) return 0
  }
  for (let i = 0; i < entryCount; i++) {
    const entry = entriesPtr + <usize>(i * 24)
    const pagePtr = <usize>load<u32>(entry)
    const otherPtr = <usize>load<u32>(otherEntriesPtr + <usize>(i * 24))
    if (!sameBytes(pagePtr, otherPtr, <usize>load<u32>(entry, 4))) return 0
  }
  return 1
}
