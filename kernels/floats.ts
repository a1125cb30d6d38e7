// Pages of float64: scaled decimals (ALP) where the values are decimals, their bits as integers where they are not.
import { maskOfWidth, readBits } from './codes'
import { MAGIC, MAGIC_BITS, MAGIC_INTEGER_MAX } from './floats-as-integers'
import { decodeInt64Page, encodeInt64Page, maxEncodedInt64Page } from './ints'
import { CODEC_BITS, CODEC_DECIMALS, PAGE_COUNT_MAX } from './page-codecs'

/** Decimal places that are tried at most. */
const DIGITS_MAX: i32 = 15
const SAMPLE_COUNT: i32 = 32

/** Flags of a page of decimals. */
const DIVIDE: i32 = 1
const ONE_EXCEPTION: i32 = 2
const PLACES_ARE_BITS: i32 = 4
const FLAGS_MAX: i32 = 7
const DECIMALS_HEADER_BYTE_LENGTH: i32 = 5

/** 10^0 … 10^15, all of them exact. */
const POWERS = memory.data<f64>([1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15])

/** Bytes that encodeFloat64Page writes at most. */
export function maxEncodedFloat64Page(count: i32): i32 {
  return 32 + maxEncodedInt64Page(count) + distinctExceptionCountMax(count) * 10
}

/** Exceptions with values of their own: beyond it the bits of all values are smaller. */
function distinctExceptionCountMax(count: i32): i32 {
  return count >> 2
}

/**
 * Encodes the values of one page, bit for bit (NaN payloads, -0, infinities, denormals), and returns the bytes
 * written, at most maxEncodedFloat64Page(count).
 *
 * values   count × f64, 8-byte aligned, 1 <= count <= 4096, read only
 * target   maxEncodedFloat64Page(count) bytes; all of them may be written
 * scratch  PAGE_SCRATCH bytes, 16-byte aligned, overwritten
 *
 * Decimals: integers n with a common number of decimal places d, found on a sample, as an int64 page, so that a slowly
 * moving series is stored as deltas. What does not come back bit for bit is an exception. This is ALP (Afroozeh, Kuffo,
 * Boncz: ALP: Adaptive lossless floating-point compression, SIGMOD 2023) with two of its products: n × 10^(14 - d) ×
 * 10^-14, since the double 10^-14 is far closer to its power of ten than the others up to 10^-22 (in trials at most 1 %
 * exceptions, the others 13 % and more), where the values allow it, and n / 10^d, which is always right but slower.
 *
 * Others: the bits of the values as integers, the sign moved to the lowest bit if there are both, without the zeros
 * that all of them end with (float32 stored as float64 has 29). On random walks their deltas take 6.35 bytes where the XOR
 * of Gorilla takes 7.00 and that of Chimp 6.58 (2.7, 3.3 and 3.7 for float32), and they are read as fast as integers.
 */
