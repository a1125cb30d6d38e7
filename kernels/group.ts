// Rows to dense codes: equal values get one code, codes count up from 0 in order of first appearance.
//
// All hash tables here are open addressing with linear probing over u32 slots. A slot holds code + 1 in its low bits
// and, in the bits that the table's size leaves over, a piece of the hash, so that most unequal keys are told apart
// without a look at them; 0 = empty. A table starts small, in the first-level cache, and grows inside the capacity it
// is given: most label columns have few values.
import { areRowsEqual, countEqualRows } from './text'
import { equalText, hash64, hashShort, hashText, masks, shortByteLength } from './hash'

/** Slots that a table starts with. */
const startCapacity: i32 = 512

/** What a hash is shifted by to give a slot. */
function slotShift(capacity: i32): u64 {
  return 64 - ctz<i32>(capacity)
}

/** Bits of a hash for the tag: mostly others than those of the slot. */
function tagOf(hash: u64): u32 {
  return <u32>(hash >> 24)
}

/** How much a table grows at once: rehashing costs a seventh of the inserts that led to it. */
const growthShift: i32 = 3

/** The slots of a table that takes rowCount distinct keys: the smallest power of two that is twice as many. */
export function groupTableCapacity(rowCount: i32): i32 {
  let capacity: i32 = 2
  while (capacity < rowCount << 1) capacity <<= 1
  return capacity
}

// Rows come in three orders, mostly: series by series (the same label again and again), time by time (the same series of
// labels again and again), and mixed. Both kinds of repetition are a copy of rows that stand a fixed distance before, as
// in LZ77 (Jacob Ziv, Abraham Lempel: A Universal Algorithm for Sequential Data Compression, 1977), and comparing two
// places of a buffer costs a fraction of hashing every text. So rows are hashed one by one until a repetition shows.

/** Rows that are hashed before a look at what they show: if the last 8 have one code, rows of that code may follow. */
const stepRowCountMin: i32 = 8
const stepRowCountMax: i32 = 64
/** Rows whose codes must stand at both places before a distance is tried. */
const patternRowCount: i32 = 16
/** Distances that one search tries. */
const tryCountMax: i32 = 64
/** Rows between searches: at first and after a find; doubled after each search in vain. */
const searchIntervalMin: i32 = 64
/** A search looks back at most this many times the rows since the one before, so that it costs little beside them. */
const searchReach: i32 = 4

/**
 * Codes of a string column.
 *
 * offsets    (rowCount + 1) × u32 into bytes, read only; bytes: text, read only
 * codes      rowCount × u32, overwritten
 * firstRows  rowCount × u32: for every code the first row that has it; what stands behind the codes is undefined
 * table      tableCapacity × u32, a power of two, at least 2 × rowCount; scratch
 *
 * Returns the number of distinct values. In short: codes[row] = index of the value in the list of distinct values.
 */
