// The order of rows: checks, stable sorts by code, by time and by text, merges of sorted runs, and the choice of one
// cell among rows of one time. Rows stay where they are: an order is a permutation, u32 row numbers.
import { compareText } from './hash'

/** 1 when no value is smaller than the one before it. values: rowCount × i64, read only. */
export function isSortedInt64(valuesPtr: usize, rowCount: i32): i32 {
  const last = valuesPtr + ((<usize>max(rowCount - 1, 0)) << 3)
  let ptr = valuesPtr
  for (; ptr + 64 <= last; ptr += 64) {
    const a = i64x2.gt_s(v128.load(ptr), v128.load(ptr, 8))
    const b = i64x2.gt_s(v128.load(ptr, 16), v128.load(ptr, 24))
    const c = i64x2.gt_s(v128.load(ptr, 32), v128.load(ptr, 40))
    const d = i64x2.gt_s(v128.load(ptr, 48), v128.load(ptr, 56))
    if (v128.any_true(v128.or(v128.or(a, b), v128.or(c, d)))) return 0
  }
  for (; ptr < last; ptr += 8) {
    if (load<i64>(ptr) > load<i64>(ptr, 8)) return 0
  }
  return 1
}

/** 1 when every value is larger than the one before it. values: rowCount × i64, read only. */
export function isStrictlySortedInt64(valuesPtr: usize, rowCount: i32): i32 {
  const last = valuesPtr + ((<usize>max(rowCount - 1, 0)) << 3)
  let ptr = valuesPtr
  for (; ptr + 64 <= last; ptr += 64) {
    const a = i64x2.ge_s(v128.load(ptr), v128.load(ptr, 8))
    const b = i64x2.ge_s(v128.load(ptr, 16), v128.load(ptr, 24))
    const c = i64x2.ge_s(v128.load(ptr, 32), v128.load(ptr, 40))
    const d = i64x2.ge_s(v128.load(ptr, 48), v128.load(ptr, 56))
    if (v128.any_true(v128.or(v128.or(a, b), v128.or(c, d)))) return 0
  }
  for (; ptr < last; ptr += 8) {
    if (load<i64>(ptr) >= load<i64>(ptr, 8)) return 0
  }
  return 1
}

/**
 * Where rows belong that come step by step: those of one label set stand `distance` apart, and each is later than the one
 * before it. Returns 1, or 0 when one is not later; then places are undefined.
 *
 * times   rowCount × i64, read only
 * places  rowCount × u32; those of the first `distance` rows are given, the others are written: one more than `distance` rows before
 */
export function placeSteps(timesPtr: usize, rowCount: i32, distance: i32, placesPtr: usize): i32 {
  const timesBack = (<usize>distance) << 3
  const placesBack = (<usize>distance) << 2
  let row = distance
  if (distance >= 4) {
    const one = i32x4.splat(1)
    for (; row + 4 <= rowCount; row += 4) {
      const times = timesPtr + ((<usize>row) << 3)
      const a = i64x2.ge_s(v128.load(times - timesBack), v128.load(times))
      const b = i64x2.ge_s(v128.load(times - timesBack, 16), v128.load(times, 16))
      if (v128.any_true(v128.or(a, b))) return 0
      const places = placesPtr + ((<usize>row) << 2)
      v128.store(places, i32x4.add(v128.load(places - placesBack), one))
    }
  }
  for (; row < rowCount; row++) {
    const times = timesPtr + ((<usize>row) << 3)
    if (load<i64>(times - timesBack) >= load<i64>(times)) return 0
    const places = placesPtr + ((<usize>row) << 2)
    store<u32>(places, load<u32>(places - placesBack) + 1)
  }
  return 1
}

/** Writes start, start + 1, ... : count × u32. */
function fillSequence(targetPtr: usize, start: u32, count: i32): void {
  let next = i32x4.add(i32x4.splat(start), i32x4(0, 1, 2, 3))
  const step = i32x4.splat(4)
  let i: i32 = 0
  for (; i + 4 <= count; i += 4) {
    v128.store(targetPtr + ((<usize>i) << 2), next)
    next = i32x4.add(next, step)
  }
  for (; i < count; i++) store<u32>(targetPtr + ((<usize>i) << 2), start + i)
}

/**
 * Sorts rows by code, stable (a counting sort).
 *
 * codes        rowCount × u32, every one below groupCount, read only
 * permutation  rowCount × u32, overwritten: the rows of code 0, then those of code 1, ...
 * groupStarts  (groupCount + 1) × u32, overwritten: where the rows of each code begin, then rowCount
 */
export function sortGroups(
  codesPtr: usize,
  groupCount: i32,
  rowCount: i32,
  permutationPtr: usize,
  groupStartsPtr: usize,
): void {
  memory.fill(groupStartsPtr, 0, (<usize>groupCount + 1) << 2)
  // The count of a code stands one place on, so that after the sum its own place holds its start.
  let isSorted = true
  let previous: u32 = 0
  for (let row: i32 = 0; row < rowCount; row++) {
    const code = load<u32>(codesPtr + ((<usize>row) << 2))
    isSorted = isSorted && code >= previous
    previous = code
    const countPtr = groupStartsPtr + ((<usize>code) << 2)
    store<u32>(countPtr, load<u32>(countPtr, 4) + 1, 4)
  }
  let start: u32 = 0
  for (let group: i32 = 1; group <= groupCount; group++) {
    const at = groupStartsPtr + ((<usize>group) << 2)
    start += load<u32>(at)
    store<u32>(at, start)
  }
  if (isSorted) {
    fillSequence(permutationPtr, 0, rowCount)
    return
  }
  for (let row: i32 = 0; row < rowCount; row++) {
    const nextPtr = groupStartsPtr + ((<usize>load<u32>(codesPtr + ((<usize>row) << 2))) << 2)
    const next = load<u32>(nextPtr)
    store<u32>(permutationPtr + ((<usize>next) << 2), row)
    store<u32>(nextPtr, next + 1)
  }
  // Every start has moved to the next group's: move them back.
  memory.copy(groupStartsPtr + 4, groupStartsPtr, (<usize>groupCount) << 2)
  store<u32>(groupStartsPtr, 0)
}

