// Runs of rows that are each in the order of their texts become one.
import { compareText } from './text'

/** What mergeTextRuns needs as scratch for rowCount rows. */
export function mergeTextRunsScratchByteLength(rowCount: i32): i32 {
  return rowCount * 20 + 32
}

/**
 * Merges stretches of a list of rows, each in the order of their texts (memcmp; no text twice), into one in that order.
 *
 * offsets      u32, two for every row that the list names: its text is bytes[offsets[row]..offsets[row + 1])
 * permutation  u32 rows, read and overwritten
 * runEnds      runCount × u32, overwritten: stretch i ends before place runEnds[i] and the next begins there; ascending
 * scratch      mergeTextRunsScratchByteLength(runEnds[runCount - 1]), 8-byte aligned
 *
 * Neighbours are merged in pairs, pass by pass. What all texts begin with is skipped, and the eight bytes behind it stand
 * beside the row as a number, so that texts themselves are looked at only where those agree.
 */
export function mergeTextRuns(
  offsetsPtr: usize,
  bytesPtr: usize,
  permutationPtr: usize,
  runEndsPtr: usize,
  runCount: i32,
  scratchPtr: usize,
): void {
  if (runCount < 2) return
  const rowCount = load<u32>(runEndsPtr + ((<usize>(runCount - 1)) << 2))
  const depth = sharedByteLength(offsetsPtr, bytesPtr, permutationPtr, runEndsPtr, runCount)
  let keys = scratchPtr
  let otherKeys = keys + ((<usize>rowCount) << 3)
  let rows = permutationPtr
  let otherRows = otherKeys + ((<usize>rowCount) << 3)
  for (let i: usize = 0; i < <usize>rowCount; i++) {
    store<u64>(keys + (i << 3), keyOf(offsetsPtr, bytesPtr, load<u32>(rows + (i << 2)), depth))
  }
  let count = runCount
  while (count > 1) {
    let start: u32 = 0
    let merged = 0
    for (let run = 0; run < count; run += 2) {
      const middle = load<u32>(runEndsPtr + ((<usize>run) << 2))
      const end = run + 1 < count ? load<u32>(runEndsPtr + ((<usize>(run + 1)) << 2)) : middle
      mergePair(offsetsPtr, bytesPtr, depth, keys, rows, start, middle, end, otherKeys, otherRows)
      store<u32>(runEndsPtr + ((<usize>merged) << 2), end)
      merged++
      start = end
    }
    count = merged
    const lastKeys = keys
    const lastRows = rows
    keys = otherKeys
    rows = otherRows
    otherKeys = lastKeys
    otherRows = lastRows
  }
  if (rows !== permutationPtr) memory.copy(permutationPtr, rows, (<usize>rowCount) << 2)
}

/** Merges places [start, middle) and [middle, end) into the same places of the target. */
function mergePair(
  offsetsPtr: usize,
  bytesPtr: usize,
  depth: u32,
  keys: usize,
  rows: usize,
  start: u32,
  middle: u32,
  end: u32,
  targetKeys: usize,
  targetRows: usize,
): void {
  let a = <usize>start
  let b = <usize>middle
  let target = <usize>start
  while (a < <usize>middle && b < <usize>end) {
    const aKey = load<u64>(keys + (a << 3))
    const bKey = load<u64>(keys + (b << 3))
    const aRow = load<u32>(rows + (a << 2))
    const bRow = load<u32>(rows + (b << 2))
    const isA = aKey === bKey ? isBefore(offsetsPtr, bytesPtr, aRow, bRow, depth) : aKey < bKey
    // Without a branch that nobody can foretell: both are at hand, one is taken.
    store<u64>(targetKeys + (target << 3), isA ? aKey : bKey)
    store<u32>(targetRows + (target << 2), isA ? aRow : bRow)
    a += <usize>isA
    b += <usize>!isA
    target++
  }
  const restStart = a < <usize>middle ? a : b
  const restCount = <usize>end - target
  memory.copy(targetKeys + (target << 3), keys + (restStart << 3), restCount << 3)
  memory.copy(targetRows + (target << 2), rows + (restStart << 2), restCount << 2)
}

/** Whether the text of row a stands before that of row b; both have their first `depth` bytes in common. */
function isBefore(offsetsPtr: usize, bytesPtr: usize, a: u32, b: u32, depth: u32): bool {
  const aPtr = offsetsPtr + ((<usize>a) << 2)
  const bPtr = offsetsPtr + ((<usize>b) << 2)
  const aStart = load<u32>(aPtr) + depth
  const bStart = load<u32>(bPtr) + depth
  const order = compareText(
    bytesPtr + <usize>aStart,
    load<u32>(aPtr, 4) - aStart,
    bytesPtr + <usize>bStart,
    load<u32>(bPtr, 4) - bStart,
  )
  return order < 0
}

/** The eight bytes of a row's text from depth on as a number in their order; zeros behind its end. */
function keyOf(offsetsPtr: usize, bytesPtr: usize, row: u32, depth: u32): u64 {
  const offsetPtr = offsetsPtr + ((<usize>row) << 2)
  const start = load<u32>(offsetPtr) + depth
  const left = load<u32>(offsetPtr, 4) - start
  const ptr = bytesPtr + <usize>start
  if (left >= 8) return bswap<u64>(load<u64>(ptr))
  let key: u64 = 0
  for (let i: u32 = 0; i < left; i++) key |= (<u64>load<u8>(ptr + <usize>i)) << ((7 - i) << 3)
  return key
}

/** What all texts begin with: the first of all stretches and the last have it in common. */
function sharedByteLength(
  offsetsPtr: usize,
  bytesPtr: usize,
  permutationPtr: usize,
  runEndsPtr: usize,
  runCount: i32,
): u32 {
  let first: u32 = load<u32>(permutationPtr)
  let last = first
  let start: usize = 0
  for (let run = 0; run < runCount; run++) {
    const end = <usize>load<u32>(runEndsPtr + ((<usize>run) << 2))
    if (end > start) {
      const runFirst = load<u32>(permutationPtr + (start << 2))
      const runLast = load<u32>(permutationPtr + ((end - 1) << 2))
      if (isBefore(offsetsPtr, bytesPtr, runFirst, first, 0)) first = runFirst
      if (isBefore(offsetsPtr, bytesPtr, last, runLast, 0)) last = runLast
    }
    start = end
  }
  const firstPtr = offsetsPtr + ((<usize>first) << 2)
  const lastPtr = offsetsPtr + ((<usize>last) << 2)
  const firstStart = load<u32>(firstPtr)
  const lastStart = load<u32>(lastPtr)
  const length = min(load<u32>(firstPtr, 4) - firstStart, load<u32>(lastPtr, 4) - lastStart)
  let shared: u32 = 0
  while (
    shared < length &&
    load<u8>(bytesPtr + <usize>(firstStart + shared)) === load<u8>(bytesPtr + <usize>(lastStart + shared))
  )
    shared++
  return shared
}
