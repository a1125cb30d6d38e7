// Grafana's SimpleJSON data source: targets are texts that name a read, answers are tables, time series, or flat values.
import { fromBinary } from '@bufbuild/protobuf'
import { FramesError, type ReadRequest } from '../engine/index.js'
import { type Column, Column_Kind, DType, type Frame, FrameSchema, type Value } from '../proto/gen/frames_pb.js'
import { type Json, JsonError, parseJson } from './wire/json.js'

/** What a target names. Empty: not given. */
export interface Target {
  readonly filter: string
  readonly fields: readonly string[]
  readonly table: string
  readonly backend: string
  readonly container: string
  readonly step: string
  readonly query: string
  readonly isTable: boolean
}

const isAll = ({ fields }: Pick<Target, 'fields'>): boolean => fields.length === 0 || fields[0] === '*'

export interface Range {
  readonly from: string
  readonly to: string
}

export interface QueryRequest {
  readonly range: Range | null
  readonly targets: readonly Target[]
}

const partNames = ['filter', 'fields', 'table', 'backend', 'container', 'step', 'query'] as const
type PartName = (typeof partNames)[number]

/** `name=value;name=value…`. Throws MALFORMED_REQUEST for a part that is none. */
export function parseTarget(text: string, isTable: boolean): Target {
  const values: Record<PartName, string> = {
    filter: '',
    fields: '',
    table: '',
    backend: '',
    container: '',
    step: '',
    query: '',
  }
  for (const part of text.split(';')) {
    if (part.trim() === '') continue
    const equalsAt = part.indexOf('=')
    const name = partNames.find((known) => equalsAt >= 0 && known === part.slice(0, equalsAt).trim())
    if (name === undefined) {
      const what = `field ${part} is illegal. field should be one of ${partNames.join('|')}`
      throw new FramesError('MALFORMED_REQUEST', what)
    }
    values[name] = part.slice(equalsAt + 1).trim()
  }
  return { ...values, fields: values.fields === '' ? [] : values.fields.split(','), isTable }
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function bodyOf(body: Uint8Array): Map<string, Json> {
  try {
    const value = parseJson(strictUtf8.decode(body))
    if (value instanceof Map) return value
    throw new JsonError('the body is no object')
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new FramesError('MALFORMED_REQUEST', reason, { cause })
  }
}

function textOf(value: Json | undefined, name: string): string {
  if (value === undefined || value === null) return ''
  if (typeof value === 'string') return value
  throw new FramesError('MALFORMED_REQUEST', `${name} is no text`)
}

/** The body of /query. Throws MALFORMED_REQUEST. */
export function parseQuery(body: Uint8Array): QueryRequest {
  const request = bodyOf(body)
  const range = request.get('range') ?? null
  const targets = request.get('targets') ?? []
  if (!Array.isArray(targets)) throw new FramesError('MALFORMED_REQUEST', 'targets is no array')
  if (range !== null && !(range instanceof Map)) throw new FramesError('MALFORMED_REQUEST', 'range is no object')
  return {
    range: range === null ? null : { from: textOf(range.get('from'), 'from'), to: textOf(range.get('to'), 'to') },
    targets: targets.map((target) => {
      if (!(target instanceof Map)) throw new FramesError('MALFORMED_REQUEST', 'a target is no object')
      try {
        const isTable = textOf(target.get('type'), 'type') === 'table'
        return parseTarget(textOf(target.get('target'), 'target'), isTable)
      } catch (error) {
        throw error instanceof FramesError ? error.prefixed('Failed to parse target') : error
      }
    }),
  }
}

/** The body of /search. Throws MALFORMED_REQUEST. */
export function parseSearch(body: Uint8Array): Target {
  return parseTarget(textOf(bodyOf(body).get('target'), 'target'), true)
}

/** The read of a target; backendType: of the backend that it names. */
export function readOf(target: Target, range: Range | null, backendType: string | null): ReadRequest {
  const { backend, table, filter, container, step, query, fields } = target
  // The time of samples is an index, which no read names among its columns.
  const columns = fields.filter((name) => backendType !== 'tsdb' || name !== 'time')
  const times = {
    ...(range === null || range.from === '' ? {} : { start: range.from }),
    ...(range === null || range.to === '' ? {} : { end: range.to }),
  }
  return {
    backend,
    table,
    ...(container === '' ? {} : { session: { container } }),
    ...(isAll(target) || query !== '' || columns.length === 0 ? {} : { columns }),
    ...(filter === '' ? {} : { filter }),
    ...(backendType === 'tsdb'
      ? { ...times, ...(step === '' ? {} : { step }), ...(query === '' ? {} : { query }) }
      : {}),
    // A target has no word for where to begin.
    ...(backendType !== 'stream' ? {} : times.start === undefined ? { seek: 'earliest' } : { seek: 'time', ...times }),
  }
}

/** Cells of one answer: they are JavaScript values on the main thread. */
const cellCountMax = 1_000_000

/** Frames of a read, as long as there are few enough cells. */
export class AnswerFrames {
  #cellCount = 0

  /** Throws MEMORY_BUDGET. */
  decode(bytes: Uint8Array): Frame {
    const frame = fromBinary(FrameSchema, bytes)
    this.#cellCount += rowCountOf(frame) * (frame.columns.length + frame.indices.length)
    if (this.#cellCount > cellCountMax) {
      const what = `the answer has more than ${cellCountMax} cells: ask for a shorter range, a longer step or fewer fields`
      throw new FramesError('MEMORY_BUDGET', what)
    }
    return frame
  }
}

function lengthOf(column: Column): number {
  if (column.kind === Column_Kind.LABEL) return Number(column.size)
  return Math.max(
    column.ints.length,
    column.floats.length,
    column.strings.length,
    column.times.length,
    column.bools.length,
  )
}

function rowCountOf({ columns, indices }: Frame): number {
  const [first] = columns.length > 0 ? columns : indices
  return first === undefined ? 0 : lengthOf(first)
}

type Cell = bigint | number | string | boolean | null | { readonly timeNs: bigint }

/** null: missing, and also a NaN or infinity, which JSON has not. */
function cellOf(frame: Frame, column: Column, row: number): Cell {
  if (frame.nullValues[row]?.nullColumns[column.name] === true) return null
  const at = column.kind === Column_Kind.LABEL ? 0 : row
  switch (column.dtype) {
    case DType.INTEGER:
      return column.ints[at] ?? null
    case DType.FLOAT: {
      const value = column.floats[at]
      return value === undefined || !Number.isFinite(value) ? null : value
    }
    case DType.STRING:
      return column.strings[at] ?? null
    case DType.TIME: {
      const timeNs = column.times[at]
      return timeNs === undefined ? null : { timeNs }
    }
    case DType.BOOLEAN:
      return column.bools[at] ?? null
    default:
      return null
  }
}

const nsPerMs = 1_000_000n

function rfc3339(timeNs: bigint): string {
  const rest = ((timeNs % nsPerMs) + nsPerMs) % nsPerMs
  const text = new Date(Number((timeNs - rest) / nsPerMs)).toISOString()
  const fraction = `${text.slice(20, 23)}${String(rest).padStart(6, '0')}`.replace(/0+$/, '')
  return `${text.slice(0, 19)}${fraction === '' ? '' : `.${fraction}`}Z`
}

function cellJson(cell: Cell): string {
  if (cell === null || typeof cell === 'boolean' || typeof cell === 'number') return String(cell)
  if (typeof cell === 'bigint') return String(cell)
  return JSON.stringify(typeof cell === 'string' ? cell : rfc3339(cell.timeNs))
}

/** As a cell, but a time is its milliseconds. */
function timeJson(cell: Cell): string {
  return cell !== null && typeof cell === 'object' ? String(cell.timeNs / nsPerMs) : cellJson(cell)
}

function named(frame: Frame, name: string): Column | undefined {
  return frame.columns.find((column) => column.name === name) ?? frame.indices.find((index) => index.name === name)
}

/** Fields without a cell in any frame: a read answers a name that nothing has with missing cells. */
export function emptyFields(target: Target, frames: readonly Frame[]): string[] {
  if (isAll(target) || frames.length === 0) return []
  return target.fields.filter((name) =>
    frames.every((frame) => {
      const column = named(frame, name)
      if (column === undefined) return true
      for (let row = 0; row < rowCountOf(frame); row++)
        if (frame.nullValues[row]?.nullColumns[name] !== true) return false
      return true
    }),
  )
}

/** Throws COLUMN_NOT_FOUND for a field that no frame has. */
export function checkFields(fields: readonly string[], frames: readonly Frame[]): void {
  if (frames.length === 0) return
  for (const name of fields) if (frames.every((frame) => named(frame, name) === undefined)) throw notFound(name)
}

function notFound(name: string): FramesError {
  return new FramesError('COLUMN_NOT_FOUND', `Failed to build a response: column "${name}" not found`)
}

function typeText({ dtype }: Column): string {
  switch (dtype) {
    case DType.INTEGER:
    case DType.FLOAT:
      return 'number'
    case DType.TIME:
      return 'time'
    case DType.BOOLEAN:
      return 'boolean'
    default:
      return 'string'
  }
}

/** Names ordered as their bytes are. */
function byName(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** JSON of one table for each frame. Throws COLUMN_NOT_FOUND. */
export function tablesOf(target: Target, frames: readonly Frame[]): string[] {
  return frames.map((frame) => {
    const columns = isAll(target)
      ? [...frame.columns, ...frame.indices.slice(0, 1).filter(({ dtype }) => dtype !== DType.NULL)].sort((a, b) =>
          byName(a.name, b.name),
        )
      : target.fields.map((name) => {
          const column = named(frame, name)
          if (column === undefined) throw notFound(name)
          return column
        })
    const heads = columns.map((column) => JSON.stringify({ text: column.name, type: typeText(column) }))
    const rows = Array.from(
      { length: rowCountOf(frame) },
      (_, row) => `[${columns.map((column) => cellJson(cellOf(frame, column, row))).join(',')}]`,
    )
    return `{"columns":[${heads.join(',')}],"rows":[${rows.join(',')}],"type":"table"}`
  })
}

function labelText({ value }: Value): string {
  return value.case === 'tval' ? rfc3339(value.value) : String(value.value ?? '')
}

/** JSON of one series for each field and label set, points of all frames together. Throws COLUMN_NOT_FOUND. */
export function seriesOf(target: Target, frames: readonly Frame[]): string[] {
  const points = new Map<string, { readonly place: number; readonly points: string[] }>()
  const found = new Set<string>()
  for (const frame of frames) {
    const labels = Object.entries(frame.labels).sort(([a], [b]) => byName(a, b))
    const suffix = `[${labels.map(([name, value]) => `${name}=${labelText(value)}`).join(',')}]`
    const names = isAll(target)
      ? frame.columns.map(({ name }) => name).filter((name) => !Object.hasOwn(frame.labels, name))
      : target.fields
    const time = named(frame, 'time')
    for (const [place, name] of names.entries()) {
      const column = named(frame, name)
      if (column === undefined) continue
      found.add(name)
      const key = `${name}${suffix}`
      let own = points.get(key)
      if (own === undefined) {
        own = { place: isAll(target) ? 0 : place, points: [] }
        points.set(key, own)
      }
      for (let row = 0; row < rowCountOf(frame); row++) {
        const value = cellOf(frame, column, row)
        if (value === null) continue
        own.points.push(`[${cellJson(value)},${timeJson(time === undefined ? null : cellOf(frame, time, row))}]`)
      }
    }
  }
  const missing = isAll(target) ? undefined : target.fields.find((name) => !found.has(name))
  if (missing !== undefined && frames.length > 0) throw notFound(missing)
  return [...points]
    .sort(([a, { place: first }], [b, { place: second }]) => first - second || byName(a, b))
    .map(([name, { points: own }]) => `{"datapoints":[${own.join(',')}],"target":${JSON.stringify(name)}}`)
}

/** The cells of the fields, row by row, as JSON. Throws COLUMN_NOT_FOUND. */
export function valuesOf({ fields }: Target, frames: readonly Frame[]): string[] {
  return frames.flatMap((frame) => {
    const columns = fields.map((name) => {
      const column = named(frame, name)
      if (column === undefined) throw notFound(name)
      return column
    })
    return Array.from({ length: rowCountOf(frame) }, (_, row) =>
      columns.map((column) => cellJson(cellOf(frame, column, row))),
    ).flat()
  })
}