/**
 * Sorts permutation[rowStart..rowEnd) by times[permutation[i]], stable: rows of one time keep their order.
 *
 * times        i64, one for every row that the permutation names, read only
 * permutation  u32, read and overwritten in [rowStart, rowEnd)
 * scratch      16 bytes a row of the range, 8-byte aligned
 *
 * Sorted rows cost one look. Else time (less the smallest, in the coarsest unit that is exact) and row are packed into
 * one u64 where they fit: every key is unique, a comparison is one of numbers, and a sorted key gives its row.
 *
 * Returns 0 when the rows were sorted already, else 1.
 */
export function sortRowsByTime(
  timesPtr: usize,
  permutationPtr: usize,
  rowStart: i32,
  rowEnd: i32,
  scratchPtr: usize,
): i32 {
  const rowCount = rowEnd - rowStart
  if (rowCount < 2) return 0
  const rowsPtr = permutationPtr + ((<usize>rowStart) << 2)
  const rowsEnd = rowsPtr + ((<usize>rowCount) << 2)
  let ptr = rowsPtr
  let previous = timeOf(timesPtr, ptr)
  for (ptr += 4; ptr < rowsEnd; ptr += 4) {
    const time = timeOf(timesPtr, ptr)
    if (time < previous) break
    previous = time
  }
  if (ptr === rowsEnd) return 0

  let smallest = previous
  let largest = previous
  let differing: u64 = 0
  let isDescending = true
  let areRowsAscending = true
  let largestRow: u32 = 0
  const first = timeOf(timesPtr, rowsPtr)
  previous = i64.MAX_VALUE
  for (ptr = rowsPtr; ptr < rowsEnd; ptr += 4) {
    const row = load<u32>(ptr)
    const time = load<i64>(timesPtr + ((<usize>row) << 3))
    smallest = min(smallest, time)
    largest = max(largest, time)
    differing |= <u64>(time ^ first)
    isDescending = isDescending && time < previous
    // The first row is not below 0.
    areRowsAscending = areRowsAscending && row >= largestRow
    largestRow = max(largestRow, row)
    previous = time
  }
  if (isDescending) {
    reverseRows(rowsPtr, rowsEnd)
    return 1
  }

  // Rows that do not ascend would break ties: then places stand for them.
  const lowBits = 32 - clz<u32>(areRowsAscending ? largestRow : rowCount - 1)
  const range = <u64>largest - <u64>smallest
  // Times that agree in their low bits differ by a multiple of that power of two.
  let shift: u64 = ctz<u64>(differing)
  let factor: u64 = 1
  let timeBits = 64 - clz<u64>(range >> shift)
  if (timeBits + lowBits > 64 && areMultiples(timesPtr, rowsPtr, rowsEnd, smallest)) {
    shift = millisecondShift
    factor = millisecondFactor
    timeBits = 64 - clz<u64>((range >> shift) * factor)
  }
  if (timeBits + lowBits > 64) {
    sortIndirect(timesPtr, rowsPtr, rowCount, scratchPtr)
    return 1
  }
  const otherPtr = scratchPtr + ((<usize>rowCount) << 3)
  for (let i: i32 = 0; i < rowCount; i++) {
    const row = load<u32>(rowsPtr + ((<usize>i) << 2))
    const delta = load<u64>(timesPtr + ((<usize>row) << 3)) - <u64>smallest
    const low: u64 = areRowsAscending ? row : i
    store<u64>(scratchPtr + ((<usize>i) << 3), (((delta >> shift) * factor) << lowBits) | low)
  }
  // Where keys hold rows, the permutation's own place is free to count digits in.
  const countsPtr = areRowsAscending ? rowsPtr : 0
  const sortedPtr = sortKeys(scratchPtr, otherPtr, rowCount, <i32>lowBits, <i32>(lowBits + timeBits), countsPtr)
  const lowMask = ((<u64>1) << lowBits) - 1
  if (areRowsAscending) {
    for (let i: i32 = 0; i < rowCount; i++) {
      store<u32>(rowsPtr + ((<usize>i) << 2), <u32>(load<u64>(sortedPtr + ((<usize>i) << 3)) & lowMask))
    }
    return 1
  }
  const rowsCopyPtr = sortedPtr === scratchPtr ? otherPtr : scratchPtr
  memory.copy(rowsCopyPtr, rowsPtr, (<usize>rowCount) << 2)
  for (let i: i32 = 0; i < rowCount; i++) {
    const place = <u32>(load<u64>(sortedPtr + ((<usize>i) << 3)) & lowMask)
    store<u32>(rowsPtr + ((<usize>i) << 2), load<u32>(rowsCopyPtr + ((<usize>place) << 2)))
  }
  return 1
}

/**
 * sortRowsByTime for every group of rows that sortGroups made.
 *
 * groupStarts  (groupCount + 1) × u32: permutation[groupStarts[g]..groupStarts[g + 1]) are the rows of group g
 * scratch      16 bytes a row of the largest group, 8-byte aligned
 *
 * Returns the number of groups that were not sorted.
 */
export function sortGroupsByTime(
  timesPtr: usize,
  permutationPtr: usize,
  groupStartsPtr: usize,
  groupCount: i32,
  scratchPtr: usize,
): i32 {
  let unsortedCount: i32 = 0
  for (let group: i32 = 0; group < groupCount; group++) {
    const startPtr = groupStartsPtr + ((<usize>group) << 2)
    unsortedCount += sortRowsByTime(timesPtr, permutationPtr, load<u32>(startPtr), load<u32>(startPtr, 4), scratchPtr)
  }
  return unsortedCount
}

function timeOf(timesPtr: usize, rowPtr: usize): i64 {
  return load<i64>(timesPtr + ((<usize>load<u32>(rowPtr)) << 3))
}

/** A millisecond in ns is 10^6 = 2^6 × 15625: a quotient is exact when shifted by 6 and multiplied by the inverse of 15625. */
const millisecondShift: u64 = 6
const millisecondFactor: u64 = ((<u64>0x790fb656) << 32) | 0x68c26139

/**
 * 1 when all times differ from the smallest by whole milliseconds. (Torbjörn Granlund, Peter Montgomery: Division by
 * Invariant Integers using Multiplication, 1994, section 9: what is no multiple has a "quotient" above all others.)
 */
