// Pages of float64: scaled decimals (ALP) where the values are decimals, their bits as integers where they are not.
import { MAGIC, MAGIC_BITS, MAGIC_INTEGER_MAX } from './floats-as-integers'
import { decodeInt64Page, encodeInt64Page, maxEncodedInt64Page } from './ints'
import { CODEC_BITS, CODEC_DECIMALS, PAGE_COUNT_MAX } from './page-codecs'

/** Largest exponent of ALP; the search goes through all exponents e and factors f with f <= e. */
const EXPONENT_MAX: i32 = 18
/** The exponent that is mostly best. */
const EXPONENT_USUAL: i32 = 14
const SAMPLE_COUNT: i32 = 32
/** An exception costs its place and its value. */
const EXCEPTION_BYTE_LENGTH: i32 = 10

const POWERS = memory.data<f64>([
  1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
])
const INVERSE_POWERS = memory.data<f64>([
  1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15, 1e-16, 1e-17,
  1e-18,
])

/** Bytes that encodeFloat64Page writes at most. */
export function maxEncodedFloat64Page(count: i32): i32 {
  return 16 + maxEncodedInt64Page(count) + exceptionCountMax(count) * EXCEPTION_BYTE_LENGTH
}

function exceptionCountMax(count: i32): i32 {
  return count >> 3
}

/**
 * Encodes the values of one page, bit for bit (NaN payloads, -0, infinities, denormals), and returns the bytes
 * written, at most maxEncodedFloat64Page(count).
 *
 * values   count × f64, 8-byte aligned, 1 <= count <= 4096, read only
 * target   maxEncodedFloat64Page(count) bytes; all of them may be written
 * scratch  PAGE_SCRATCH bytes, 16-byte aligned, overwritten
 *
 * Decimals: value = n × 10^f × 10^-e for an integer n (Afroozeh, Kuffo, Boncz: ALP: Adaptive lossless floating-point
 * compression, SIGMOD 2023); e and f are chosen on a sample, values that do not come back bit for bit are exceptions,
 * and the integers are an int64 page, so that a slowly moving series is stored as deltas.
 *
 * Others: the bits of the values as integers, the sign moved to the lowest bit if there are both, without the zeros
 * that all of them end with (float32 stored as float64 has 29). Their deltas are as small as the XOR of Gorilla and
 * Chimp, and an int64 page stores and reads them several times faster.
 */
export function encodeFloat64Page(valuesPtr: usize, count: i32, targetPtr: usize, scratchPtr: usize): i32 {
  const choice = chooseDecimals(valuesPtr, count)
  if (choice >= 0) {
    const byteLength = encodeDecimals(valuesPtr, count, choice >> 8, choice & 255, targetPtr, scratchPtr)
    if (byteLength > 0) return byteLength
  }
  return encodeBits(valuesPtr, count, targetPtr, scratchPtr)
}

/**
 * Decodes a page of `count` values. Returns 0, or -1 when the bytes are not such a page; whatever the bytes, it reads
 * only [page, page + byteLength) and writes only count × 8 bytes at target (also when it fails).
 *
 * target  count × f64, 8-byte aligned
 */
export function decodeFloat64Page(pagePtr: usize, byteLength: i32, count: i32, targetPtr: usize): i32 {
  if (byteLength < 3) return -1
  const codec = <i32>load<u8>(pagePtr)
  if (codec === CODEC_BITS) return decodeBits(pagePtr, byteLength, count, targetPtr)
  if (codec === CODEC_DECIMALS) return decodeDecimals(pagePtr, byteLength, count, targetPtr)
  return -1
}

