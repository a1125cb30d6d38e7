// Frames → rows as JSON objects, one object a row: index columns first, then data columns, under the names of rows.ts.
import { bitAt } from '../frame/bitmap.js'
import type { Column } from '../frame/column.js'
import type { Frame } from '../frame/frame.js'
import { namedColumns } from '../frame/rows.js'
import { formatTimeNs } from '../time.js'

/**
 * The rows of a frame, each followed by `end`: "\n" makes newline-delimited JSON; for an array put "," between the rows
 * (see jsonArrayRows). Nothing for a frame without rows.
 *
 * int64    a number up to 2^53 - 1 either way, beyond that text of digits, since JSON readers know doubles only
 * float64  a number; NaN and infinities as the texts "NaN", "Infinity", "-Infinity" (as in the JSON mapping of protocol
 *          buffers), because null means a missing cell
 * time     RFC 3339 text in UTC
 * missing  null
 *
 * Throws FRAME_SHAPE when two columns have one name.
 */
export function jsonRows(frame: Frame, end: string): string {
  const columns = namedColumns(frame, true).map(({ name, column }) => ({
    key: `${JSON.stringify(name)}:`,
    cell: cellWriter(column),
  }))
  let text = ''
  for (let row = 0; row < frame.length; row++) {
    let separator = '{'
    for (const { key, cell } of columns) {
      text += separator + key + cell(row)
      separator = ','
    }
    text += (separator === '{' ? '{}' : '}') + end
  }
  return text
}

/** The rows of a frame as elements of a JSON array that other frames may precede or follow. */
export function jsonArrayRows(frame: Frame): string {
  return jsonRows(frame, ',').slice(0, -1)
}

/** Frames as one JSON array of row objects. */
export function jsonArray(frames: Iterable<Frame>): string {
  const parts = Array.from(frames, jsonArrayRows).filter((part) => part !== '')
  return `[${parts.join(',')}]`
}

function cellWriter(column: Column): (row: number) => string {
  const { validity } = column
  const present = presentCellWriter(column)
  if (validity === null) return present
  return (row) => (bitAt(validity, row) ? present(row) : 'null')
}

function presentCellWriter(column: Column): (row: number) => string {
  switch (column.dtype) {
    case 'int64':
      return (row) => integerText(column.intAt(row))
    case 'float64':
      return (row) => floatJson(column.floatAt(row))
    case 'time':
      return (row) => `"${formatTimeNs(column.timeNsAt(row))}"`
    case 'bool':
      return (row) => String(column.boolAt(row))
    case 'string': {
      if (column.kind === 'slice' || column.length === 0) return (row) => JSON.stringify(column.stringAt(row))
      const text = JSON.stringify(column.stringAt(0))
      return () => text
    }
    case 'null':
      return () => 'null'
  }
}

const safeMax = BigInt(Number.MAX_SAFE_INTEGER)

function integerText(value: bigint): string {
  return value <= safeMax && value >= -safeMax ? String(value) : `"${value}"`
}

function floatJson(value: number): string {
  if (Number.isFinite(value)) return Object.is(value, -0) ? '-0' : String(value)
  return `"${value}"`
}