function areMultiples(timesPtr: usize, rowsPtr: usize, rowsEnd: usize, smallest: i64): bool {
  for (let ptr = rowsPtr; ptr < rowsEnd; ptr += 4) {
    const delta = <u64>timeOf(timesPtr, ptr) - <u64>smallest
    if (rotr<u64>(delta * millisecondFactor, millisecondShift) > u64.MAX_VALUE / 1_000_000) return false
  }
  return true
}

function reverseRows(rowsPtr: usize, rowsEnd: usize): void {
  let a = rowsPtr
  let b = rowsEnd - 4
  for (; a < b; a += 4, b -= 4) {
    const row = load<u32>(a)
    store<u32>(a, load<u32>(b))
    store<u32>(b, row)
  }
}

/** Runs that are merged as they are: more are found sooner by other ways. */
const naturalRunCountMax: i32 = 8
/** One key in so many may be late, for late keys to be sorted apart. */
const lateShare: i32 = 8
/** Fewer keys than this are sorted by merging, more by radix. */
const radixRowCountMin: i32 = 256
/** From so many keys on digits have 11 bits instead of 8. */
const wideRadixRowCountMin: i32 = 4096
/** Keys that are sorted by insertion before runs are merged. */
const insertionRowCount: i32 = 16

/**
 * Sorts unique u64 keys; where low bits are all that differs, they ascend already. Uses `other` as a second place, and
 * returns the one of the two that holds the result.
 *
 * lowBits, highBit  keys differ in bits [0, highBit), and sorting by bits [lowBits, highBit), stable, sorts them
 * counts            4 bytes a key to count digits in; or 0
 *
 * Few ascending runs are merged. A few keys that are late (below one before them) are sorted apart and merged with the
 * others. Else a radix sort, or a merge sort for few keys.
 */
function sortKeys(keysPtr: usize, otherPtr: usize, count: i32, lowBits: i32, highBit: i32, countsPtr: usize): usize {
  let descentCount: i32 = 0
  let lateCount: i32 = 0
  let previous: u64 = 0
  let largest: u64 = 0
  for (let i: i32 = 0; i < count; i++) {
    const key = load<u64>(keysPtr + ((<usize>i) << 3))
    descentCount += i32(key < previous)
    lateCount += i32(key < largest)
    largest = max(largest, key)
    previous = key
  }
  if (descentCount < naturalRunCountMax) return mergeAllRuns(keysPtr, otherPtr, count)
  if (lateCount <= count / lateShare) {
    return sortLateKeys(keysPtr, otherPtr, count, lateCount, lowBits, highBit, countsPtr)
  }
  if (countsPtr !== 0 && count >= radixRowCountMin) {
    return radixSortKeys(keysPtr, otherPtr, count, lowBits, highBit, countsPtr)
  }
  for (let start: i32 = 0; start < count; start += insertionRowCount) {
    insertionSort64(keysPtr, start, min(start + insertionRowCount, count))
  }
  return mergeAllRuns(keysPtr, otherPtr, count)
}

function sortLateKeys(
  keysPtr: usize,
  otherPtr: usize,
  count: i32,
  lateCount: i32,
  lowBits: i32,
  highBit: i32,
  countsPtr: usize,
): usize {
  // Late keys go to `other`, the rest move up; where the rest ends there is room for the late ones.
  let target = keysPtr
  let late = otherPtr
  let largest: u64 = 0
  for (let i: i32 = 0; i < count; i++) {
    const key = load<u64>(keysPtr + ((<usize>i) << 3))
    const isLate = usize(key < largest)
    largest = max(largest, key)
    store<u64>(target, key)
    store<u64>(late, key)
    target += (1 - isLate) << 3
    late += isLate << 3
  }
  const sortedPtr = sortKeys(otherPtr, target, lateCount, lowBits, highBit, countsPtr)
  if (sortedPtr !== target) memory.copy(target, sortedPtr, (<usize>lateCount) << 3)
  merge64(keysPtr, target, keysPtr + ((<usize>count) << 3), otherPtr)
  return otherPtr
}

/** Sorts by bits [lowBits, highBit), least significant digit first. */
function radixSortKeys(
  keysPtr: usize,
  otherPtr: usize,
  count: i32,
  lowBits: i32,
  highBit: i32,
  countsPtr: usize,
): usize {
  let sourcePtr = keysPtr
  let targetPtr = otherPtr
  const digitBits = count >= wideRadixRowCountMin ? 11 : 8
  const countsByteLength = (<usize>4) << digitBits
  const digitMask = countsByteLength - 4
  const sourceByteLength = (<usize>count) << 3
  for (let bit = lowBits; bit < highBit; bit += digitBits) {
    memory.fill(countsPtr, 0, countsByteLength)
    for (let ptr = sourcePtr, end = sourcePtr + sourceByteLength; ptr < end; ptr += 8) {
      const countPtr = countsPtr + (((<usize>(load<u64>(ptr) >> bit)) << 2) & digitMask)
      store<u32>(countPtr, load<u32>(countPtr) + 1)
    }
    let next = targetPtr
    for (let digit: usize = 0; digit < countsByteLength; digit += 4) {
      const digitCount = load<u32>(countsPtr + digit)
      store<u32>(countsPtr + digit, <u32>next)
      next += (<usize>digitCount) << 3
    }
    for (let ptr = sourcePtr, end = sourcePtr + sourceByteLength; ptr < end; ptr += 8) {
      const key = load<u64>(ptr)
      const placePtr = countsPtr + (((<usize>(key >> bit)) << 2) & digitMask)
      const place = <usize>load<u32>(placePtr)
      store<u64>(place, key)
      store<u32>(placePtr, <u32>(place + 8))
    }
    const ptr = sourcePtr
    sourcePtr = targetPtr
    targetPtr = ptr
  }
  return sourcePtr
}

function insertionSort64(keysPtr: usize, start: i32, end: i32): void {
  const firstPtr = keysPtr + ((<usize>start) << 3)
  const endPtr = keysPtr + ((<usize>end) << 3)
  for (let ptr = firstPtr + 8; ptr < endPtr; ptr += 8) {
    const key = load<u64>(ptr)
    let hole = ptr
    for (; hole > firstPtr && load<u64>(hole - 8) > key; hole -= 8) store<u64>(hole, load<u64>(hole - 8))
    store<u64>(hole, key)
  }
}

