// A small table as plain values: what a command answers with.

/** A small table as plain values, for answers of commands. */
export interface PlainFrame {
  readonly columns: readonly PlainColumn[]
}

export interface PlainColumn {
  readonly name: string
  readonly dtype: 'int64' | 'float64' | 'string' | 'time' | 'bool'
  /** null: there is none. */
  readonly values: readonly (bigint | number | string | boolean | null)[]
}