export function dictionaryStrings(
  offsetsPtr: usize,
  bytesPtr: usize,
  rowCount: i32,
  codesPtr: usize,
  firstRowsPtr: usize,
  tablePtr: usize,
  tableCapacity: i32,
): i32 {
  if (rowCount === 0) return 0
  const textEnd = bytesPtr + load<u32>(offsetsPtr + ((<usize>rowCount) << 2))
  const vectorRowCount = countVectorRows(offsetsPtr, rowCount)
  let capacity = min(startCapacity, tableCapacity)
  memory.fill(tablePtr, 0, (<usize>capacity) << 2)

  let row: i32 = 0
  let count: u32 = 0
  let stepRowCount = stepRowCountMin
  let interval = searchIntervalMin
  let lastSearch: i32 = 0
  let nextSearch = interval
  while (row < rowCount) {
    const stepEnd = min(row + stepRowCount, rowCount)
    while (row < stepEnd) {
      const vectorEnd = min(stepEnd, vectorRowCount)
      if (row < vectorEnd) {
        const done = hashRows(offsetsPtr, bytesPtr, row, vectorEnd, codesPtr, firstRowsPtr, tablePtr, capacity, count)
        row = <i32>(done >> 32)
        count = <u32>done
        if (row === stepEnd) break
      }
      const code = codeOfText(offsetsPtr, bytesPtr, textEnd, row, count, firstRowsPtr, tablePtr, capacity)
      count += u32(code === count)
      store<u32>(codesPtr + ((<usize>row) << 2), code)
      row++
    }
    if (row === rowCount) break
    // A step more than half full does no harm: the full capacity suffices for all rows, and before it there is room.
    if (<i32>(count << 1) > capacity) {
      capacity = min(capacity << growthShift, tableCapacity)
      fillStringTable(offsetsPtr, bytesPtr, textEnd, firstRowsPtr, count, tablePtr, capacity)
    }
    if (endsInRun(codesPtr + ((<usize>row) << 2))) {
      row += copyRows(offsetsPtr, bytesPtr, codesPtr, row, rowCount, 1)
      stepRowCount = stepRowCountMin
    } else if (row >= nextSearch) {
      const copied = copyRepetition(offsetsPtr, bytesPtr, codesPtr, row, rowCount, searchReach * (row - lastSearch))
      lastSearch = row
      row += copied
      interval = copied > 0 ? searchIntervalMin : min(interval << 1, 1 << 24)
      nextSearch = row + interval
    } else {
      stepRowCount = min(stepRowCount << 1, stepRowCountMax)
    }
  }
  return count
}

/** How many rows have 16 bytes from their text's begin to the end of all text: those can be read as vectors. */
function countVectorRows(offsetsPtr: usize, rowCount: i32): i32 {
  const byteLength = load<u32>(offsetsPtr + ((<usize>rowCount) << 2))
  let count = rowCount
  while (count > 0 && load<u32>(offsetsPtr + ((<usize>count) << 2) - 4) + 16 > byteLength) count--
  return count
}

/** 1 when the last stepRowCountMin codes before codesEnd are equal. */
function endsInRun(codesEnd: usize): bool {
  const last = v128.load(codesEnd - 16)
  return i32x4.all_true(
    v128.and(i32x4.eq(last, v128.load32_splat(codesEnd - 4)), i32x4.eq(last, v128.load(codesEnd - 32))),
  )
}

/**
 * Codes of rows [row, rowEnd) by hash, up to the first whose text is longer than a vector. All of them can be read as
 * vectors. Returns the row where it stopped (high half) and the number of codes (low half). It calls nothing and holds
 * little, so that all it holds is in registers.
 */
function hashRows(
  offsetsPtr: usize,
  bytesPtr: usize,
  row: i32,
  rowEnd: i32,
  codesPtr: usize,
  firstRowsPtr: usize,
  tablePtr: usize,
  capacity: i32,
  count: u32,
): u64 {
  const mask: u32 = capacity - 1
  const shift = slotShift(capacity)
  let start = load<u32>(offsetsPtr + ((<usize>row) << 2))
  for (; row < rowEnd; row++) {
    const end = load<u32>(offsetsPtr + ((<usize>row) << 2), 4)
    const byteLength = end - start
    if (byteLength > shortByteLength) break
    const textMask = v128.load(masks + 16 - byteLength)
    const text = v128.and(v128.load(bytesPtr + start), textMask)
    const hash = hashShort(i64x2.extract_lane(text, 0), i64x2.extract_lane(text, 1))
    const tag = tagOf(hash) & ~mask
    let slot = <u32>(hash >> shift)
    let code: u32
    while (true) {
      const slotPtr = tablePtr + ((<usize>slot) << 2)
      const entry = load<u32>(slotPtr)
      if (entry === 0) {
        code = count
        count++
        store<u32>(firstRowsPtr + ((<usize>code) << 2), row)
        store<u32>(slotPtr, tag | count)
        break
      }
      // Equal tags leave nothing above the mask.
      code = (entry ^ tag) - 1
      if (code < mask) {
        const offsetPtr = offsetsPtr + ((<usize>load<u32>(firstRowsPtr + ((<usize>code) << 2))) << 2)
        const otherStart = load<u32>(offsetPtr)
        const other = v128.and(v128.load(bytesPtr + otherStart), textMask)
        if (i8x16.bitmask(i8x16.eq(text, other)) === 0xffff && load<u32>(offsetPtr, 4) - otherStart === byteLength)
          break
      }
      slot = (slot + 1) & mask
    }
    store<u32>(codesPtr + ((<usize>row) << 2), code)
    start = end
  }
  return ((<u64>row) << 32) | count
}