/** Where the run that begins at ptr ends: before the first key that is smaller than its predecessor. */
function runEnd64(ptr: usize, end: usize): usize {
  if (ptr === end) return end
  let previous = load<u64>(ptr)
  for (ptr += 8; ptr < end; ptr += 8) {
    const key = load<u64>(ptr)
    if (key < previous) break
    previous = key
  }
  return ptr
}

/** Merges neighbouring ascending runs, two at a time, until there is one. Returns the place that holds it. */
function mergeAllRuns(keysPtr: usize, otherPtr: usize, count: i32): usize {
  let sourcePtr = keysPtr
  let targetPtr = otherPtr
  while (true) {
    const end = sourcePtr + ((<usize>count) << 3)
    let ptr = runEnd64(sourcePtr, end)
    if (ptr === end) return sourcePtr
    ptr = sourcePtr
    while (ptr < end) {
      const aEnd = runEnd64(ptr, end)
      const bEnd = runEnd64(aEnd, end)
      merge64(ptr, aEnd, bEnd, targetPtr + (ptr - sourcePtr))
      ptr = bEnd
    }
    ptr = sourcePtr
    sourcePtr = targetPtr
    targetPtr = ptr
  }
}

/** Bytes of keys that are copied or merged in one step of merge64. */
const stepByteLength64: usize = 16 << 3

/**
 * Merges the sorted keys [aPtr, bPtr) and [bPtr, bEnd), all unique. 16 keys at a time are copied when the other run has
 * nothing between them, else merged one by one without a branch on keys: which run comes next is a coin toss.
 */
function merge64(aPtr: usize, bPtr: usize, bEnd: usize, targetPtr: usize): void {
  const aEnd = bPtr
  while (aPtr + stepByteLength64 <= aEnd && bPtr + stepByteLength64 <= bEnd) {
    if (load<u64>(aPtr + stepByteLength64 - 8) < load<u64>(bPtr)) {
      copyStep64(aPtr, targetPtr)
      aPtr += stepByteLength64
    } else if (load<u64>(bPtr + stepByteLength64 - 8) < load<u64>(aPtr)) {
      copyStep64(bPtr, targetPtr)
      bPtr += stepByteLength64
    } else {
      for (let i: usize = 0; i < stepByteLength64; i += 8) {
        const a = load<u64>(aPtr)
        const b = load<u64>(bPtr)
        const takesB = usize(b < a)
        store<u64>(targetPtr + i, takesB ? b : a)
        aPtr += (1 - takesB) << 3
        bPtr += takesB << 3
      }
    }
    targetPtr += stepByteLength64
  }
  while (aPtr < aEnd && bPtr < bEnd) {
    const a = load<u64>(aPtr)
    const b = load<u64>(bPtr)
    const takesB = usize(b < a)
    store<u64>(targetPtr, takesB ? b : a)
    aPtr += (1 - takesB) << 3
    bPtr += takesB << 3
    targetPtr += 8
  }
  memory.copy(targetPtr, aPtr, aEnd - aPtr)
  memory.copy(targetPtr + (aEnd - aPtr), bPtr, bEnd - bPtr)
}

function copyStep64(sourcePtr: usize, targetPtr: usize): void {
  for (let i: usize = 0; i < stepByteLength64; i += 32) {
    v128.store(targetPtr + i, v128.load(sourcePtr + i))
    v128.store(targetPtr + i, v128.load(sourcePtr + i, 16), 16)
  }
}

/** For times too far apart to be packed: a merge sort of places, from runs of one row on. */
function sortIndirect(timesPtr: usize, rowsPtr: usize, rowCount: i32, scratchPtr: usize): void {
  const keysPtr = scratchPtr
  let sourcePtr = scratchPtr + ((<usize>rowCount) << 3)
  let targetPtr = sourcePtr + ((<usize>rowCount) << 2)
  for (let i: i32 = 0; i < rowCount; i++) {
    store<i64>(keysPtr + ((<usize>i) << 3), timeOf(timesPtr, rowsPtr + ((<usize>i) << 2)))
  }
  fillSequence(sourcePtr, 0, rowCount)
  for (let width: i32 = 1; width < rowCount; width <<= 1) {
    for (let start: i32 = 0; start < rowCount; start += width << 1) {
      const middle = min(start + width, rowCount)
      const end = min(middle + width, rowCount)
      mergeRows(keysPtr, sourcePtr, start, middle, end, targetPtr)
    }
    const ptr = sourcePtr
    sourcePtr = targetPtr
    targetPtr = ptr
  }
  // The keys are no longer needed; their place takes the rows.
  memory.copy(keysPtr, rowsPtr, (<usize>rowCount) << 2)
  for (let i: i32 = 0; i < rowCount; i++) {
    store<u32>(
      rowsPtr + ((<usize>i) << 2),
      load<u32>(keysPtr + ((<usize>load<u32>(sourcePtr + ((<usize>i) << 2))) << 2)),
    )
  }
}

/** Rows that are copied or merged in one step of mergeRows. */
const stepRowCount: i32 = 32

/**
 * Merges source[start..middle) and source[middle..end), rows sorted by time, into target[start..end); of equal times
 * those of the first come first. Parts that do not overlap are copied; inside, 32 rows at a time are copied when the
 * other run has nothing between them, else merged one by one without a branch on times.
 */
