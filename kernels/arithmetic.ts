// Arithmetic on columns. int64 is exact: rows that overflow or divide by zero are told apart by a bitmap.
import { lowBits, storeTail } from './bits'

// Operators: 0 +, 1 -, 2 *, 3 /, 4 %. A stride of 8 walks a column, a stride of 0 repeats one value.

/** The bits of up to 64 rows that came out, from row on. */
function storeOk(okPtr: usize, row: i32, rowEnd: i32, bits: u64): i32 {
  const ptr = okPtr + (<usize>row >> 3)
  if (rowEnd - row === 64) store<u64>(ptr, bits)
  else storeTail(ptr, rowEnd - row, bits)
  return rowEnd - row - <i32>popcnt(bits & lowBits(rowEnd - row))
}

/** Whether a × b does not fit. */
function overflows(a: i64, b: i64, product: i64): bool {
  // Both in 32 bits with their signs: always fits.
  if (<i64>(<i32>a) === a && <i64>(<i32>b) === b) return false
  if (a === 0 || b === 0) return false
  // -1 first, since the lowest int64 divided by -1 traps.
  if (a === -1) return b === i64.MIN_VALUE
  if (b === -1) return a === i64.MIN_VALUE
  return product / b !== a
}

/** Two values, or one twice. */
function loadTwo(ptr: usize, stride: i32): v128 {
  return stride === 0 ? v128.load64_splat(ptr) : v128.load(ptr)
}

/**
 * target[row] = a[row] operator b[row] in int64, division truncating towards zero; 0 where it overflows or divides by
 * zero. Returns the number of such rows.
 *
 * a, b    i64, 8-byte aligned, read only; stride 8: rowCount values, stride 0: one for all rows
 * target  rowCount × i64, may be a or b
 * ok      ceil(rowCount / 8) bytes, overwritten: 1 where the row came out
 */
export function calculateInt64(
  operator: i32,
  aPtr: usize,
  aStride: i32,
  bPtr: usize,
  bStride: i32,
  rowCount: i32,
  targetPtr: usize,
  okPtr: usize,
): i32 {
  let failureCount = 0
  for (let row = 0; row < rowCount; row += 64) {
    const rowEnd = min(row + 64, rowCount)
    let failures: u64 = 0
    const blockPtr = targetPtr
    let i = row
    if (operator <= 1) {
      for (; i <= rowEnd - 2; i += 2) {
        const a = loadTwo(aPtr, aStride)
        const b = loadTwo(bPtr, bStride)
        const result = operator === 0 ? i64x2.add(a, b) : i64x2.sub(a, b)
        // The sign is wrong: of a sum that both operands differ from, of a difference that lies on b's side of a.
        const wrong = v128.and(v128.xor(a, result), v128.xor(operator === 0 ? b : a, operator === 0 ? result : b))
        failures |= (<u64>i64x2.bitmask(wrong)) << (i - row)
        v128.store(targetPtr, result)
        aPtr += aStride << 1
        bPtr += bStride << 1
        targetPtr += 16
      }
    }
    for (; i < rowEnd; i++) {
      const a = load<i64>(aPtr)
      const b = load<i64>(bPtr)
      let result: i64 = 0
      let isWrong = false
      if (operator === 0) {
        result = a + b
        isWrong = ((a ^ result) & (b ^ result)) < 0
      } else if (operator === 1) {
        result = a - b
        isWrong = ((a ^ result) & (a ^ b)) < 0
      } else if (operator === 2) {
        result = a * b
        isWrong = overflows(a, b, result)
      } else {
        isWrong = b === 0 || (operator === 3 && b === -1 && a === i64.MIN_VALUE)
        // The lowest int64 % -1 is 0 in WebAssembly too.
        if (!isWrong) result = operator === 3 ? a / b : a % b
      }
      failures |= (<u64>isWrong) << (i - row)
      store<i64>(targetPtr, result)
      aPtr += aStride
      bPtr += bStride
      targetPtr += 8
    }
    for (let word = failures; word !== 0; word &= word - 1) store<i64>(blockPtr + ((<usize>ctz(word)) << 3), 0)
    failureCount += storeOk(okPtr, row, rowEnd, ~failures)
  }
  return failureCount
}

/**
 * target[row] = a[row] operator b[row] in float64; `%` has the sign of a, as in C and JavaScript. Shapes as
 * calculateInt64.
 */
export function calculateFloat64(
  operator: i32,
  aPtr: usize,
  aStride: i32,
  bPtr: usize,
  bStride: i32,
  rowCount: i32,
  targetPtr: usize,
): void {
  let row = 0
  if (operator !== 4) {
    for (; row <= rowCount - 2; row += 2) {
      const a = loadTwo(aPtr, aStride)
      const b = loadTwo(bPtr, bStride)
      let result: v128
      if (operator === 0) result = f64x2.add(a, b)
      else if (operator === 1) result = f64x2.sub(a, b)
      else if (operator === 2) result = f64x2.mul(a, b)
      else result = f64x2.div(a, b)
      v128.store(targetPtr, result)
      aPtr += aStride << 1
      bPtr += bStride << 1
      targetPtr += 16
    }
  }
  for (; row < rowCount; row++) {
    const a = load<f64>(aPtr)
    const b = load<f64>(bPtr)
    let result: f64
    if (operator === 0) result = a + b
    else if (operator === 1) result = a - b
    else if (operator === 2) result = a * b
    else if (operator === 3) result = a / b
    else result = a % b
    store<f64>(targetPtr, result)
    aPtr += aStride
    bPtr += bStride
    targetPtr += 8
  }
}

/**
 * target[row] = the lesser of a[row] and b[row] in int64, or with isMax the greater. Shapes as calculateInt64.
 */
export function extremeInt64(
  isMax: i32,
  aPtr: usize,
  aStride: i32,
  bPtr: usize,
  bStride: i32,
  rowCount: i32,
  targetPtr: usize,
): void {
  for (let row = 0; row < rowCount; row++) {
    const a = load<i64>(aPtr)
    const b = load<i64>(bPtr)
    store<i64>(targetPtr, select<i64>(b, a, isMax ? b > a : b < a))
    aPtr += aStride
    bPtr += bStride
    targetPtr += 8
  }
}

/** As extremeInt64 in float64: NaN wins, and of two that are equal (0 and -0) a. */
export function extremeFloat64(
  isMax: i32,
  aPtr: usize,
  aStride: i32,
  bPtr: usize,
  bStride: i32,
  rowCount: i32,
  targetPtr: usize,
): void {
  for (let row = 0; row < rowCount; row++) {
    const a = load<f64>(aPtr)
    const b = load<f64>(bPtr)
    const isB = (isMax ? b > a : b < a) || (f64.ne(b, b) && f64.eq(a, a))
    store<f64>(targetPtr, select<f64>(b, a, isB))
    aPtr += aStride
    bPtr += bStride
    targetPtr += 8
  }
}
