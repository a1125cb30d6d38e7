// Sums, extremes and squared deviations of a run of rows, two rows an instruction. What aggregate.ts and window.ts share;
// not exported from kernels.wasm. T is the type in memory: f64, or i64, which is rounded to float64 on the way.
import { loadBits, lowBits } from './bits'

/** 2^84 + 2^63 + 2^52 as the bits of a float64. */
const TWO_84_63_52: i64 = 0x4530000080100000

/**
 * Two int64 as two float64, each rounded once to nearest even, as f64.convert_i64_s does.
 *
 * The halves of a value become the low bits of two large doubles: 2^52 + low half, and 2^84 + 2^32 × (high half + 2^31).
 * Taking the constants away from the second is exact, so the sum of both is the only rounding.
 */
function int64PairToFloat64(pair: v128): v128 {
  const low = v128.bitselect(pair, i64x2.splat(0x4330000000000000), i64x2.splat(0xffffffff))
  const high = v128.xor(i64x2.shr_u(pair, 32), i64x2.splat(0x4530000080000000))
  return f64x2.add(f64x2.sub(high, i64x2.splat(TWO_84_63_52)), low)
}

/** Two values as float64. */
export function loadPair<T extends number>(ptr: usize): v128 {
  const pair = v128.load(ptr)
  return isFloat<T>() ? pair : int64PairToFloat64(pair)
}

/** One value as float64. */
export function loadNumber<T extends number>(ptr: usize): f64 {
  return <f64>load<T>(ptr)
}

/** For each pair of bits, two lanes of 64 bits: all ones where the bit is 0, where the row is missing. */
const MISSING = memory.data<u64>([-1, -1, 0, -1, -1, 0, 0, 0])

/** All ones in the lanes of missing rows: bit 0 and bit 1 of bits say which are present. */
export function missingPair(bits: u64): v128 {
  return v128.load(MISSING + ((<usize>(bits & 3)) << 4))
}

/** Both lanes added. */
export function addLanes(pair: v128): f64 {
  return f64x2.extract_lane(pair, 0) + f64x2.extract_lane(pair, 1)
}

/** The lesser lane; neither is NaN. */
export function leastLane(pair: v128): f64 {
  return f64x2.extract_lane(f64x2.pmin(pair, v128.shuffle<i64>(pair, pair, 1, 0)), 0)
}

/** The greater lane; neither is NaN. */
export function greatestLane(pair: v128): f64 {
  return f64x2.extract_lane(f64x2.pmax(pair, v128.shuffle<i64>(pair, pair, 1, 0)), 0)
}

/** A value as a pair whose other lane is `other`. */
export function withOther(value: f64, other: f64): v128 {
  return f64x2.replace_lane(f64x2.splat(other), 0, value)
}

/** The sum of the values in [ptr, endPtr): eight lanes, added pairwise. */
function sumDense<T extends number>(ptr: usize, endPtr: usize): f64 {
  let a = f64x2.splat(0)
  if (endPtr - ptr >= 64) {
    let b = a
    let c = a
    let d = a
    for (const last = endPtr - 64; ptr <= last; ptr += 64) {
      a = f64x2.add(a, loadPair<T>(ptr))
      b = f64x2.add(b, loadPair<T>(ptr + 16))
      c = f64x2.add(c, loadPair<T>(ptr + 32))
      d = f64x2.add(d, loadPair<T>(ptr + 48))
    }
    a = f64x2.add(f64x2.add(a, b), f64x2.add(c, d))
  }
  for (; ptr + 16 <= endPtr; ptr += 16) a = f64x2.add(a, loadPair<T>(ptr))
  if (ptr < endPtr) a = f64x2.add(a, withOther(loadNumber<T>(ptr), 0))
  return addLanes(a)
}

/** The sum of the present values of rows [rowStart, rowEnd); 0 if none. validityPtr 0: none missing. */
export function sumRun<T extends number>(valuesPtr: usize, validityPtr: usize, rowStart: i32, rowEnd: i32): f64 {
  if (!validityPtr) return sumDense<T>(valuesPtr + ((<usize>rowStart) << 3), valuesPtr + ((<usize>rowEnd) << 3))
  let a = f64x2.splat(0)
  let b = a
  for (let row = rowStart; row < rowEnd; row += 64) {
    const bitCount = min(rowEnd - row, 64)
    let bits = loadBits(validityPtr, row, bitCount)
    let ptr = valuesPtr + ((<usize>row) << 3)
    for (const end = ptr + ((<usize>(bitCount & ~3)) << 3); ptr < end; ptr += 32) {
      a = f64x2.add(a, v128.andnot(loadPair<T>(ptr), missingPair(bits)))
      b = f64x2.add(b, v128.andnot(loadPair<T>(ptr + 16), missingPair(bits >> 2)))
      bits >>= 4
    }
    for (; bits !== 0; bits >>= 1, ptr += 8) {
      if (bits & 1) a = f64x2.add(a, withOther(loadNumber<T>(ptr), 0))
    }
  }
  return addLanes(f64x2.add(a, b))
}