function mergeRows(timesPtr: usize, sourcePtr: usize, start: i32, middle: i32, end: i32, targetPtr: usize): void {
  let a = sourcePtr + ((<usize>start) << 2)
  const aEnd = sourcePtr + ((<usize>middle) << 2)
  let b = aEnd
  const bEnd = sourcePtr + ((<usize>end) << 2)
  let target = targetPtr + ((<usize>start) << 2)
  const stepByteLength: usize = (<usize>stepRowCount) << 2
  while (a + stepByteLength <= aEnd && b + stepByteLength <= bEnd) {
    if (timeOf(timesPtr, a + stepByteLength - 4) <= timeOf(timesPtr, b)) {
      memory.copy(target, a, stepByteLength)
      a += stepByteLength
    } else if (timeOf(timesPtr, b + stepByteLength - 4) < timeOf(timesPtr, a)) {
      memory.copy(target, b, stepByteLength)
      b += stepByteLength
    } else {
      for (let i: usize = 0; i < stepByteLength; i += 4) {
        const aRow = load<u32>(a)
        const bRow = load<u32>(b)
        const takesB = usize(load<i64>(timesPtr + ((<usize>bRow) << 3)) < load<i64>(timesPtr + ((<usize>aRow) << 3)))
        store<u32>(target + i, takesB ? bRow : aRow)
        b += takesB << 2
        a += (takesB ^ 1) << 2
      }
    }
    target += stepByteLength
  }
  while (a < aEnd && b < bEnd) {
    const takesB = usize(timeOf(timesPtr, b) < timeOf(timesPtr, a))
    store<u32>(target, load<u32>(takesB ? b : a))
    a += (1 - takesB) << 2
    b += takesB << 2
    target += 4
  }
  memory.copy(target, a, aEnd - a)
  memory.copy(target + (aEnd - a), b, bEnd - b)
}

/**
 * Marks the runs of equal times in a permutation sorted by time.
 *
 * groupStarts  (rowEnd - rowStart + 1) × u32: the places in the permutation (counted from its begin, not from rowStart)
 *              where the rows of each distinct time begin, then rowEnd
 *
 * Returns the number of distinct times.
 */
export function distinctTimes(
  timesPtr: usize,
  permutationPtr: usize,
  rowStart: i32,
  rowEnd: i32,
  groupStartsPtr: usize,
): i32 {
  store<u32>(groupStartsPtr, rowEnd)
  if (rowStart >= rowEnd) return 0
  store<u32>(groupStartsPtr, rowStart)
  let previous = timeOf(timesPtr, permutationPtr + ((<usize>rowStart) << 2))
  let target = groupStartsPtr + 4
  for (let i = rowStart + 1; i < rowEnd; i++) {
    const time = timeOf(timesPtr, permutationPtr + ((<usize>i) << 2))
    // Written always, kept when the time is a new one. At most one place behind the last start, which rowEnd takes.
    store<u32>(target, i)
    target += usize(time !== previous) << 2
    previous = time
  }
  store<u32>(target, rowEnd)
  return <i32>((target - groupStartsPtr) >> 2)
}

/**
 * distinctTimes for every group of rows that sortGroups made and sortGroupsByTime sorted.
 *
 * groupStarts  (groupCount + 1) × u32, read only; together they are a range of the permutation
 * timeStarts   (rows of all groups + 1) × u32: the places where the rows of each distinct time of each group begin, then
 *              the end of the last group
 * groupTimes   (groupCount + 1) × u32: the times of group g are timeStarts[groupTimes[g]..groupTimes[g + 1])
 *
 * Returns the number of distinct times of all groups.
 */
export function distinctTimesOfGroups(
  timesPtr: usize,
  permutationPtr: usize,
  groupStartsPtr: usize,
  groupCount: i32,
  timeStartsPtr: usize,
  groupTimesPtr: usize,
): i32 {
  let count: i32 = 0
  store<u32>(timeStartsPtr, load<u32>(groupStartsPtr))
  for (let group: i32 = 0; group < groupCount; group++) {
    store<u32>(groupTimesPtr + ((<usize>group) << 2), count)
    const startPtr = groupStartsPtr + ((<usize>group) << 2)
    const targetPtr = timeStartsPtr + ((<usize>count) << 2)
    count += distinctTimes(timesPtr, permutationPtr, load<u32>(startPtr), load<u32>(startPtr, 4), targetPtr)
  }
  store<u32>(groupTimesPtr + ((<usize>groupCount) << 2), count)
  return count
}

/** What mergeTimes needs as scratch. */
export function mergeTimesScratchByteLength(rowCount: i32): i32 {
  return rowCount << 2
}

/**
 * The stable order of several sorted runs that stand one behind the other, oldest source first: of equal times those of
 * the earlier run come first.
 *
 * times        i64, runStarts[runCount] of them; ascending (equal allowed) inside every run, read only
 * runStarts    (runCount + 1) × u32, the first 0; empty runs allowed
 * permutation  u32 for every row, overwritten
 * scratch      u32 for every row (mergeTimesScratchByteLength)
 */
export function mergeTimes(
  timesPtr: usize,
  runStartsPtr: usize,
  runCount: i32,
  permutationPtr: usize,
  scratchPtr: usize,
): void {
  if (runCount === 0) return
  const rowCount = load<u32>(runStartsPtr + ((<usize>runCount) << 2))
  let passCount: i32 = 0
  while (1 << passCount < runCount) passCount++
  // The first of two buffers is chosen so that the last pass ends in the permutation.
  let sourcePtr = passCount & 1 ? scratchPtr : permutationPtr
  let targetPtr = passCount & 1 ? permutationPtr : scratchPtr
  fillSequence(sourcePtr, 0, rowCount)
  for (let pass: i32 = 0; pass < passCount; pass++) {
    const width: i32 = 1 << pass
    for (let run: i32 = 0; run < runCount; run += width << 1) {
      const start = load<u32>(runStartsPtr + ((<usize>run) << 2))
      const middle = load<u32>(runStartsPtr + ((<usize>min(run + width, runCount)) << 2))
      const end = load<u32>(runStartsPtr + ((<usize>min(run + (width << 1), runCount)) << 2))
      mergeNeighbours(timesPtr, sourcePtr, start, middle, end, targetPtr)
    }
    const ptr = sourcePtr
    sourcePtr = targetPtr
    targetPtr = ptr
  }
}

/** mergeRows, but runs that do not overlap are moved as they are. */
function mergeNeighbours(timesPtr: usize, sourcePtr: usize, start: i32, middle: i32, end: i32, targetPtr: usize): void {
  const a = sourcePtr + ((<usize>start) << 2)
  const b = sourcePtr + ((<usize>middle) << 2)
  const bEnd = sourcePtr + ((<usize>end) << 2)
  const target = targetPtr + ((<usize>start) << 2)
  if (a === b || b === bEnd || timeOf(timesPtr, b - 4) <= timeOf(timesPtr, b)) {
    memory.copy(target, a, bEnd - a)
  } else if (timeOf(timesPtr, bEnd - 4) < timeOf(timesPtr, a)) {
    memory.copy(target, b, bEnd - b)
    memory.copy(target + (bEnd - b), a, b - a)
  } else {
    mergeRows(timesPtr, sourcePtr, start, middle, end, targetPtr)
  }
}