export function encodeFloat64Page(valuesPtr: usize, count: i32, targetPtr: usize, scratchPtr: usize): i32 {
  const digitCount = chooseDigits(valuesPtr, count)
  if (digitCount >= 0) {
    const byteLength = encodeDecimals(valuesPtr, count, digitCount, targetPtr, scratchPtr)
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
  if (byteLength < 3 || count < 1 || count > PAGE_COUNT_MAX) return -1
  const codec = <i32>load<u8>(pagePtr)
  if (codec === CODEC_BITS) return decodeBits(pagePtr, byteLength, count, targetPtr)
  if (codec === CODEC_DECIMALS) return decodeDecimals(pagePtr, byteLength, count, targetPtr)
  return -1
}

/** Encodes with a number of decimal places; returns the bytes written, or 0 when there are too many exceptions. */
function encodeDecimals(valuesPtr: usize, count: i32, digitCount: i32, targetPtr: usize, scratchPtr: usize): i32 {
  const integersPtr = scratchPtr
  const bitsPtr = integersPtr + ((<usize>PAGE_COUNT_MAX) << 3) + 16
  const divideBitsPtr = bitsPtr + 1024
  const placesPtr = divideBitsPtr + 1024
  const fewCount = count >> 8
  let flags = 0
  let exceptionCount = count
  let exceptionBitsPtr = bitsPtr
  if (productsSeemExact(valuesPtr, count, digitCount)) {
    exceptionCount = writeIntegers(valuesPtr, count, digitCount, false, integersPtr, bitsPtr)
  }
  if (exceptionCount > fewCount) {
    // The integers are the same either way.
    const divideCount = writeIntegers(valuesPtr, count, digitCount, true, integersPtr, divideBitsPtr)
    let isBetter = divideCount + fewCount < exceptionCount
    if (!isBetter && divideCount < exceptionCount) {
      // A few values that only division brings back, among many NaN: each of them all would be stored.
      writePlaces(bitsPtr, count, placesPtr)
      isBetter = !isOneValue(valuesPtr, placesPtr, exceptionCount)
    }
    if (isBetter) {
      exceptionCount = divideCount
      exceptionBitsPtr = divideBitsPtr
      flags = DIVIDE
    }
  }
  if (exceptionCount > count >> 1) return 0
  writePlaces(exceptionBitsPtr, count, placesPtr)
  if (exceptionCount > 1 && isOneValue(valuesPtr, placesPtr, exceptionCount)) flags |= ONE_EXCEPTION
  const valueCount = (flags & ONE_EXCEPTION) !== 0 ? 1 : exceptionCount
  if (valueCount > max(1, distinctExceptionCountMax(count))) return 0

  // The integer of an exception is never read: it repeats its neighbour, to be small as a delta.
  let firstPlain = 0
  while (firstPlain < exceptionCount && placeAt(placesPtr, firstPlain) === firstPlain) firstPlain++
  for (let k = 0; k < exceptionCount; k++) {
    const place = placeAt(placesPtr, k)
    const neighbour = k < firstPlain ? firstPlain : place - 1
    store<i64>(integersPtr + ((<usize>place) << 3), load<i64>(integersPtr + ((<usize>neighbour) << 3)))
  }

  const bitsByteLength = <usize>((count + 7) >> 3)
  if ((<usize>exceptionCount) << 1 > bitsByteLength) flags |= PLACES_ARE_BITS
  store<u8>(targetPtr, <u8>CODEC_DECIMALS)
  store<u8>(targetPtr, <u8>digitCount, 1)
  store<u8>(targetPtr, <u8>flags, 2)
  store<u16>(targetPtr, <u16>exceptionCount, 3)
  let target = targetPtr + DECIMALS_HEADER_BYTE_LENGTH
  if ((flags & PLACES_ARE_BITS) !== 0) {
    memory.copy(target, exceptionBitsPtr, bitsByteLength)
    target += bitsByteLength
  } else {
    memory.copy(target, placesPtr, (<usize>exceptionCount) << 1)
    target += (<usize>exceptionCount) << 1
  }
  for (let k = 0; k < valueCount; k++) {
    store<u64>(target, load<u64>(valuesPtr + ((<usize>placeAt(placesPtr, k)) << 3)))
    target += 8
  }
  return (
    <i32>(target - targetPtr) + encodeInt64Page(integersPtr, count, target, scratchPtr + ((<usize>PAGE_COUNT_MAX) << 4))
  )
}

/**
 * Writes the integers of all values, and a bit for each value: 1 for exceptions, row 0 the lowest, 0 past the last row;
 * returns the number of exceptions.
 *
 * integers  count × i64 and 8 bytes more, 16-byte aligned
 * bits      whole 64-bit words for count bits
 */
function writeIntegers(
  valuesPtr: usize,
  count: i32,
  digitCount: i32,
  divides: bool,
  integersPtr: usize,
  bitsPtr: usize,
): i32 {
  const power = f64x2.splat(powerOf(digitCount))
  const upBack = f64x2.splat(powerOf(14 - digitCount))
  const downBack = f64x2.splat(1e-14)
  const magic = f64x2.splat(MAGIC)
  const limit = f64x2.splat(<f64>MAGIC_INTEGER_MAX)
  const end = valuesPtr + ((<usize>count) << 3)
  const shift = integersPtr - valuesPtr
  let exactCount = 0
  let wordPtr = bitsPtr
  for (let wordStart = valuesPtr; wordStart < end; wordStart += 512) {
    const wordEnd = min(wordStart + 512, end)
    let exact: u64 = 0
    let row: u64 = 0
    for (let ptr = wordStart; ptr < wordEnd; ptr += 16) {
      // The last value of an odd count is taken twice.
      const values = ptr + 16 <= end ? v128.load(ptr) : v128.load64_splat(ptr)
      const scaled = f64x2.mul(values, power)
      const rounded = f64x2.add(scaled, magic)
      const integers = f64x2.sub(rounded, magic)
      const back = divides ? f64x2.div(integers, power) : f64x2.mul(f64x2.mul(integers, upBack), downBack)
      const isExact = v128.and(i64x2.eq(back, values), f64x2.lt(f64x2.abs(scaled), limit))
      v128.store(ptr + shift, i64x2.sub(rounded, magic))
      exact |= (<u64>i64x2.bitmask(isExact)) << row
      row += 2
    }
    const rowBits = maskOfWidth(<i32>((wordEnd - wordStart) >> 3))
    exactCount += <i32>popcnt(exact & rowBits)
    store<u64>(wordPtr, ~exact & rowBits)
    wordPtr += 8
  }
  return count - exactCount
}

/** Writes the number (u16) of each row whose bit is set. */
function writePlaces(bitsPtr: usize, count: i32, placesPtr: usize): void {
  let place = placesPtr
  for (let start = 0; start < count; start += 64) {
    let bits = load<u64>(bitsPtr + (<usize>start >> 3))
    for (; bits !== 0; bits &= bits - 1) {
      store<u16>(place, <u16>(start + <i32>ctz(bits)))
      place += 2
    }
  }
}

function powerOf(exponent: i32): f64 {
  return exponent < 0 ? 1 : load<f64>(POWERS + ((<usize>exponent) << 3))
}

function placeAt(placesPtr: usize, k: i32): i32 {
  return <i32>load<u16>(placesPtr + ((<usize>k) << 1))
}

/** Whether all exceptions have the same bits, as NaN for "no value" has. */
function isOneValue(valuesPtr: usize, placesPtr: usize, exceptionCount: i32): bool {
  const first = load<u64>(valuesPtr + ((<usize>placeAt(placesPtr, 0)) << 3))
  for (let k = 1; k < exceptionCount; k++) {
    if (load<u64>(valuesPtr + ((<usize>placeAt(placesPtr, k)) << 3)) !== first) return false
  }
  return true
}

function decodeDecimals(pagePtr: usize, byteLength: i32, count: i32, targetPtr: usize): i32 {
  if (byteLength < DECIMALS_HEADER_BYTE_LENGTH) return -1
  const digitCount = <i32>load<u8>(pagePtr, 1)
  const flags = <i32>load<u8>(pagePtr, 2)
  const exceptionCount = <i32>load<u16>(pagePtr, 3)
  if (digitCount > DIGITS_MAX || flags > FLAGS_MAX || exceptionCount > count) return -1
  const valueCount = (flags & ONE_EXCEPTION) !== 0 ? 1 : exceptionCount
  const placesByteLength = (flags & PLACES_ARE_BITS) !== 0 ? (count + 7) >> 3 : exceptionCount << 1
  const headerByteLength = DECIMALS_HEADER_BYTE_LENGTH + placesByteLength + (valueCount << 3)
  if (byteLength < headerByteLength) return -1
  const placesPtr = pagePtr + <usize>DECIMALS_HEADER_BYTE_LENGTH
  const exceptionsPtr = placesPtr + <usize>placesByteLength
  const integersPtr = pagePtr + <usize>headerByteLength
  if (decodeInt64Page(integersPtr, byteLength - headerByteLength, count, targetPtr) < 0) return -1
  if ((flags & DIVIDE) !== 0) divideIntegers(targetPtr, count, digitCount)
  else multiplyIntegers(targetPtr, count, digitCount)

  // One value for all exceptions is read again and again, others one after the other.
  const valueStep: usize = (flags & ONE_EXCEPTION) !== 0 ? 0 : 8
  let exceptionPtr = exceptionsPtr
  if ((flags & PLACES_ARE_BITS) !== 0) {
    let left = exceptionCount
    for (let start = 0; start < count; start += 64) {
      const rowCount = min(64, count - start)
      let places = readBits(placesPtr, exceptionsPtr, <usize>start, rowCount)
      left -= <i32>popcnt(places)
      if (left < 0) return -1
      const rowsPtr = targetPtr + ((<usize>start) << 3)
      for (; places !== 0; places &= places - 1) {
        store<u64>(rowsPtr + ((<usize>ctz(places)) << 3), load<u64>(exceptionPtr))
        exceptionPtr += valueStep
      }
    }
    return left === 0 ? 0 : -1
  }
  for (let k = 0; k < exceptionCount; k++) {
    const place = placeAt(placesPtr, k)
    if (place >= count) return -1
    store<u64>(targetPtr + ((<usize>place) << 3), load<u64>(exceptionPtr))
    exceptionPtr += valueStep
  }
  return 0
}

/** In place: n × 10^(14 - digits) × 10^-14 of integers n. */
function multiplyIntegers(ptr: usize, count: i32, digitCount: i32): void {
  const up = powerOf(14 - digitCount)
  const ups = f64x2.splat(up)
  const downs = f64x2.splat(1e-14)
  const magic = f64x2.splat(MAGIC)
  const end = ptr + ((<usize>count) << 3)
  let at = ptr
  for (; at + 32 <= end; at += 32) {
    const a = f64x2.sub(i64x2.add(v128.load(at), magic), magic)
    const b = f64x2.sub(i64x2.add(v128.load(at, 16), magic), magic)
    v128.store(at, f64x2.mul(f64x2.mul(a, ups), downs))
    v128.store(at, f64x2.mul(f64x2.mul(b, ups), downs), 16)
  }
  for (; at < end; at += 8) {
    store<f64>(at, (reinterpret<f64>(load<i64>(at) + MAGIC_BITS) - MAGIC) * up * 1e-14)
  }
}

/** In place: n / 10^digits of integers n. */
function divideIntegers(ptr: usize, count: i32, digitCount: i32): void {
  const power = powerOf(digitCount)
  const powers = f64x2.splat(power)
  const magic = f64x2.splat(MAGIC)
  const end = ptr + ((<usize>count) << 3)
  let at = ptr
  for (; at + 32 <= end; at += 32) {
    const a = f64x2.sub(i64x2.add(v128.load(at), magic), magic)
    const b = f64x2.sub(i64x2.add(v128.load(at, 16), magic), magic)
    v128.store(at, f64x2.div(a, powers))
    v128.store(at, f64x2.div(b, powers), 16)
  }
  for (; at < end; at += 8) store<f64>(at, (reinterpret<f64>(load<i64>(at) + MAGIC_BITS) - MAGIC) / power)
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
 * The number of decimal places that costs least on a sample, -1 when the values are no decimals. A place costs 3.3 bits,
 * an exception 80; NaN is no reason for or against.
 */
function chooseDigits(valuesPtr: usize, count: i32): i32 {
  const sampleCount = min(SAMPLE_COUNT, count)
  const exceptionCountMax = sampleCount >> 3
  let choice = -1
  let tenthsMin = i32.MAX_VALUE
  for (let digitCount = 0; digitCount <= DIGITS_MAX; digitCount++) {
    const digitTenths = digitCount * 33 * sampleCount
    if (digitTenths >= tenthsMin) break
    const power = powerOf(digitCount)
    let exceptionCount = 0
    let nanCount = 0
    for (let k = 0; k < sampleCount && exceptionCount <= exceptionCountMax; k++) {
      const value = load<f64>(valuesPtr + ((<usize>((k * count) / sampleCount)) << 3))
      const scaled = value * power
      const back = (scaled + MAGIC - MAGIC) / power
      const isExact = abs(scaled) < <f64>MAGIC_INTEGER_MAX && reinterpret<i64>(back) === reinterpret<i64>(value)
      const isNotANumber = f64.ne(value, value)
      nanCount += i32(isNotANumber)
      exceptionCount += i32(!isExact && !isNotANumber)
    }
    if (nanCount === sampleCount) return -1
    if (exceptionCount <= exceptionCountMax && digitTenths + exceptionCount * 800 < tenthsMin) {
      tenthsMin = digitTenths + exceptionCount * 800
      choice = digitCount
    }
  }
  return choice
}

/** Whether products bring back all but one of the sample at most; NaN is no reason against. */
function productsSeemExact(valuesPtr: usize, count: i32, digitCount: i32): bool {
  const sampleCount = min(SAMPLE_COUNT, count)
  const power = powerOf(digitCount)
  const upBack = powerOf(14 - digitCount)
  let exceptionCount = 0
  for (let k = 0; k < sampleCount; k++) {
    const value = load<f64>(valuesPtr + ((<usize>((k * count) / sampleCount)) << 3))
    const back = (value * power + MAGIC - MAGIC) * upBack * 1e-14
    exceptionCount += i32(reinterpret<i64>(back) !== reinterpret<i64>(value) && f64.eq(value, value) !== 0)
  }
  return exceptionCount <= 1
}