/** The code of a row's text of any length and place: that of its first row, or `count`, entered now. */
function codeOfText(
  offsetsPtr: usize,
  bytesPtr: usize,
  textEnd: usize,
  row: i32,
  count: u32,
  firstRowsPtr: usize,
  tablePtr: usize,
  capacity: i32,
): u32 {
  const mask: u32 = capacity - 1
  const start = load<u32>(offsetsPtr + ((<usize>row) << 2))
  const byteLength = load<u32>(offsetsPtr + ((<usize>row) << 2), 4) - start
  const ptr = bytesPtr + start
  const hash = hashText(ptr, byteLength, textEnd)
  const tag = tagOf(hash) & ~mask
  let slot = <u32>(hash >> slotShift(capacity))
  while (true) {
    const entry = load<u32>(tablePtr + ((<usize>slot) << 2))
    if (entry === 0) break
    if ((entry & ~mask) === tag) {
      const code = (entry & mask) - 1
      const offsetPtr = offsetsPtr + ((<usize>load<u32>(firstRowsPtr + ((<usize>code) << 2))) << 2)
      const otherStart = load<u32>(offsetPtr)
      if (load<u32>(offsetPtr, 4) - otherStart === byteLength && equalText(ptr, bytesPtr + otherStart, byteLength)) {
        return code
      }
    }
    slot = (slot + 1) & mask
  }
  store<u32>(firstRowsPtr + ((<usize>count) << 2), row)
  store<u32>(tablePtr + ((<usize>slot) << 2), tag | (count + 1))
  return count
}

/**
 * Looks for a distance at which the rows before `row` have stood already, and copies codes from there for as many rows
 * from `row` on as repeat. Distances up to `reach`. Returns the number of rows copied.
 */
function copyRepetition(offsetsPtr: usize, bytesPtr: usize, codesPtr: usize, row: i32, rowCount: i32, reach: i32): i32 {
  const end = codesPtr + ((<usize>row) << 2)
  const pattern0 = v128.load(end - 64)
  const pattern1 = v128.load(end - 48)
  const pattern2 = v128.load(end - 32)
  const pattern3 = v128.load(end - 16)
  const first = max(row - reach, patternRowCount)
  let tryCount: i32 = 0
  for (let other = row - 1; other >= first; other--) {
    const otherEnd = codesPtr + ((<usize>other) << 2)
    if (!i32x4.all_true(i32x4.eq(v128.load(otherEnd - 16), pattern3))) continue
    const differing = v128.or(
      v128.or(v128.xor(v128.load(otherEnd - 64), pattern0), v128.xor(v128.load(otherEnd - 48), pattern1)),
      v128.xor(v128.load(otherEnd - 32), pattern2),
    )
    if (v128.any_true(differing)) continue
    const tried = min(rowCount - row, equalStepRowCount)
    if (countEqualRows(offsetsPtr, bytesPtr, row, other, tried) === tried) {
      return copyRows(offsetsPtr, bytesPtr, codesPtr, row, rowCount, row - other)
    }
    if (++tryCount >= tryCountMax) break
  }
  return 0
}