/** The times of the groups that distinctTimes marked. target: groupCount × i64, overwritten. */
export function gatherGroupTimes(
  timesPtr: usize,
  permutationPtr: usize,
  groupStartsPtr: usize,
  groupCount: i32,
  targetPtr: usize,
): void {
  for (let group: i32 = 0; group < groupCount; group++) {
    const place = load<u32>(groupStartsPtr + ((<usize>group) << 2))
    store<i64>(targetPtr + ((<usize>group) << 3), timeOf(timesPtr, permutationPtr + ((<usize>place) << 2)))
  }
}

// One cell for every group of rows. A group's rows are rows of one time, oldest source first. Most groups have one row or
// two, one of each of two sources, and whether a cell is missing is anybody's guess: so two rows are looked at without
// a branch, and the rest only where both are missing.

const noRow: u32 = 0xffffffff

function presentBit(validityPtr: usize, row: u32): u32 {
  return (<u32>load<u8>(validityPtr + (<usize>row >> 3)) >> (row & 7)) & 1
}

/** The row that counts among permutation[start..end), by looking at one after the other; noRow when none is present. */
function searchRow(validityPtr: usize, permutationPtr: usize, start: u32, end: u32, newest: i32): u32 {
  for (let i: u32 = 0; i < end - start; i++) {
    const row = load<u32>(permutationPtr + ((<usize>(newest ? end - 1 - i : start + i)) << 2))
    if (presentBit(validityPtr, row)) return row
  }
  return noRow
}

/** The row that counts among permutation[start..end), not empty. Returns row and, in bit 32, whether it is present. */
function winnerOf(validityPtr: usize, permutationPtr: usize, start: u32, end: u32, newest: i32): u64 {
  const last = end - 1
  const firstRow = load<u32>(permutationPtr + ((<usize>(newest ? last : start)) << 2))
  if (validityPtr === 0) return ((<u64>1) << 32) | firstRow
  const secondPlace = newest ? last - u32(last !== start) : start + u32(last !== start)
  const secondRow = load<u32>(permutationPtr + ((<usize>secondPlace) << 2))
  const first = presentBit(validityPtr, firstRow)
  const isPresent = first | presentBit(validityPtr, secondRow)
  if (isPresent === 0 && end - start > 2) {
    const row = searchRow(validityPtr, permutationPtr, start, end, newest)
    return row === noRow ? row : ((<u64>1) << 32) | row
  }
  return ((<u64>isPresent) << 32) | (secondRow ^ ((firstRow ^ secondRow) & (0 - first)))
}

/**
 * One cell for every group of rows (rows of one time, oldest source first): the last present one (newest = 1) or the
 * first present one (newest = 0): the newest write wins, cell by cell; missing when no row of the group has one.
 *
 * values          8 bytes for every row that the permutation names, read only
 * validity        bitmap over the same rows, or 0: all present
 * permutation     u32; groupStarts: (groupCount + 1) × u32, places in it, no group is empty
 * target          groupCount × 8 bytes, overwritten; 0 where missing
 * targetValidity  ceil(groupCount / 8) bytes, overwritten; or 0 when the caller does not want it
 *
 * Returns the number of groups that have a value.
 */
export function coalesce64(
  valuesPtr: usize,
  validityPtr: usize,
  permutationPtr: usize,
  groupStartsPtr: usize,
  groupCount: i32,
  newest: i32,
  targetPtr: usize,
  targetValidityPtr: usize,
): i32 {
  if (validityPtr === 0) {
    const lastOf: usize = newest ? 4 : 0
    const before: u32 = newest ? 1 : 0
    for (let group: i32 = 0; group < groupCount; group++) {
      const place = load<u32>(groupStartsPtr + ((<usize>group) << 2) + lastOf) - before
      const row = load<u32>(permutationPtr + ((<usize>place) << 2))
      store<u64>(targetPtr + ((<usize>group) << 3), load<u64>(valuesPtr + ((<usize>row) << 3)))
    }
    if (targetValidityPtr) setBits(targetValidityPtr, groupCount)
    return groupCount
  }
  let presentCount: i32 = 0
  for (let first: i32 = 0; first < groupCount; first += 8) {
    const groupEnd = min(first + 8, groupCount)
    let bits: u32 = 0
    let start = load<u32>(groupStartsPtr + ((<usize>first) << 2))
    for (let group = first; group < groupEnd; group++) {
      // winnerOf, here without a call.
      const end = load<u32>(groupStartsPtr + ((<usize>group) << 2), 4)
      const last = end - 1
      const other = u32(last !== start)
      const firstRow = load<u32>(permutationPtr + ((<usize>(newest ? last : start)) << 2))
      const secondRow = load<u32>(permutationPtr + ((<usize>(newest ? last - other : start + other)) << 2))
      const isFirst = presentBit(validityPtr, firstRow)
      let isPresent = isFirst | presentBit(validityPtr, secondRow)
      let row = secondRow ^ ((firstRow ^ secondRow) & (0 - isFirst))
      if (isPresent === 0 && end - start > 2) {
        const found = searchRow(validityPtr, permutationPtr, start, end, newest)
        isPresent = u32(found !== noRow)
        row = isPresent ? found : row
      }
      store<u64>(targetPtr + ((<usize>group) << 3), load<u64>(valuesPtr + ((<usize>row) << 3)) & (0 - <u64>isPresent))
      bits |= isPresent << (group & 7)
      start = end
    }
    presentCount += popcnt(bits)
    if (targetValidityPtr) store<u8>(targetValidityPtr + (<usize>first >> 3), <u8>bits)
  }
  return presentCount
}

/** Sets the bits of the first rowCount rows, and clears those behind in the last byte. */
function setBits(bitsPtr: usize, rowCount: i32): void {
  memory.fill(bitsPtr, 0xff, <usize>rowCount >> 3)
  if (rowCount & 7) store<u8>(bitsPtr + (<usize>rowCount >> 3), ((<u8>1) << (<u8>rowCount & 7)) - 1)
}