/** Encodes with exponent e and factor f; returns the bytes written, or 0 when there are too many exceptions. */
function encodeDecimals(valuesPtr: usize, count: i32, e: i32, f: i32, targetPtr: usize, scratchPtr: usize): i32 {
  const integersPtr = scratchPtr
  const placesPtr = scratchPtr + ((<usize>PAGE_COUNT_MAX) << 3)
  const up = load<f64>(POWERS + ((<usize>e) << 3))
  const down = load<f64>(INVERSE_POWERS + ((<usize>f) << 3))
  const upBack = load<f64>(POWERS + ((<usize>f) << 3))
  const downBack = load<f64>(INVERSE_POWERS + ((<usize>e) << 3))
  const ups = f64x2.splat(up)
  const downs = f64x2.splat(down)
  const upBacks = f64x2.splat(upBack)
  const downBacks = f64x2.splat(downBack)
  const magic = f64x2.splat(MAGIC)
  const limit = f64x2.splat(<f64>MAGIC_INTEGER_MAX)
  let exceptionCount = 0
  let i = 0
  for (; i + 2 <= count; i += 2) {
    const at = (<usize>i) << 3
    const values = v128.load(valuesPtr + at)
    const scaled = f64x2.mul(f64x2.mul(values, ups), downs)
    const rounded = f64x2.add(scaled, magic)
    const back = f64x2.mul(f64x2.mul(f64x2.sub(rounded, magic), upBacks), downBacks)
    v128.store(integersPtr + at, i64x2.sub(rounded, magic))
    const isExact = v128.and(i64x2.eq(back, values), f64x2.lt(f64x2.abs(scaled), limit))
    if (i64x2.all_true(isExact)) continue
    const exact = i64x2.bitmask(isExact)
    store<u16>(placesPtr + ((<usize>exceptionCount) << 1), <u16>i)
    exceptionCount += (exact & 1) ^ 1
    store<u16>(placesPtr + ((<usize>exceptionCount) << 1), <u16>(i + 1))
    exceptionCount += (exact >> 1) ^ 1
  }
  if (i < count) {
    const at = (<usize>i) << 3
    const value = load<f64>(valuesPtr + at)
    const scaled = value * up * down
    const rounded = scaled + MAGIC
    const back = (rounded - MAGIC) * upBack * downBack
    store<i64>(integersPtr + at, reinterpret<i64>(rounded) - MAGIC_BITS)
    store<u16>(placesPtr + ((<usize>exceptionCount) << 1), <u16>i)
    exceptionCount += i32(!(abs(scaled) < <f64>MAGIC_INTEGER_MAX && reinterpret<i64>(back) === reinterpret<i64>(value)))
  }
  if (exceptionCount > exceptionCountMax(count)) return 0

  // The integer of an exception is never read: it repeats its neighbour, to be small as a delta.
  let firstPlain = 0
  while (firstPlain < exceptionCount && <i32>load<u16>(placesPtr + ((<usize>firstPlain) << 1)) === firstPlain)
    firstPlain++
  for (let k = 0; k < exceptionCount; k++) {
    const place = <usize>load<u16>(placesPtr + ((<usize>k) << 1))
    const neighbour = k < firstPlain ? <usize>firstPlain : place - 1
    store<i64>(integersPtr + (place << 3), load<i64>(integersPtr + (neighbour << 3)))
  }

  store<u8>(targetPtr, <u8>CODEC_DECIMALS)
  store<u8>(targetPtr, <u8>e, 1)
  store<u8>(targetPtr, <u8>f, 2)
  store<u16>(targetPtr, <u16>exceptionCount, 3)
  let target = targetPtr + 5
  memory.copy(target, placesPtr, (<usize>exceptionCount) << 1)
  target += (<usize>exceptionCount) << 1
  for (let k = 0; k < exceptionCount; k++) {
    const place = <usize>load<u16>(placesPtr + ((<usize>k) << 1))
    store<u64>(target, load<u64>(valuesPtr + (place << 3)))
    target += 8
  }
  return (
    <i32>(target - targetPtr) + encodeInt64Page(integersPtr, count, target, scratchPtr + ((<usize>PAGE_COUNT_MAX) << 4))
  )
}