/** Copies codes from `distance` rows before, for as many rows from `row` on as repeat those. Returns their number. */
function copyRows(offsetsPtr: usize, bytesPtr: usize, codesPtr: usize, row: i32, rowCount: i32, distance: i32): i32 {
  let end = row
  while (end < rowCount) {
    const equal = countEqualRows(offsetsPtr, bytesPtr, end, end - distance, min(rowCount - end, equalStepRowCount))
    end += equal
    if (equal < equalStepRowCount) break
  }
  let source = codesPtr + ((<usize>(row - distance)) << 2)
  let target = codesPtr + ((<usize>row) << 2)
  const targetEnd = codesPtr + ((<usize>end) << 2)
  // Codes may repeat what is copied here; a vector of four reads nothing that it writes itself.
  if (distance === 1) {
    const code = i32x4.splat(load<u32>(source))
    for (; target + 16 <= targetEnd; target += 16, source += 16) v128.store(target, code)
  } else if (distance >= 4) {
    for (; target + 16 <= targetEnd; target += 16, source += 16) v128.store(target, v128.load(source))
  }
  for (; target < targetEnd; target += 4, source += 4) store<u32>(target, load<u32>(source))
  return end - row
}

/** Rows that areRowsRepeated compares at once. */
const repeatStepRowCount: i32 = 1024

/**
 * 1 when every text from row `distance` on is the one `distance` rows before it.
 *
 * offsets  (rowCount + 1) × u32 into bytes, read only; bytes: text, read only
 */
export function areRowsRepeated(offsetsPtr: usize, bytesPtr: usize, rowCount: i32, distance: i32): i32 {
  for (let row = distance; row < rowCount; row += repeatStepRowCount) {
    const count = min(rowCount - row, repeatStepRowCount)
    if (!areRowsEqual(offsetsPtr, bytesPtr, row, row - distance, count)) return 0
  }
  return 1
}

/**
 * The distance at which codes repeat: all of them from there on are those that stand so many before; 0 where the first code
 * does not come again, or not so. Only the first such distance is tried, and it is half of the count at most.
 *
 * codes  count × u32, read only
 */
export function repeatDistance(codesPtr: usize, count: i32): i32 {
  const first = load<u32>(codesPtr)
  let distance = 1
  while (distance < count && load<u32>(codesPtr + ((<usize>distance) << 2)) === first) distance++
  // One code, or runs of each.
  if (distance === count) return 1
  if (distance > 1) return 0
  while (distance < count && load<u32>(codesPtr + ((<usize>distance) << 2)) !== first) distance++
  if (distance > count >> 1) return 0
  for (let i = distance; i < count; i++) {
    if (load<u32>(codesPtr + ((<usize>i) << 2)) !== load<u32>(codesPtr + ((<usize>(i - distance)) << 2))) return 0
  }
  return distance
}

/** Writes codes[i] = codes[i - distance] from `start` on, which is `distance` or more. codes: count × u32. */
export function repeatCodes(codesPtr: usize, start: i32, count: i32, distance: i32): void {
  const end = codesPtr + ((<usize>count) << 2)
  let target = codesPtr + ((<usize>start) << 2)
  // What is copied at once has been written before: it is as long as what repeats, and doubles.
  let span = (<usize>distance) << 2
  while (target < end) {
    const byteLength = min(span, end - target)
    memory.copy(target, target - span, byteLength)
    target += byteLength
    if (target - codesPtr >= span << 1) span <<= 1
  }
}

/** Rows that are compared at once: first their lengths, then their bytes as one text. */
const equalStepRowCount: i32 = 64

