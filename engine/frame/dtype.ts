// The types a column can have.

export type DType = 'int64' | 'float64' | 'string' | 'time' | 'bool' | 'null'

/** The number of each type in proto/frames.proto and in stored blocks. */
export const dtypeNumbers = { int64: 1, float64: 2, string: 3, time: 4, bool: 5, null: 6 } as const satisfies Record<
  DType,
  number
>

const dtypesByNumber: readonly (DType | undefined)[] = [undefined, 'int64', 'float64', 'string', 'time', 'bool', 'null']

export function dtypeOfNumber(number: number): DType | undefined {
  return dtypesByNumber[number]
}

/** A time as a plain value (a label, an argument): nanoseconds since 1970 UTC. */
export interface TimeValue {
  readonly timeNs: bigint
}

/** A single value: a label of a frame, an argument of a command. bigint is int64, number is float64. */
export type Value = boolean | number | bigint | string | TimeValue

/** Whether a text has half a surrogate pair, which no UTF-8 can say: it would be stored as U+FFFD. */
export function hasHalfPair(text: string): boolean {
  return halfPair.test(text)
}

/** With `u`, whole pairs are one character, and none of these. */
const halfPair = /\p{Surrogate}/u
