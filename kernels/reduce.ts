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

/** All ones in the lanes whose bit is set: bit 0 and bit 1 of bits. */
function maskOfPair(bits: u64): v128 {
  return i64x2.neg(i64x2.replace_lane(i64x2.splat(bits & 1), 1, (bits >> 1) & 1))
}

/** Both lanes added. */
function addLanes(pair: v128): f64 {
  return f64x2.extract_lane(pair, 0) + f64x2.extract_lane(pair, 1)
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
  const sum = addLanes(a)
  return ptr < endPtr ? sum + loadNumber<T>(ptr) : sum
}

/** The sum of the present values of rows [rowStart, rowEnd); 0 if none. validityPtr 0: none missing. */
export function sumRun<T extends number>(valuesPtr: usize, validityPtr: usize, rowStart: i32, rowEnd: i32): f64 {
  if (!validityPtr) return sumDense<T>(valuesPtr + ((<usize>rowStart) << 3), valuesPtr + ((<usize>rowEnd) << 3))
  let lanes = f64x2.splat(0)
  let sum: f64 = 0
  for (let row = rowStart; row < rowEnd; row += 64) {
    const bitCount = min(rowEnd - row, 64)
    let bits = loadBits(validityPtr, row, bitCount)
    let ptr = valuesPtr + ((<usize>row) << 3)
    if (bits === lowBits(bitCount)) {
      sum += sumDense<T>(ptr, ptr + ((<usize>bitCount) << 3))
      continue
    }
    for (const end = ptr + ((<usize>(bitCount & ~1)) << 3); ptr < end; ptr += 16) {
      lanes = f64x2.add(lanes, v128.and(loadPair<T>(ptr), maskOfPair(bits)))
      bits >>= 2
    }
    if (bitCount & bits & 1) sum += loadNumber<T>(ptr)
  }
  return sum + addLanes(lanes)
}

/**
 * The least of the present values of rows [rowStart, rowEnd) after `sign` is XORed into them: sign 0 gives the minimum;
 * i64.MIN_VALUE, which turns v into -v, gives minus the maximum. NaN if one is NaN, Infinity if none is present; -0 < 0.
 */
export function leastOfRun<T extends number>(
  valuesPtr: usize,
  validityPtr: usize,
  rowStart: i32,
  rowEnd: i32,
  sign: i64,
): f64 {
  const signs = i64x2.splat(sign)
  const none = f64x2.splat(Infinity)
  let least = none
  for (let row = rowStart; row < rowEnd; row += 64) {
    const bitCount = min(rowEnd - row, 64)
    let bits = validityPtr ? loadBits(validityPtr, row, bitCount) : lowBits(bitCount)
    let ptr = valuesPtr + ((<usize>row) << 3)
    for (const end = ptr + ((<usize>(bitCount & ~1)) << 3); ptr < end; ptr += 16) {
      const pair = v128.xor(loadPair<T>(ptr), signs)
      least = f64x2.min(least, v128.bitselect(pair, none, maskOfPair(bits)))
      bits >>= 2
    }
    if (bitCount & bits & 1) {
      const value = reinterpret<f64>(reinterpret<i64>(loadNumber<T>(ptr)) ^ sign)
      least = f64x2.min(least, f64x2.splat(value))
    }
  }
  return min(f64x2.extract_lane(least, 0), f64x2.extract_lane(least, 1))
}

/**
 * The squared deviations of the present values of rows [rowStart, rowEnd) from `mean`, which is their mean but for
 * rounding; what the rounding adds is taken away again (T. F. Chan, G. H. Golub, R. J. LeVeque, Algorithms for Computing
 * the Sample Variance, 1983, the corrected two-pass algorithm).
 */
export function squaresOfRun<T extends number>(
  valuesPtr: usize,
  validityPtr: usize,
  rowStart: i32,
  rowEnd: i32,
  presentCount: i32,
  mean: f64,
): f64 {
  const means = f64x2.splat(mean)
  let deviations = f64x2.splat(0)
  let squares = deviations
  for (let row = rowStart; row < rowEnd; row += 64) {
    const bitCount = min(rowEnd - row, 64)
    let bits = validityPtr ? loadBits(validityPtr, row, bitCount) : lowBits(bitCount)
    let ptr = valuesPtr + ((<usize>row) << 3)
    for (const end = ptr + ((<usize>(bitCount & ~1)) << 3); ptr < end; ptr += 16) {
      const deviation = v128.and(f64x2.sub(loadPair<T>(ptr), means), maskOfPair(bits))
      deviations = f64x2.add(deviations, deviation)
      squares = f64x2.add(squares, f64x2.mul(deviation, deviation))
      bits >>= 2
    }
    if (bitCount & bits & 1) {
      const deviation = f64x2.replace_lane(f64x2.splat(0), 0, loadNumber<T>(ptr) - mean)
      deviations = f64x2.add(deviations, deviation)
      squares = f64x2.add(squares, f64x2.mul(deviation, deviation))
    }
  }
  const deviation = addLanes(deviations)
  return max<f64>(0, addLanes(squares) - (deviation * deviation) / <f64>presentCount)
}