/** Clears a table of strings and enters the first `count` codes. */
function fillStringTable(
  offsetsPtr: usize,
  bytesPtr: usize,
  textEnd: usize,
  firstRowsPtr: usize,
  count: i32,
  tablePtr: usize,
  capacity: i32,
): void {
  memory.fill(tablePtr, 0, (<usize>capacity) << 2)
  for (let code: i32 = 0; code < count; code++) {
    const offsetPtr = offsetsPtr + ((<usize>load<u32>(firstRowsPtr + ((<usize>code) << 2))) << 2)
    const start = load<u32>(offsetPtr)
    enterCode(hashText(bytesPtr + start, load<u32>(offsetPtr, 4) - start, textEnd), code, tablePtr, capacity)
  }
}

/** Enters a code whose key is known to be new. */
function enterCode(hash: u64, code: u32, tablePtr: usize, capacity: i32): void {
  const mask: u32 = capacity - 1
  let slot = <u32>(hash >> slotShift(capacity))
  while (load<u32>(tablePtr + ((<usize>slot) << 2)) !== 0) slot = (slot + 1) & mask
  store<u32>(tablePtr + ((<usize>slot) << 2), (tagOf(hash) & ~mask) | (code + 1))
}

/**
 * Codes of a column of 8-byte values: int64, times, or the bits of float64 (so 0.0 and -0.0 differ, and so do NaNs
 * with different bits).
 *
 * values  rowCount × 8 bytes, read only; the rest as in dictionaryStrings
 */
export function dictionary64(
  valuesPtr: usize,
  rowCount: i32,
  codesPtr: usize,
  firstRowsPtr: usize,
  tablePtr: usize,
  tableCapacity: i32,
): i32 {
  if (rowCount === 0) return 0
  let capacity = min(startCapacity, tableCapacity)
  let mask: u32 = capacity - 1
  memory.fill(tablePtr, 0, (<usize>capacity) << 2)

  let count: i32 = 0
  let code: u32 = 0
  // Unequal to the first value, whatever that is.
  let previous = ~load<u64>(valuesPtr)
  for (let row: i32 = 0; row < rowCount; row++) {
    const value = load<u64>(valuesPtr + ((<usize>row) << 3))
    if (value !== previous) {
      previous = value
      const hash = hash64(value)
      const tag = tagOf(hash) & ~mask
      let slot = <u32>(hash >> slotShift(capacity))
      while (true) {
        const entry = load<u32>(tablePtr + ((<usize>slot) << 2))
        if (entry === 0) {
          code = count++
          store<u32>(firstRowsPtr + ((<usize>code) << 2), row)
          store<u32>(tablePtr + ((<usize>slot) << 2), tag | (code + 1))
          if (count << 1 > capacity) {
            capacity = min(capacity << growthShift, tableCapacity)
            mask = capacity - 1
            fill64Table(valuesPtr, firstRowsPtr, count, tablePtr, capacity)
          }
          break
        }
        if ((entry & ~mask) === tag) {
          code = (entry & mask) - 1
          const firstRow = load<u32>(firstRowsPtr + ((<usize>code) << 2))
          if (load<u64>(valuesPtr + ((<usize>firstRow) << 3)) === value) break
        }
        slot = (slot + 1) & mask
      }
    }
    store<u32>(codesPtr + ((<usize>row) << 2), code)
  }
  return count
}

function fill64Table(valuesPtr: usize, firstRowsPtr: usize, count: i32, tablePtr: usize, capacity: i32): void {
  memory.fill(tablePtr, 0, (<usize>capacity) << 2)
  for (let code: i32 = 0; code < count; code++) {
    const firstRow = load<u32>(firstRowsPtr + ((<usize>code) << 2))
    enterCode(hash64(load<u64>(valuesPtr + ((<usize>firstRow) << 3))), code, tablePtr, capacity)
  }
}

/**
 * Codes of a column of bools.
 *
 * bits       ceil(rowCount / 8) bytes, row 0 is the lowest bit, read only
 * firstRows  min(rowCount, 2) × u32; the rest as in dictionaryStrings
 */