/** coalesce64 for bools: values and target are bitmaps, target ceil(groupCount / 8) bytes. */
export function coalesceBits(
  valuesPtr: usize,
  validityPtr: usize,
  permutationPtr: usize,
  groupStartsPtr: usize,
  groupCount: i32,
  newest: i32,
  targetPtr: usize,
  targetValidityPtr: usize,
): i32 {
  let presentCount: i32 = 0
  for (let first: i32 = 0; first < groupCount; first += 8) {
    const end = min(first + 8, groupCount)
    let bits: u32 = 0
    let valueBits: u32 = 0
    for (let group = first; group < end; group++) {
      const startPtr = groupStartsPtr + ((<usize>group) << 2)
      const winner = winnerOf(validityPtr, permutationPtr, load<u32>(startPtr), load<u32>(startPtr, 4), newest)
      const isPresent = <u32>(winner >> 32)
      const row = <u32>winner & (0 - isPresent)
      bits |= isPresent << (group & 7)
      valueBits |= (presentBit(valuesPtr, row) & isPresent) << (group & 7)
    }
    presentCount += popcnt(bits)
    store<u8>(targetPtr + (<usize>first >> 3), <u8>valueBits)
    if (targetValidityPtr) store<u8>(targetValidityPtr + (<usize>first >> 3), <u8>bits)
  }
  return presentCount
}

/**
 * coalesce64 for what is gathered by row, such as strings: writes the row that counts, or 0xFFFFFFFF where no row is
 * present. target: groupCount × u32, overwritten. Returns the number of groups that have a row.
 */
export function coalesceIndexes(
  validityPtr: usize,
  permutationPtr: usize,
  groupStartsPtr: usize,
  groupCount: i32,
  newest: i32,
  targetIndexesPtr: usize,
): i32 {
  let presentCount: i32 = 0
  for (let group: i32 = 0; group < groupCount; group++) {
    const startPtr = groupStartsPtr + ((<usize>group) << 2)
    const winner = winnerOf(validityPtr, permutationPtr, load<u32>(startPtr), load<u32>(startPtr, 4), newest)
    const isPresent = <u32>(winner >> 32)
    presentCount += isPresent
    // All ones when missing.
    store<u32>(targetIndexesPtr + ((<usize>group) << 2), <u32>winner | (isPresent - 1))
  }
  return presentCount
}

// ---- Text -----------------------------------------------------------------------------------------------------------

/** Fewer rows than this are sorted by comparing whole texts. */
const compareRowCountMax: i32 = 8
/** Fewer rows than this are sorted by insertion of their prefixes, more by radix. */
const insertionTextRowCountMax: i32 = 48

/** What sortTextRows needs as scratch for rowCount rows; the result is at most 26 bytes a row and 1 KiB. */
export function sortTextRowsScratchByteLength(rowCount: i32): i32 {
  return rowCount * 26 + 1024 + 32
}

/**
 * Sorts rows by the bytes of their text (memcmp order; a text sorts behind its own start), stable.
 *
 * offsets      u32, two for every row that the permutation names: its text is bytes[offsets[row]..offsets[row + 1])
 * permutation  rowCount × u32, read and overwritten
 * scratch      sortTextRowsScratchByteLength(rowCount), 8-byte aligned
 *
 * A radix sort from the most significant byte on, 7 bytes at a time, kept beside the row as one u64 (the cache of
 * Waihong Ng, Katsuhiko Kakehi: Cache Efficient Radix Sort for String Sorting, 2007); each step sorts those numbers from
 * the least significant byte that differs. The eighth byte says how much text is left, which settles texts that end
 * here. What all rows of a part have in common is skipped. Parts wait on a stack in scratch, not on the machine's.
 */
export function sortTextRows(
  offsetsPtr: usize,
  bytesPtr: usize,
  permutationPtr: usize,
  rowCount: i32,
  scratchPtr: usize,
): void {
  if (rowCount < 2) return
  const keysPtr = scratchPtr
  const otherKeysPtr = keysPtr + ((<usize>rowCount) << 3)
  const otherRowsPtr = otherKeysPtr + ((<usize>rowCount) << 3)
  const countsPtr = otherRowsPtr + ((<usize>rowCount) << 2)
  const stackPtr = countsPtr + 1024
  let top = stackPtr
  store<u32>(top, 0)
  store<u32>(top, rowCount, 4)
  store<u32>(top, 0, 8)
  top += 12
  while (top > stackPtr) {
    top -= 12
    const start = load<u32>(top)
    const count = load<u32>(top, 4)
    let depth = load<u32>(top, 8)
    const rowsPtr = permutationPtr + ((<usize>start) << 2)
    if (<i32>count < compareRowCountMax) {
      insertionSortText(offsetsPtr, bytesPtr, rowsPtr, count, depth)
      continue
    }
    depth += sharedByteLength(offsetsPtr, bytesPtr, rowsPtr, count, depth)
    let differing: u64 = 0
    let first: u64 = 0
    for (let i: u32 = 0; i < count; i++) {
      const key = prefixOf(offsetsPtr, bytesPtr, load<u32>(rowsPtr + ((<usize>i) << 2)), depth)
      if (i === 0) first = key
      differing |= key ^ first
      store<u64>(keysPtr + ((<usize>i) << 3), key)
    }
    if (<i32>count < insertionTextRowCountMax) {
      insertionSortPairs(keysPtr, rowsPtr, count)
    } else {
      radixSortPairs(keysPtr, rowsPtr, count, differing, otherKeysPtr, otherRowsPtr, countsPtr)
    }
    // Rows that agree so far and have text left are the next parts. Two rows at least each, so the stack holds them.
    let partStart: u32 = 0
    while (partStart < count) {
      const key = load<u64>(keysPtr + ((<usize>partStart) << 3))
      let partEnd = partStart + 1
      while (partEnd < count && load<u64>(keysPtr + ((<usize>partEnd) << 3)) === key) partEnd++
      if (partEnd - partStart > 1 && (key & 0xff) === 8) {
        store<u32>(top, start + partStart)
        store<u32>(top, partEnd - partStart, 4)
        store<u32>(top, depth + 7, 8)
        top += 12
      }
      partStart = partEnd
    }
  }
}