/** Turns v into -v when XORed into its bits. */
export const SIGN: i64 = i64.MIN_VALUE

/**
 * The least of the present values of rows [rowStart, rowEnd) after `sign` is XORed into them: sign 0 gives the minimum;
 * SIGN gives minus the maximum. NaN if one is NaN, Infinity if none is present; -0 is less than 0.
 *
 * pmin is one instruction where f64x2.min is many, but passes over NaN in its second operand and takes -0 and 0 for equal.
 */
export function leastOfRun<T extends number>(
  valuesPtr: usize,
  validityPtr: usize,
  rowStart: i32,
  rowEnd: i32,
  sign: i64,
): f64 {
  const signs = i64x2.splat(sign)
  let a = f64x2.splat(Infinity)
  let b = a
  let nans = i64x2.splat(0)
  // The bits of all values together: where the least is zero, the sign tells whether one is -0.
  let some = nans
  if (validityPtr) {
    for (let row = rowStart; row < rowEnd; row += 64) {
      const bitCount = min(rowEnd - row, 64)
      let bits = loadBits(validityPtr, row, bitCount)
      let ptr = valuesPtr + ((<usize>row) << 3)
      for (const end = ptr + ((<usize>(bitCount & ~1)) << 3); ptr < end; ptr += 16) {
        const missing = missingPair(bits)
        const pair = v128.xor(loadPair<T>(ptr), signs)
        const present = v128.andnot(pair, missing)
        nans = v128.or(nans, f64x2.ne(present, present))
        some = v128.or(some, present)
        a = f64x2.pmin(a, v128.or(pair, missing))
        bits >>= 2
      }
      if (bits & 1) {
        const pair = v128.xor(f64x2.splat(loadNumber<T>(ptr)), signs)
        nans = v128.or(nans, f64x2.ne(pair, pair))
        some = v128.or(some, pair)
        a = f64x2.pmin(a, pair)
      }
    }
  } else {
    let ptr = valuesPtr + ((<usize>rowStart) << 3)
    const endPtr = valuesPtr + ((<usize>rowEnd) << 3)
    for (; ptr + 32 <= endPtr; ptr += 32) {
      const first = v128.xor(loadPair<T>(ptr), signs)
      const second = v128.xor(loadPair<T>(ptr + 16), signs)
      nans = v128.or(nans, v128.or(f64x2.ne(first, first), f64x2.ne(second, second)))
      some = v128.or(some, v128.or(first, second))
      a = f64x2.pmin(a, first)
      b = f64x2.pmin(b, second)
    }
    for (; ptr < endPtr; ptr += 8) {
      const pair = v128.xor(f64x2.splat(loadNumber<T>(ptr)), signs)
      nans = v128.or(nans, f64x2.ne(pair, pair))
      some = v128.or(some, pair)
      a = f64x2.pmin(a, pair)
    }
  }
  if (v128.any_true(nans)) return NaN
  const least = leastLane(f64x2.pmin(a, b))
  if (least === 0) return i64x2.bitmask(some) ? -0.0 : 0
  return least
}

/** Whether one of the present float64 of rows [rowStart, rowEnd) has its sign bit set after `sign` is XORed into it. */
export function anyNegative(valuesPtr: usize, validityPtr: usize, rowStart: i32, rowEnd: i32, sign: i64): bool {
  const signs = i64x2.splat(sign)
  let some = i64x2.splat(0)
  for (let row = rowStart; row < rowEnd; row += 64) {
    const bitCount = min(rowEnd - row, 64)
    let bits = validityPtr ? loadBits(validityPtr, row, bitCount) : lowBits(bitCount)
    let ptr = valuesPtr + ((<usize>row) << 3)
    for (const end = ptr + ((<usize>(bitCount & ~1)) << 3); ptr < end; ptr += 16) {
      some = v128.or(some, v128.andnot(v128.xor(v128.load(ptr), signs), missingPair(bits)))
      bits >>= 2
    }
    if (bits & 1) some = v128.or(some, v128.xor(v128.load64_splat(ptr), signs))
  }
  return i64x2.bitmask(some) !== 0
}