export function dictionaryBits(bitsPtr: usize, rowCount: i32, codesPtr: usize, firstRowsPtr: usize): i32 {
  if (rowCount === 0) return 0
  const first = <u32>load<u8>(bitsPtr) & 1
  store<u32>(firstRowsPtr, 0)
  let other: u32 = 0
  for (let row: i32 = 0; row < rowCount; row++) {
    const code = ((<u32>load<u8>(bitsPtr + (<usize>row >> 3)) >> (row & 7)) & 1) ^ first
    store<u32>(codesPtr + ((<usize>row) << 2), code)
    if (code > other) {
      other = 1
      store<u32>(firstRowsPtr, row, 4)
    }
  }
  return <i32>other + 1
}

/**
 * Codes of pairs of codes: rows that agree in both get one code.
 *
 * a, b       rowCount × u32: aCount and bCount codes in order of first appearance, as the kernels here give them
 * target     rowCount × u32, overwritten; may be a or b itself
 * the rest as in dictionaryStrings
 *
 * Where aCount × bCount slots fit the table, a pair is its own place in it and nothing is hashed. A column of one value
 * adds nothing and is not read: then the codes are those of the other (with bCount = 1 this copies a and gives its first
 * rows).
 */
export function combineCodes(
  aPtr: usize,
  aCount: i32,
  bPtr: usize,
  bCount: i32,
  rowCount: i32,
  targetPtr: usize,
  firstRowsPtr: usize,
  tablePtr: usize,
  tableCapacity: i32,
): i32 {
  if (rowCount === 0) return 0
  if (bCount === 1) return keepCodes(aPtr, aCount, rowCount, targetPtr, firstRowsPtr)
  if (aCount === 1) return keepCodes(bPtr, bCount, rowCount, targetPtr, firstRowsPtr)
  const pairCount = <u64>aCount * <u64>bCount
  return pairCount <= <u64>min(tableCapacity, max(rowCount << 2, startCapacity))
    ? combineInTable(aPtr, bPtr, bCount, rowCount, targetPtr, firstRowsPtr, tablePtr, <u32>pairCount)
    : combineByHash(aPtr, bPtr, rowCount, targetPtr, firstRowsPtr, tablePtr, tableCapacity)
}

function keepCodes(sourcePtr: usize, count: u32, rowCount: i32, targetPtr: usize, firstRowsPtr: usize): i32 {
  let next: u32 = 0
  for (let row: i32 = 0; next < count && row < rowCount; row++) {
    if (load<u32>(sourcePtr + ((<usize>row) << 2)) !== next) continue
    store<u32>(firstRowsPtr + ((<usize>next) << 2), row)
    next++
  }
  if (sourcePtr !== targetPtr) memory.copy(targetPtr, sourcePtr, (<usize>rowCount) << 2)
  return next
}

const noCode: u32 = 0xffffffff

function combineInTable(
  aPtr: usize,
  bPtr: usize,
  bCount: u32,
  rowCount: i32,
  targetPtr: usize,
  firstRowsPtr: usize,
  tablePtr: usize,
  pairCount: u32,
): i32 {
  memory.fill(tablePtr, 0xff, (<usize>pairCount) << 2)
  let count: u32 = 0
  let row: i32 = 0
  while (row < rowCount) {
    // Four rows at a time while all their pairs are known.
    for (; row + 4 <= rowCount; row += 4) {
      const a = aPtr + ((<usize>row) << 2)
      const b = bPtr + ((<usize>row) << 2)
      const code0 = load<u32>(tablePtr + ((<usize>(load<u32>(a) * bCount + load<u32>(b))) << 2))
      const code1 = load<u32>(tablePtr + ((<usize>(load<u32>(a, 4) * bCount + load<u32>(b, 4))) << 2))
      const code2 = load<u32>(tablePtr + ((<usize>(load<u32>(a, 8) * bCount + load<u32>(b, 8))) << 2))
      const code3 = load<u32>(tablePtr + ((<usize>(load<u32>(a, 12) * bCount + load<u32>(b, 12))) << 2))
      if ((code0 | code1 | code2 | code3) === noCode) break
      const target = targetPtr + ((<usize>row) << 2)
      store<u32>(target, code0)
      store<u32>(target, code1, 4)
      store<u32>(target, code2, 8)
      store<u32>(target, code3, 12)
    }
    for (const end = min(row + 4, rowCount); row < end; row++) {
      const at = (<usize>row) << 2
      const slotPtr = tablePtr + ((<usize>(load<u32>(aPtr + at) * bCount + load<u32>(bPtr + at))) << 2)
      let code = load<u32>(slotPtr)
      if (code === noCode) {
        code = count++
        store<u32>(firstRowsPtr + ((<usize>code) << 2), row)
        store<u32>(slotPtr, code)
      }
      store<u32>(targetPtr + at, code)
    }
  }
  return count
}