function decodeDecimals(pagePtr: usize, byteLength: i32, count: i32, targetPtr: usize): i32 {
  if (byteLength < 5) return -1
  const e = <i32>load<u8>(pagePtr, 1)
  const f = <i32>load<u8>(pagePtr, 2)
  const exceptionCount = <i32>load<u16>(pagePtr, 3)
  const headerByteLength = 5 + exceptionCount * EXCEPTION_BYTE_LENGTH
  if (e > EXPONENT_MAX || f > e || byteLength < headerByteLength) return -1
  const integersPtr = pagePtr + <usize>headerByteLength
  if (decodeInt64Page(integersPtr, byteLength - headerByteLength, count, targetPtr) < 0) return -1
  const up = load<f64>(POWERS + ((<usize>f) << 3))
  const down = load<f64>(INVERSE_POWERS + ((<usize>e) << 3))
  const valueEnd = targetPtr + ((<usize>count) << 3)
  const ups = f64x2.splat(up)
  const downs = f64x2.splat(down)
  const magic = f64x2.splat(MAGIC)
  let ptr = targetPtr
  for (; ptr + 32 <= valueEnd; ptr += 32) {
    const a = f64x2.sub(i64x2.add(v128.load(ptr), magic), magic)
    const b = f64x2.sub(i64x2.add(v128.load(ptr, 16), magic), magic)
    v128.store(ptr, f64x2.mul(f64x2.mul(a, ups), downs))
    v128.store(ptr, f64x2.mul(f64x2.mul(b, ups), downs), 16)
  }
  for (; ptr < valueEnd; ptr += 8) {
    store<f64>(ptr, (reinterpret<f64>(load<i64>(ptr) + MAGIC_BITS) - MAGIC) * up * down)
  }
  const placesPtr = pagePtr + 5
  const exceptionsPtr = placesPtr + ((<usize>exceptionCount) << 1)
  for (let k: usize = 0; k < <usize>exceptionCount; k++) {
    const place = <i32>load<u16>(placesPtr + (k << 1))
    if (place >= count) return -1
    store<u64>(targetPtr + ((<usize>place) << 3), load<u64>(exceptionsPtr + (k << 3)))
  }
  return 0
}

/** Encodes the bits of the values as integers. */
function encodeBits(valuesPtr: usize, count: i32, targetPtr: usize, scratchPtr: usize): i32 {
  const byteLength = (<usize>count) << 3
  let alls = i64x2.splat(0)
  let sames = i64x2.splat(-1)
  let at: usize = 0
  for (; at + 16 <= byteLength; at += 16) {
    const bits = v128.load(valuesPtr + at)
    alls = v128.or(alls, bits)
    sames = v128.and(sames, bits)
  }
  const lastBits = i64x2.splat(load<i64>(valuesPtr + byteLength - 8))
  alls = v128.or(alls, lastBits)
  sames = v128.and(sames, lastBits)
  const all = i64x2.extract_lane(alls, 0) | i64x2.extract_lane(alls, 1)
  const same = i64x2.extract_lane(sames, 0) & i64x2.extract_lane(sames, 1)
  // The low bits that all values lack, or 64: a rotation by one bit, as there are both signs.
  let shift = 64
  if ((all ^ same) >= 0) {
    shift = all === 0 ? 0 : <i32>ctz(all)
    for (at = 0; at + 16 <= byteLength; at += 16) {
      v128.store(scratchPtr + at, i64x2.shr_u(v128.load(valuesPtr + at), shift))
    }
    if (at < byteLength) store<u64>(scratchPtr + at, load<u64>(valuesPtr + at) >> shift)
  } else {
    for (at = 0; at + 16 <= byteLength; at += 16) {
      const bits = v128.load(valuesPtr + at)
      v128.store(scratchPtr + at, v128.or(i64x2.shl(bits, 1), i64x2.shr_u(bits, 63)))
    }
    if (at < byteLength) store<u64>(scratchPtr + at, rotl<u64>(load<u64>(valuesPtr + at), 1))
  }
  store<u8>(targetPtr, <u8>CODEC_BITS)
  store<u8>(targetPtr, <u8>shift, 1)
  return 2 + encodeInt64Page(scratchPtr, count, targetPtr + 2, scratchPtr + ((<usize>PAGE_COUNT_MAX) << 3))
}

