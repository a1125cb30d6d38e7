// Comparisons with a constant as a closed range [first, last] of integers, or as the rest of them. Internal to the kernels
// that mark rows.

export const OPERATOR_NOT_EQUAL = 1
export const OPERATOR_LESS = 2
export const OPERATOR_LESS_OR_EQUAL = 3
export const OPERATOR_GREATER = 4

// < is the rest of >=, and > the rest of <=, which spares the values before the lowest and after the highest.

export function firstOfRange(operator: i32, constant: i64): i64 {
  return operator === OPERATOR_LESS_OR_EQUAL || operator === OPERATOR_GREATER ? i64.MIN_VALUE : constant
}

export function lastOfRange(operator: i32, constant: i64): i64 {
  return operator === OPERATOR_LESS || operator > OPERATOR_GREATER ? i64.MAX_VALUE : constant
}

/** -1 where the rows outside the range hold, 0 where those inside do. */
export function invertedRange(operator: i32): i32 {
  return operator === OPERATOR_NOT_EQUAL || operator === OPERATOR_LESS || operator === OPERATOR_GREATER ? -1 : 0
}
