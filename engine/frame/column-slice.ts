// A column as kernels see it: pointers into the shared memory. The public, typed form is in column.ts.
import type { DType, Value } from './dtype.js'

/**
 * One named, typed run of values in the Arrow columnar layout. Plain numbers, so that a message can carry it.
 *
 * kind           'slice': one value a row. 'label': one value that stands for rowCount copies (buffers hold one row).
 * valuesPtr      int64, time: rowCount × i64 (time: nanoseconds since 1970 UTC). float64: rowCount × f64.
 *                bool: ceil(rowCount / 8) bytes, row 0 is the lowest bit. string: (rowCount + 1) × u32 offsets into
 *                bytesPtr, the first 0. 8-byte aligned. null: 0.
 * validityPtr    ceil(rowCount / 8) bytes, 8-byte aligned, row 0 is the lowest bit, 1 = present, bits past the last row 0;
 *                0 when no row is missing. A missing cell's value is 0, 0.0, false or ''.
 * bytesPtr       string: UTF-8 text; else 0.
 * byteLength     string: bytes of text; else 0.
 */
export interface ColumnSlice {
  readonly name: string
  readonly dtype: DType
  readonly kind: 'slice' | 'label'
  readonly rowCount: number
  readonly valuesPtr: number
  readonly validityPtr: number
  readonly bytesPtr: number
  readonly byteLength: number
}

/** A frame whose columns stand in the shared memory, or in memory of its own. */
export interface FrameSlice {
  /** What the columns' pointers refer to; absent: the shared memory. */
  readonly memory?: Uint8Array
  readonly rowCount: number
  readonly columns: readonly ColumnSlice[]
  readonly indices: readonly ColumnSlice[]
  readonly labels: readonly FrameLabel[]
}

export interface FrameLabel {
  readonly name: string
  readonly value: Value
}