function decodeBits(pagePtr: usize, byteLength: i32, count: i32, targetPtr: usize): i32 {
  const shift = <i32>load<u8>(pagePtr, 1)
  if (shift > 64) return -1
  if (decodeInt64Page(pagePtr + 2, byteLength - 2, count, targetPtr) < 0) return -1
  const valueEnd = targetPtr + ((<usize>count) << 3)
  let ptr = targetPtr
  if (shift === 64) {
    for (; ptr + 16 <= valueEnd; ptr += 16) {
      const bits = v128.load(ptr)
      v128.store(ptr, v128.or(i64x2.shr_u(bits, 1), i64x2.shl(bits, 63)))
    }
    if (ptr < valueEnd) store<u64>(ptr, rotr<u64>(load<u64>(ptr), 1))
  } else if (shift !== 0) {
    for (; ptr + 16 <= valueEnd; ptr += 16) v128.store(ptr, i64x2.shl(v128.load(ptr), shift))
    if (ptr < valueEnd) store<u64>(ptr, load<u64>(ptr) << shift)
  }
  return 0
}

/**
 * The exponent (times 256) and factor that cost least on a sample, -1 when the values are no decimals.
 *
 * Every digit costs 3.3 bits, an exception 80. Among the pairs with as many digits (e - f) the paper finds large e
 * best, as 10^-e is then closest; for integers near 2^51 only f = 0 is exact. Where both fail, no other pair helps.
 */
function chooseDecimals(valuesPtr: usize, count: i32): i32 {
  const sampleCount = min(SAMPLE_COUNT, count)
  let choice = -1
  let tenthsMin = i32.MAX_VALUE
  for (let digitCount = 0; digitCount <= EXPONENT_MAX; digitCount++) {
    const digitTenths = digitCount * 33 * sampleCount
    if (digitTenths >= tenthsMin) break
    const digitChoice = choice
    for (let k = 0; k <= EXPONENT_MAX - digitCount; k++) {
      const e = k === 0 ? max(EXPONENT_USUAL, digitCount) : digitCount + k - 1
      const exceptionCountLimit = min(sampleCount >> 3, (tenthsMin - digitTenths - 1) / 800)
      const exceptionCount = countExceptions(valuesPtr, count, sampleCount, e, e - digitCount, exceptionCountLimit)
      if (exceptionCount <= exceptionCountLimit) {
        tenthsMin = digitTenths + exceptionCount * 800
        choice = (e << 8) | (e - digitCount)
        if (exceptionCount === 0) break
      } else if (k === 1 && choice === digitChoice) break
    }
  }
  return choice
}

/** Exceptions among the sample; stops counting above the limit. */
function countExceptions(valuesPtr: usize, count: i32, sampleCount: i32, e: i32, f: i32, limit: i32): i32 {
  const up = load<f64>(POWERS + ((<usize>e) << 3))
  const down = load<f64>(INVERSE_POWERS + ((<usize>f) << 3))
  const upBack = load<f64>(POWERS + ((<usize>f) << 3))
  const downBack = load<f64>(INVERSE_POWERS + ((<usize>e) << 3))
  let exceptionCount = 0
  for (let k = 0; k < sampleCount && exceptionCount <= limit; k++) {
    const value = load<f64>(valuesPtr + ((<usize>((k * count) / sampleCount)) << 3))
    const scaled = value * up * down
    const back = (scaled + MAGIC - MAGIC) * upBack * downBack
    exceptionCount += i32(!(abs(scaled) < <f64>MAGIC_INTEGER_MAX && reinterpret<i64>(back) === reinterpret<i64>(value)))
  }
  return exceptionCount
}