/**
 * The target may be a or b, and a key is compared with a and b of its first row: so first rows are written last, when
 * all comparing is done. (The code of a first row needs no place of its own: firstRows has it.)
 */
function combineByHash(
  aPtr: usize,
  bPtr: usize,
  rowCount: i32,
  targetPtr: usize,
  firstRowsPtr: usize,
  tablePtr: usize,
  tableCapacity: i32,
): i32 {
  let capacity = min(startCapacity, tableCapacity)
  let mask: u32 = capacity - 1
  memory.fill(tablePtr, 0, (<usize>capacity) << 2)

  let count: i32 = 0
  let code: u32 = 0
  let previous = ~pairOf(aPtr, bPtr, 0)
  for (let row: i32 = 0; row < rowCount; row++) {
    const pair = pairOf(aPtr, bPtr, row)
    if (pair !== previous) {
      previous = pair
      const hash = hash64(pair)
      const tag = tagOf(hash) & ~mask
      let slot = <u32>(hash >> slotShift(capacity))
      let isNew = false
      while (true) {
        const entry = load<u32>(tablePtr + ((<usize>slot) << 2))
        if (entry === 0) {
          isNew = true
          code = count++
          store<u32>(firstRowsPtr + ((<usize>code) << 2), row)
          store<u32>(tablePtr + ((<usize>slot) << 2), tag | (code + 1))
          if (count << 1 > capacity) {
            capacity = min(capacity << growthShift, tableCapacity)
            mask = capacity - 1
            fillPairTable(aPtr, bPtr, firstRowsPtr, count, tablePtr, capacity)
          }
          break
        }
        if ((entry & ~mask) === tag) {
          code = (entry & mask) - 1
          if (pairOf(aPtr, bPtr, load<u32>(firstRowsPtr + ((<usize>code) << 2))) === pair) break
        }
        slot = (slot + 1) & mask
      }
      if (isNew) continue
    }
    store<u32>(targetPtr + ((<usize>row) << 2), code)
  }
  for (let c: i32 = 0; c < count; c++) {
    store<u32>(targetPtr + ((<usize>load<u32>(firstRowsPtr + ((<usize>c) << 2))) << 2), c)
  }
  return count
}

function fillPairTable(
  aPtr: usize,
  bPtr: usize,
  firstRowsPtr: usize,
  count: i32,
  tablePtr: usize,
  capacity: i32,
): void {
  memory.fill(tablePtr, 0, (<usize>capacity) << 2)
  for (let code: i32 = 0; code < count; code++) {
    enterCode(hash64(pairOf(aPtr, bPtr, load<u32>(firstRowsPtr + ((<usize>code) << 2)))), code, tablePtr, capacity)
  }
}

function pairOf(aPtr: usize, bPtr: usize, row: u32): u64 {
  const at = (<usize>row) << 2
  return ((<u64>load<u32>(aPtr + at)) << 32) | <u64>load<u32>(bPtr + at)
}
