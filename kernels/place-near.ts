// Rows that come step by step, each step's of the same label sets: one set's behind another's, as near integers. A transposition in
// tiles of eight steps and eight sets.
import { isOrigin, narrow } from './near-ints'

const TILE: i32 = 8

/** Scratch of placeNear, in bytes. */
export function placeNearScratchByteLength(distance: i32): i32 {
  return distance * TILE * 2 + 16
}

/**
 * In short: target[places[row % distance] + row / distance] = values[row] - origin. Returns 1; 0 when some value is not near the
 * origin (-8192 to 8191, and the origin within 2^50): then what is written is no good.
 *
 * values   rowCount × i64, read only
 * places   distance × u32: where the first row of each set stands; the others of its set follow it
 * target   i16 a place
 * scratch  placeNearScratchByteLength(distance) bytes
 */
export function placeNear(
  valuesPtr: usize,
  rowCount: i32,
  distance: i32,
  placesPtr: usize,
  origin: i64,
  targetPtr: usize,
  scratchPtr: usize,
): i32 {
  if (!isOrigin(origin)) return 0
  let row = 0
  for (let step = 0; row < rowCount; step += TILE) {
    const count = min(rowCount - row, TILE * distance)
    if (!narrow(valuesPtr + ((<usize>row) << 3), count, origin, scratchPtr)) return 0
    const target = targetPtr + ((<usize>step) << 1)
    if (count === TILE * distance && distance >= TILE) placeTiles(scratchPtr, distance, placesPtr, target)
    else placeRows(scratchPtr, count, distance, placesPtr, target)
    row += count
  }
  return 1
}

function placeRows(nearPtr: usize, count: i32, distance: i32, placesPtr: usize, targetPtr: usize): void {
  let near = nearPtr
  let target = targetPtr
  for (let row = 0; row < count; row += distance, target += 2) {
    const ownCount = min(distance, count - row)
    for (let set = 0; set < ownCount; set++, near += 2) {
      const place = <usize>load<u32>(placesPtr + ((<usize>set) << 2))
      store<i16>(target + (place << 1), load<i16>(near))
    }
  }
}

/** Eight steps of at least eight sets; the last tile covers some of the sets of the one before it again. */
function placeTiles(nearPtr: usize, distance: i32, placesPtr: usize, targetPtr: usize): void {
  const stepByteLength = (<usize>distance) << 1
  for (let set = 0; set < distance; ) {
    placeTile(nearPtr + ((<usize>set) << 1), stepByteLength, placesPtr + ((<usize>set) << 2), targetPtr)
    set += TILE
    if (set < distance) set = min(set, distance - TILE)
  }
}

function placeTile(nearPtr: usize, stepByteLength: usize, placesPtr: usize, targetPtr: usize): void {
  const a = v128.load(nearPtr)
  const b = v128.load(nearPtr + stepByteLength)
  const c = v128.load(nearPtr + 2 * stepByteLength)
  const d = v128.load(nearPtr + 3 * stepByteLength)
  const e = v128.load(nearPtr + 4 * stepByteLength)
  const f = v128.load(nearPtr + 5 * stepByteLength)
  const g = v128.load(nearPtr + 6 * stepByteLength)
  const h = v128.load(nearPtr + 7 * stepByteLength)
  // Sets 0 to 3 (and 4 to 7, "high") of two steps side by side, then 0 and 1 of four steps, then one of eight.
  const ab = v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
  const abHigh = v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
  const cd = v128.shuffle<i16>(c, d, 0, 8, 1, 9, 2, 10, 3, 11)
  const cdHigh = v128.shuffle<i16>(c, d, 4, 12, 5, 13, 6, 14, 7, 15)
  const ef = v128.shuffle<i16>(e, f, 0, 8, 1, 9, 2, 10, 3, 11)
  const efHigh = v128.shuffle<i16>(e, f, 4, 12, 5, 13, 6, 14, 7, 15)
  const gh = v128.shuffle<i16>(g, h, 0, 8, 1, 9, 2, 10, 3, 11)
  const ghHigh = v128.shuffle<i16>(g, h, 4, 12, 5, 13, 6, 14, 7, 15)
  placeTwo(v128.shuffle<i32>(ab, cd, 0, 4, 1, 5), v128.shuffle<i32>(ef, gh, 0, 4, 1, 5), placesPtr, targetPtr)
  placeTwo(v128.shuffle<i32>(ab, cd, 2, 6, 3, 7), v128.shuffle<i32>(ef, gh, 2, 6, 3, 7), placesPtr + 8, targetPtr)
  placeTwo(
    v128.shuffle<i32>(abHigh, cdHigh, 0, 4, 1, 5),
    v128.shuffle<i32>(efHigh, ghHigh, 0, 4, 1, 5),
    placesPtr + 16,
    targetPtr,
  )
  placeTwo(
    v128.shuffle<i32>(abHigh, cdHigh, 2, 6, 3, 7),
    v128.shuffle<i32>(efHigh, ghHigh, 2, 6, 3, 7),
    placesPtr + 24,
    targetPtr,
  )
}

/** Two sets, of each of which the first four steps stand in the one argument and the last four in the other. */
function placeTwo(first: v128, last: v128, placesPtr: usize, targetPtr: usize): void {
  const place = <usize>load<u32>(placesPtr)
  const nextPlace = <usize>load<u32>(placesPtr, 4)
  v128.store(targetPtr + (place << 1), v128.shuffle<i64>(first, last, 0, 2))
  v128.store(targetPtr + (nextPlace << 1), v128.shuffle<i64>(first, last, 1, 3))
}