function insertionSortText(offsetsPtr: usize, bytesPtr: usize, rowsPtr: usize, count: u32, depth: u32): void {
  for (let i: u32 = 1; i < count; i++) {
    const row = load<u32>(rowsPtr + ((<usize>i) << 2))
    let hole = i
    for (; hole > 0; hole--) {
      const other = load<u32>(rowsPtr + ((<usize>hole) << 2) - 4)
      if (compareRows(offsetsPtr, bytesPtr, other, row, depth) <= 0) break
      store<u32>(rowsPtr + ((<usize>hole) << 2), other)
    }
    store<u32>(rowsPtr + ((<usize>hole) << 2), row)
  }
}

/** Compares the text of two rows that agree in their first `depth` bytes. */
function compareRows(offsetsPtr: usize, bytesPtr: usize, a: u32, b: u32, depth: u32): i32 {
  const aStart = load<u32>(offsetsPtr + ((<usize>a) << 2)) + depth
  const aEnd = load<u32>(offsetsPtr + ((<usize>a) << 2), 4)
  const bStart = load<u32>(offsetsPtr + ((<usize>b) << 2)) + depth
  const bEnd = load<u32>(offsetsPtr + ((<usize>b) << 2), 4)
  return compareText(bytesPtr + aStart, aEnd - aStart, bytesPtr + bStart, bEnd - bStart)
}

/** How many bytes from depth on all rows have in common. */
function sharedByteLength(offsetsPtr: usize, bytesPtr: usize, rowsPtr: usize, count: u32, depth: u32): u32 {
  const firstPtr = offsetsPtr + ((<usize>load<u32>(rowsPtr)) << 2)
  const first = bytesPtr + load<u32>(firstPtr) + depth
  let shared = load<u32>(firstPtr, 4) - load<u32>(firstPtr) - depth
  // From the last row on: in rows that come nearly sorted it shares least with the first, and bounds what is compared.
  for (let i = count - 1; i > 0 && shared > 0; i--) {
    const offsetPtr = offsetsPtr + ((<usize>load<u32>(rowsPtr + ((<usize>i) << 2))) << 2)
    const start = load<u32>(offsetPtr) + depth
    shared = min(shared, load<u32>(offsetPtr, 4) - start)
    const text = bytesPtr + start
    let at: u32 = 0
    for (; at + 8 <= shared; at += 8) {
      const differing = load<u64>(first + at) ^ load<u64>(text + at)
      if (differing !== 0) {
        shared = at + <u32>(ctz<u64>(differing) >> 3)
        break
      }
    }
    while (at < shared && load<u8>(first + at) === load<u8>(text + at)) at++
    shared = min(shared, at)
  }
  return shared
}

/** 7 bytes of a row's text from depth on, most significant first, and below them how much is left: 0 to 7, or 8 for more. */
function prefixOf(offsetsPtr: usize, bytesPtr: usize, row: u32, depth: u32): u64 {
  const offsetPtr = offsetsPtr + ((<usize>row) << 2)
  const start = load<u32>(offsetPtr) + depth
  const left = load<u32>(offsetPtr, 4) - start
  const ptr = bytesPtr + start
  if (left >= 8) return (bswap<u64>(load<u64>(ptr)) & ~(<u64>0xff)) | 8
  let key: u64 = left
  for (let i: u32 = 0; i < left; i++) key |= (<u64>load<u8>(ptr + i)) << ((7 - i) << 3)
  return key
}

function insertionSortPairs(keysPtr: usize, rowsPtr: usize, count: u32): void {
  for (let i: u32 = 1; i < count; i++) {
    const key = load<u64>(keysPtr + ((<usize>i) << 3))
    const row = load<u32>(rowsPtr + ((<usize>i) << 2))
    let hole = i
    for (; hole > 0; hole--) {
      const other = load<u64>(keysPtr + ((<usize>hole) << 3) - 8)
      if (other <= key) break
      store<u64>(keysPtr + ((<usize>hole) << 3), other)
      store<u32>(rowsPtr + ((<usize>hole) << 2), load<u32>(rowsPtr + ((<usize>hole) << 2) - 4))
    }
    store<u64>(keysPtr + ((<usize>hole) << 3), key)
    store<u32>(rowsPtr + ((<usize>hole) << 2), row)
  }
}

/** Sorts (key, row) by key, stable, one pass for every byte in which keys differ. */
function radixSortPairs(
  keysPtr: usize,
  rowsPtr: usize,
  count: u32,
  differing: u64,
  otherKeysPtr: usize,
  otherRowsPtr: usize,
  countsPtr: usize,
): void {
  let sourceKeys = keysPtr
  let sourceRows = rowsPtr
  let targetKeys = otherKeysPtr
  let targetRows = otherRowsPtr
  for (let shift: u64 = 0; shift < 64; shift += 8) {
    if (((differing >> shift) & 0xff) === 0) continue
    memory.fill(countsPtr, 0, 1024)
    for (let i: u32 = 0; i < count; i++) {
      const countPtr = countsPtr + ((<usize>((load<u64>(sourceKeys + ((<usize>i) << 3)) >> shift) & 0xff)) << 2)
      store<u32>(countPtr, load<u32>(countPtr) + 1)
    }
    let next: u32 = 0
    for (let digit: usize = 0; digit < 1024; digit += 4) {
      const size = load<u32>(countsPtr + digit)
      store<u32>(countsPtr + digit, next)
      next += size
    }
    for (let i: u32 = 0; i < count; i++) {
      const key = load<u64>(sourceKeys + ((<usize>i) << 3))
      const placePtr = countsPtr + ((<usize>((key >> shift) & 0xff)) << 2)
      const place = load<u32>(placePtr)
      store<u32>(placePtr, place + 1)
      store<u64>(targetKeys + ((<usize>place) << 3), key)
      store<u32>(targetRows + ((<usize>place) << 2), load<u32>(sourceRows + ((<usize>i) << 2)))
    }
    const keys = sourceKeys
    const rows = sourceRows
    sourceKeys = targetKeys
    sourceRows = targetRows
    targetKeys = keys
    targetRows = rows
  }
  if (sourceKeys === keysPtr) return
  memory.copy(keysPtr, sourceKeys, (<usize>count) << 3)
  memory.copy(rowsPtr, sourceRows, (<usize>count) << 2)
}
