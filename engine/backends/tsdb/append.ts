// A frame becomes blocks, in a worker: decode the index, group rows by label set, sort by time, then column by column
// decode, order, compress. Everything is validated before anything is stored.
import { type ColumnPart, type NearValues, PageEncoder } from '../../blocks/builder.js'
import type { PreparedBlock } from '../../blocks/merge-rule.js'
import { assert } from '../../assert.js'
import { FramesError, shortened } from '../../errors.js'
import type { ColumnSlice, FrameLabel } from '../../frame/column-slice.js'
import { dtypeNumbers } from '../../frame/dtype.js'
import { valueText } from '../../frame/value-text.js'
import type { Kernels } from '../../kernels/kernels.js'
import { pageRowCountMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import { type FrameInput, type InputFrame, openInput, spreadLabel } from '../frame-input.js'
import type { Directory } from './directory.js'
import type { Grouping, Steps } from './grouping.js'
import { groupRows, labelSources } from './grouping.js'
import { RunWriter } from './run-writer.js'
import { validateLabelName, validateMetricName } from './schema.js'
import type { MetricType, Signature } from './signature.js'
import { conflicts, isMetricType, typeBits } from './signature.js'

/** Sample times are years 1970 to 2400. */
export const timeMsMax = 13_569_465_600_000
const endNs = BigInt(timeMsMax + 1) * 1_000_000n

/** A decoded frame index and what its value columns are; values are decoded one by one. */
export interface OpenFrame {
  readonly rowCount: number
  /** Rows that the sender counts: more than rowCount where all of them are one and the same. */
  readonly sentRowCount: number
  readonly metrics: readonly OpenMetric[]
  /** Metric → bit of its type; one and the same for frames of one shape. */
  readonly types: NeededTypes
  /** i64 ns a row. */
  readonly timesPtr: number
  readonly grouping: Grouping
}

export interface OpenMetric {
  readonly name: string
  readonly dtype: MetricType
  readonly kind: ColumnSlice['kind']
  readonly validityPtr: number
  /** Decodes into scratch. */
  readonly decode: () => ColumnSlice
  /** Decodes into scratch, in as many places as are at hand; null: only in one. */
  readonly decodeParts: (() => readonly ColumnPart[]) | null
  /** Of a string: its cells together, or the one text of a label. */
  readonly textByteLength: number
}

/** How a beginner gets one. */
const timeIndexHow =
  "in pandas a DatetimeIndex makes one (pd.to_datetime), in TypeScript a Date of frameFromRows(rows, ['time'])"

/** Validates a frame and decodes its index. Null for a frame without rows. Throws FramesError. */
export function openFrame(kernels: Kernels, scratch: Scratch, input: FrameInput): OpenFrame | null {
  const parsed = openInput(kernels, scratch, input)
  const { columns, indices, labels } = parsed
  if (parsed.rowCount === 0) return null
  // A message of 60 bytes can say 16 Mi times the same: two of them tell as much.
  const rowCount = areRowsAlike(parsed) ? Math.min(parsed.rowCount, 2) : parsed.rowCount
  if (columns.length === 0) throw new FramesError('INVALID_ARGUMENT', 'empty frame')
  if (indices.length === 0)
    throw new FramesError('INVALID_ARGUMENT', `no indices, must have at least one Time index; ${timeIndexHow}`)
  const timeIndex = indices.findIndex((index) => index.dtype === 'time')
  if (timeIndex < 0) {
    const shown = indices.map(({ name, dtype }) => `'${shortened(name)}' of ${dtype}`).join(', ')
    throw new FramesError('INVALID_ARGUMENT', `there is no index of type time/date, only ${shown}; ${timeIndexHow}`)
  }

  const metricName = metricNameOf(labels, columns.length)
  const metrics = new Map<string, OpenMetric>()
  for (const column of columns) {
    if (column.dtype === 'null') continue
    if (!isMetricType(column.dtype)) {
      throw new FramesError(
        'INVALID_ARGUMENT',
        `cannot write type ${dtypeNumbers[column.dtype]} as time series value (column '${column.name}' of ${column.dtype}; ` +
          'numbers, bool and texts are possible)',
      )
    }
    const where = `column '${column.name}'`
    const name = asAdd(() => validateMetricName(metricName ?? column.name), where)
    if (metrics.has(name)) throw new FramesError('INVALID_ARGUMENT', `two columns are named '${name}' (${where})`)
    metrics.set(name, {
      name,
      dtype: column.dtype,
      kind: column.kind,
      validityPtr: column.validityPtr,
      decode: column.decode,
      decodeParts: null,
      textByteLength: column.textByteLength,
    })
  }
  const timesPtr = materializeTimes(kernels, scratch, indices[timeIndex]!.decode(), rowCount)
  checkTimes(kernels, timesPtr, rowCount, indices[timeIndex]!.name)

  const frameLabels = labels.filter((label) => label.name !== '__name__')
  const taken = new Set(frameLabels.map((label) => label.name))
  const labelIndices = indices.filter((index, i) => i !== timeIndex && index.dtype !== 'null' && !taken.has(index.name))
  for (const index of labelIndices) asAdd(() => validateLabelName(index.name), `index '${index.name}'`)
  for (const label of frameLabels) asAdd(() => validateLabelName(label.name), `label '${label.name}'`)
  const sources = labelSources(
    labelIndices.map((index) => index.decode()),
    frameLabels,
    (label) => valueText(label.value, 'allowed'),
  )
  const grouping = groupRows(kernels, scratch, sources, rowCount, parsed.repeatedRowCount)
  return {
    rowCount,
    sentRowCount: parsed.rowCount,
    metrics: [...metrics.values()],
    types: new Map([...metrics.values()].map(({ name, dtype }) => [name, typeBits[dtype]])),
    timesPtr,
    grouping,
  }
}

/** Whether nothing in the frame tells its rows apart. */
function areRowsAlike({ columns, indices }: InputFrame): boolean {
  return [...columns, ...indices].every(({ kind, dtype, validityPtr }) => {
    if (dtype === 'null') return true
    return kind === 'label' && validityPtr === 0
  })
}

/** The label `__name__` names the metric of a frame that has one value column. */
function metricNameOf(labels: readonly FrameLabel[], columnCount: number): string | null {
  const label = labels.find(({ name }) => name === '__name__')
  if (label === undefined) return null
  if (columnCount > 1)
    throw new FramesError('INVALID_ARGUMENT', 'label __name__ cannot be set with multi column TSDB frames')
  return valueText(label.value, 'allowed')
}

/** Errors of single samples carry upstream's prefix, and where they were found. */
function asAdd<T>(check: () => T, where: string): T {
  try {
    return check()
  } catch (error) {
    if (error instanceof FramesError)
      throw new FramesError(error.code, `failed to Add: ${error.what} (${where}, row 0)`)
    throw error
  }
}

function materializeTimes(kernels: Kernels, scratch: Scratch, column: ColumnSlice, rowCount: number): number {
  if (column.kind === 'slice') return column.valuesPtr
  const ptr = scratch.allocate(8 * rowCount)
  kernels.call.fillInt64(ptr, rowCount, kernels.i64[column.valuesPtr >> 3]!)
  return ptr
}

/** Throws INVALID_ARGUMENT. */
export function checkTimes(kernels: Kernels, timesPtr: number, rowCount: number, name: string): void {
  const { call, i64 } = kernels
  const row = call.firstNotBelow(timesPtr, rowCount, endNs)
  if (row === rowCount) return
  const timeNs = i64[(timesPtr >> 3) + row]!
  const timeMs = timeNs >= 0n ? timeNs / 1_000_000n : -((-timeNs + 999_999n) / 1_000_000n)
  throw new FramesError(
    'INVALID_ARGUMENT',
    `failed to Add: time '${timeMs}' doesn't seem to be a valid Unix timesamp in milliseconds. ` +
      `The time must be in the years range 1970-2400 (index '${name}', row ${row})`,
  )
}

/** Metric → type bits that a label set needs so that the rows of one of its groups can be stored. */
export type NeededTypes = ReadonlyMap<string, number>

/**
 * Which groups bring a metric or a type that their label set does not have yet. Calls `visit` for each, with the types
 * of the cells that are really there. Throws when a string meets a number.
 */
export function checkTypes(
  kernels: Kernels,
  frame: OpenFrame,
  signatureOf: (group: number) => Signature,
  visit: (group: number, types: NeededTypes) => void,
  requestKinds: ReadonlyMap<string, number>,
): void {
  const { grouping, metrics } = frame
  const accepted = new Map<Signature, boolean>()
  const isFull = metrics.every(({ validityPtr }) => validityPtr === 0)
  let present: ((group: number, metric: number) => boolean) | null = null
  for (let group = 0; group < grouping.groupCount; group++) {
    const signature = signatureOf(group)
    let isAccepted = accepted.get(signature)
    if (isAccepted === undefined) {
      isAccepted = metrics.every(({ name, dtype }) => ((signature.get(name) ?? 0) & typeBits[dtype]) !== 0)
      accepted.set(signature, isAccepted)
    }
    if (isAccepted) continue
    let types = frame.types
    if (!isFull) {
      present ??= presence(kernels, frame)
      const found = new Map<string, number>()
      for (let m = 0; m < metrics.length; m++)
        if (present(group, m)) found.set(metrics[m]!.name, typeBits[metrics[m]!.dtype])
      types = found
    }
    let isMissing = false
    for (const { name, dtype } of metrics) {
      if (!types.has(name)) continue
      const bits = signature.get(name) ?? 0
      if (conflicts(bits, dtype)) throw typeConflict(kernels, frame, name, dtype, group, requestKinds)
      if ((bits & typeBits[dtype]) === 0) isMissing = true
    }
    if (isMissing) visit(group, types)
  }
}

/** Whether a group has any cell of a metric; looked at row by row, because frames with gaps in new series are rare. */
function presence(
  kernels: Kernels,
  { rowCount, grouping, metrics }: OpenFrame,
): (group: number, metric: number) => boolean {
  const { u8, u32 } = kernels
  const seen = metrics.map(({ validityPtr }) => {
    if (validityPtr === 0) return null
    const groups = new Uint8Array(grouping.groupCount)
    for (let row = 0; row < rowCount; row++) {
      if ((u8[validityPtr + (row >> 3)]! >> (row & 7)) & 1)
        groups[grouping.codesPtr === 0 ? 0 : u32[(grouping.codesPtr >> 2) + row]!] = 1
    }
    return groups
  })
  return (group, metric) => seen[metric] == null || seen[metric]![group] === 1
}

function typeConflict(
  kernels: Kernels,
  frame: OpenFrame,
  name: string,
  dtype: MetricType,
  group: number,
  requestKinds: ReadonlyMap<string, number>,
): FramesError {
  const { u8, u32 } = kernels
  const { grouping, rowCount, metrics } = frame
  const { validityPtr } = metrics.find((metric) => metric.name === name)!
  let row = 0
  while (row < rowCount) {
    const isPresent = validityPtr === 0 || (u8[validityPtr + (row >> 3)]! >> (row & 7)) & 1
    if (isPresent && (grouping.codesPtr === 0 || u32[(grouping.codesPtr >> 2) + row] === group)) break
    row++
  }
  const where = `(column '${name}', row ${row})`
  if (conflicts(requestKinds.get(name) ?? 0, dtype)) {
    const [from, to] = dtype === 'string' ? ['string', 'numeric'] : ['numeric', 'string']
    return new FramesError(
      'INVALID_ARGUMENT',
      `failed to Add: Cannot append ${from} type metric to ${to} type metric. ${where}`,
    )
  }
  return new FramesError(
    'INVALID_ARGUMENT',
    `failed to ingest values of incompatible data type into metric ${name}. ${where}`,
  )
}

/** The kinds of values a frame brings, for the error text of later frames of its request. */
export function frameKinds(frame: OpenFrame): [metric: string, bits: number][] {
  return frame.metrics.map(({ name, dtype }) => [name, typeBits[dtype]])
}

/** Row order by (set, time), with runs of rows that have one set and time. */
export interface RowOrder {
  readonly directory: Directory
  /** Rows kept: distinct (set, time). */
  readonly rowCount: number
  /** u32 a row; 0: rows are all distinct, and in order already where there are no places either. */
  readonly permutationPtr: number
  /** (rowCount + 1) u32: runs of equal rows in the permutation; 0: each row is alone. */
  readonly runStartsPtr: number
  /** u32 a row of the frame: where it comes to stand; 0: not all rows are kept, or they are in order already. */
  readonly placesPtr: number
  /** Not null: places are those of rows that come step by step. */
  readonly steps: readonly Steps[] | null
  readonly hasDuplicates: boolean
}

/** needsPermutation: places alone will not do. */
function orderRows(
  kernels: Kernels,
  scratch: Scratch,
  frame: OpenFrame,
  setNumbersPtr: number,
  needsPermutation: boolean,
): RowOrder {
  const { call, u32 } = kernels
  const { rowCount, grouping } = frame
  const { groupCount, codesPtr } = grouping
  const setNumbers = u32.subarray(setNumbersPtr >> 2, (setNumbersPtr >> 2) + groupCount)
  const rowsPtr = rowsWithCells(kernels, scratch, frame)
  if (rowsPtr !== 0) return orderRowsWithCells(kernels, scratch, frame, setNumbers, rowsPtr)
  const ordered = orderedAlready(kernels, frame, setNumbers)
  if (ordered !== null)
    return {
      directory: ordered,
      rowCount,
      permutationPtr: 0,
      runStartsPtr: 0,
      placesPtr: 0,
      steps: null,
      hasDuplicates: false,
    }
  const stepped = needsPermutation ? null : orderSteps(kernels, scratch, frame, setNumbers)
  if (stepped !== null) return stepped
  // Codes become ranks of set numbers; groups whose labels have one text (0.0 and -0.0, say) are one set.
  const sets = Uint32Array.from(new Set(setNumbers)).sort()
  const permutationPtr = scratch.allocate(4 * rowCount)
  const groupStartsPtr = scratch.allocate(4 * (sets.length + 1))
  const ranksPtr = scratch.allocate(4 * rowCount)
  if (groupCount === 1) u32.fill(0, ranksPtr >> 2, (ranksPtr >> 2) + rowCount)
  else {
    const rankOfSet = new Map<number, number>()
    sets.forEach((set, rank) => {
      rankOfSet.set(set, rank)
    })
    const ranks = scratch.allocate(4 * groupCount)
    for (let group = 0; group < groupCount; group++) u32[(ranks >> 2) + group] = rankOfSet.get(setNumbers[group]!)!
    call.gather32(ranks, codesPtr, rowCount, ranksPtr)
  }
  call.sortGroups(ranksPtr, sets.length, rowCount, permutationPtr, groupStartsPtr)
  return orderByTime(kernels, scratch, frame, sets, permutationPtr, groupStartsPtr)
}

/** The directory of rows that stand by (set, time) as they are, all distinct; null when they do not. */
function orderedAlready({ call, i64 }: Kernels, frame: OpenFrame, setNumbers: Uint32Array): Directory | null {
  const { rowStarts } = frame.grouping
  if (rowStarts === null) return null
  const sets: number[] = []
  const starts: number[] = []
  for (let group = 0; group < setNumbers.length; group++) {
    const start = rowStarts[group]!
    const timesPtr = frame.timesPtr + 8 * start
    if (call.isStrictlySortedInt64(timesPtr, rowStarts[group + 1]! - start) === 0) return null
    const set = setNumbers[group]!
    const last = sets[sets.length - 1] ?? -1
    if (set < last) return null
    if (set === last) {
      if (i64[(timesPtr >> 3) - 1]! >= i64[timesPtr >> 3]!) return null
      continue
    }
    sets.push(set)
    starts.push(start)
  }
  starts.push(frame.rowCount)
  return { sets: Uint32Array.from(sets), starts: Uint32Array.from(starts) }
}

/**
 * The order of rows that come step by step, each set's later than those before it: it follows from the first step of each
 * stretch. Null when they do not come so.
 */
function orderSteps(kernels: Kernels, scratch: Scratch, frame: OpenFrame, setNumbers: Uint32Array): RowOrder | null {
  const { call, u32, i64 } = kernels
  const { rowCount, timesPtr, grouping } = frame
  const { steps, codesPtr } = grouping
  if (steps === null) return null
  const sets = Uint32Array.from(new Set(setNumbers)).sort()
  const rankOfSet = new Map<number, number>()
  sets.forEach((set, rank) => {
    rankOfSet.set(set, rank)
  })
  const starts = new Uint32Array(sets.length + 1)
  // Of a step of its stretch, by place in it.
  const ranks = steps.map(({ rowStart, distance }) =>
    Uint32Array.from({ length: distance }, (_, i) => rankOfSet.get(setNumbers[u32[(codesPtr >> 2) + rowStart + i]!]!)!),
  )
  const rowCountAt = (steps: Steps, i: number): number => Math.ceil((steps.rowCount - i) / steps.distance)
  for (const [stretch, own] of ranks.entries()) {
    // Texts that differ may be one set.
    if (new Set(own).size < own.length) return null
    for (let i = 0; i < own.length; i++) starts[own[i]! + 1]! += rowCountAt(steps[stretch]!, i)
  }
  for (let rank = 0; rank < sets.length; rank++) starts[rank + 1]! += starts[rank]!
  const mark = scratch.mark()
  const placesPtr = scratch.allocate(4 * rowCount)
  const next = starts.slice(0, sets.length)
  const lastRows = new Int32Array(sets.length).fill(-1)
  for (const [stretch, own] of ranks.entries()) {
    const { rowStart, distance } = steps[stretch]!
    let isLater = true
    for (let i = 0; i < distance && isLater; i++) {
      const rank = own[i]!
      const row = rowStart + i
      const ownRowCount = rowCountAt(steps[stretch]!, i)
      const lastRow = lastRows[rank]!
      isLater = lastRow < 0 || i64[(timesPtr >> 3) + row]! > i64[(timesPtr >> 3) + lastRow]!
      lastRows[rank] = row + (ownRowCount - 1) * distance
      u32[(placesPtr >> 2) + row] = next[rank]!
      next[rank]! += ownRowCount
    }
    const { rowCount: ownRowCount } = steps[stretch]!
    if (!isLater || call.placeSteps(timesPtr + 8 * rowStart, ownRowCount, distance, placesPtr + 4 * rowStart) === 0) {
      scratch.release(mark)
      return null
    }
  }
  return {
    directory: { sets, starts },
    rowCount,
    permutationPtr: 0,
    runStartsPtr: 0,
    placesPtr,
    steps,
    hasDuplicates: false,
  }
}

/** The rows that have any cell, a bit each; 0 when all have. */
function rowsWithCells(kernels: Kernels, scratch: Scratch, { metrics, rowCount }: OpenFrame): number {
  const { call } = kernels
  if (metrics.some(({ validityPtr }) => validityPtr === 0)) return 0
  const mark = scratch.mark()
  const rowsPtr = scratch.allocate(Math.ceil(rowCount / 8) + 8)
  call.fillBits(rowsPtr, rowCount, 0)
  for (const { validityPtr } of metrics) call.orBits(rowsPtr, validityPtr, rowsPtr, rowCount)
  if (call.countBits(rowsPtr, rowCount) < rowCount) return rowsPtr
  scratch.release(mark)
  return 0
}

/** As orderRows; rows without any cell are left out: behind the last set, where nobody looks. */
function orderRowsWithCells(
  kernels: Kernels,
  scratch: Scratch,
  frame: OpenFrame,
  setNumbers: Uint32Array,
  rowsPtr: number,
): RowOrder {
  const { call, u8, u32 } = kernels
  const { rowCount } = frame
  const codes = frame.grouping.codesPtr >> 2
  const hasCells = (row: number): boolean => ((u8[rowsPtr + (row >> 3)]! >> (row & 7)) & 1) === 1
  const setOf = (row: number): number => setNumbers[codes === 0 ? 0 : u32[codes + row]!]!
  const found = new Set<number>()
  for (let row = 0; row < rowCount; row++) if (hasCells(row)) found.add(setOf(row))
  const sets = Uint32Array.from(found).sort()
  const rankOfSet = new Map<number, number>()
  sets.forEach((set, rank) => {
    rankOfSet.set(set, rank)
  })
  const permutationPtr = scratch.allocate(4 * rowCount)
  const groupStartsPtr = scratch.allocate(4 * (sets.length + 2))
  const ranksPtr = scratch.allocate(4 * rowCount)
  for (let row = 0; row < rowCount; row++)
    u32[(ranksPtr >> 2) + row] = hasCells(row) ? rankOfSet.get(setOf(row))! : sets.length
  call.sortGroups(ranksPtr, sets.length + 1, rowCount, permutationPtr, groupStartsPtr)
  return orderByTime(kernels, scratch, frame, sets, permutationPtr, groupStartsPtr)
}

/** permutationPtr: rows by set, each set's rows from its start in groupStartsPtr ((sets + 1) u32) on. */
function orderByTime(
  kernels: Kernels,
  scratch: Scratch,
  frame: OpenFrame,
  sets: Uint32Array,
  permutationPtr: number,
  groupStartsPtr: number,
): RowOrder {
  const { call, u32 } = kernels
  const { timesPtr } = frame
  const rowCount = u32[(groupStartsPtr >> 2) + sets.length]!
  const mark = scratch.mark()
  call.sortGroupsByTime(timesPtr, permutationPtr, groupStartsPtr, sets.length, scratch.allocate(16 * rowCount))
  scratch.release(mark)
  const runStartsPtr = scratch.allocate(4 * (rowCount + 1))
  const setStartsPtr = scratch.allocate(4 * (sets.length + 1))
  const distinctCount = call.distinctTimesOfGroups(
    timesPtr,
    permutationPtr,
    groupStartsPtr,
    sets.length,
    runStartsPtr,
    setStartsPtr,
  )
  const starts = u32.slice(setStartsPtr >> 2, (setStartsPtr >> 2) + sets.length + 1)
  let placesPtr = 0
  if (distinctCount === frame.rowCount) {
    placesPtr = scratch.allocate(4 * rowCount)
    call.invertPermutation(permutationPtr, rowCount, placesPtr)
  }
  return {
    directory: { sets, starts },
    rowCount: distinctCount,
    permutationPtr,
    runStartsPtr,
    placesPtr,
    steps: null,
    hasDuplicates: distinctCount < rowCount,
  }
}

/**
 * Compresses an open frame whose label sets are all known. The blocks stand in `output`; `work` is given back, column
 * by column.
 */
export function encodeFrameRows(
  kernels: Kernels,
  output: Scratch,
  work: Scratch,
  frame: OpenFrame,
  setNumbersPtr: number,
  options: {
    partitionIntervalMs: number
    newestWins: boolean
    /** Called before anything is encoded; throws to refuse the frame. */
    check: ((order: RowOrder, sortedTimesPtr: number) => void) | null
    isCancelled: () => boolean
  },
): PreparedBlock[] {
  const { call } = kernels
  const needsPermutation =
    options.check !== null ||
    frame.metrics.some(({ dtype, validityPtr }) => validityPtr !== 0 || dtype === 'string' || dtype === 'bool')
  const order = orderRows(kernels, work, frame, setNumbersPtr, needsPermutation)
  const { permutationPtr, runStartsPtr, rowCount } = order
  if (rowCount === 0) return []
  let { timesPtr } = frame
  const isOrdered = permutationPtr === 0 && order.placesPtr === 0
  if (!isOrdered) {
    timesPtr = work.allocate(8 * rowCount)
    if (order.placesPtr !== 0) call.place64(frame.timesPtr, order.placesPtr, rowCount, timesPtr)
    else call.gatherGroupTimes(frame.timesPtr, permutationPtr, runStartsPtr, rowCount, timesPtr)
  }
  options.check?.(order, timesPtr)
  let rowByteLength = 8
  for (const { dtype, textByteLength } of frame.metrics)
    rowByteLength += dtype === 'string' ? textByteLength / frame.rowCount : 8
  const encoder = new PageEncoder(kernels, output, pageRowCountMax)
  const writer = new RunWriter(
    encoder,
    { directory: order.directory, timesPtr },
    { columnCount: frame.metrics.length, rowByteLength, digests: null },
  )
  for (const metric of frame.metrics) {
    if (options.isCancelled()) throw new FramesError('CANCELLED', 'the write was cancelled')
    const mark = work.mark()
    const { name, dtype, decodeParts } = metric
    if (isOrdered && decodeParts !== null) {
      writer.addColumn(name, { dtype, valuesPtr: 0, validityPtr: 0, bytesPtr: 0, parts: decodeParts() })
    } else if (metric.validityPtr === 0 && dtype !== 'string' && dtype !== 'bool' && order.placesPtr !== 0) {
      const parts = decodeParts?.() ?? wholePart(spreadLabel(kernels, work, metric.decode(), frame.rowCount))
      const near = dtype === 'int64' ? placeNear(kernels, work, parts, order) : null
      const valuesPtr = near === null ? placeParts(kernels, work, parts, order) : 0
      const base = { dtype, valuesPtr, validityPtr: 0, bytesPtr: 0 }
      writer.addColumn(name, near === null ? base : { ...base, near })
    } else {
      const column = spreadLabel(kernels, work, metric.decode(), frame.rowCount)
      writer.addColumn(name, isOrdered ? column : orderColumn(kernels, work, column, order, options.newestWins))
    }
    work.release(mark)
  }
  return writer.finish(options.partitionIntervalMs)
}

function wholePart({ valuesPtr }: ColumnSlice): readonly ColumnPart[] {
  return [{ rowStart: 0, valuesPtr }]
}

/** As placeParts, of integers that are near one another and come step by step; null: they do not. */
function placeNear(
  { call, i64 }: Kernels,
  scratch: Scratch,
  parts: readonly ColumnPart[],
  { steps, placesPtr, rowCount }: RowOrder,
): NearValues | null {
  if (steps === null || steps.length !== parts.length) return null
  const mark = scratch.mark()
  const origin = i64[parts[0]!.valuesPtr >> 3]!
  const nearPtr = scratch.allocate(2 * rowCount)
  const tilePtr = scratch.allocate(call.placeNearScratchByteLength(Math.max(...steps.map(({ distance }) => distance))))
  const isNear = steps.every(({ rowStart, rowCount: ownRowCount, distance }, i) => {
    assert(parts[i]!.rowStart === rowStart, 'steps begin where frames do')
    const ownPlacesPtr = placesPtr + 4 * rowStart
    return call.placeNear(parts[i]!.valuesPtr, ownRowCount, distance, ownPlacesPtr, origin, nearPtr, tilePtr) === 1
  })
  if (isNear) return { nearPtr, origin }
  scratch.release(mark)
  return null
}

/** The values of a column in row order, each from where it stands. */
function placeParts(
  { call }: Kernels,
  scratch: Scratch,
  parts: readonly ColumnPart[],
  { placesPtr, rowCount }: RowOrder,
): number {
  const targetPtr = scratch.allocate(8 * rowCount)
  parts.forEach(({ rowStart, valuesPtr }, i) => {
    const rowEnd = parts[i + 1]?.rowStart ?? rowCount
    call.place64(valuesPtr, placesPtr + 4 * rowStart, rowEnd - rowStart, targetPtr)
  })
  return targetPtr
}

/** The column in row order, one cell for each distinct row: the newest (or oldest) that is there. */
function orderColumn(
  kernels: Kernels,
  scratch: Scratch,
  column: ColumnSlice,
  order: RowOrder,
  newestWins: boolean,
): ColumnSlice {
  const { call } = kernels
  const { permutationPtr, runStartsPtr, placesPtr, rowCount, hasDuplicates } = order
  const needsValidity = column.validityPtr !== 0
  const newest = newestWins ? 1 : 0
  let validityPtr = scratch.allocate(Math.ceil(rowCount / 8) + 8)
  let { bytesPtr } = column
  let valuesPtr: number
  if (column.dtype === 'string') {
    const indexesPtr = scratch.allocate(4 * rowCount)
    call.coalesceIndexes(column.validityPtr, permutationPtr, runStartsPtr, rowCount, newest, indexesPtr)
    valuesPtr = scratch.allocate(4 * (rowCount + 1))
    bytesPtr = scratch.allocate(call.gatheredStringsByteLength(column.valuesPtr, indexesPtr, rowCount))
    call.gatherStrings(column.valuesPtr, column.bytesPtr, indexesPtr, rowCount, valuesPtr, bytesPtr)
    if (needsValidity) call.presentIndexes(indexesPtr, rowCount, validityPtr)
  } else if (column.dtype === 'bool') {
    valuesPtr = scratch.allocate(Math.ceil(rowCount / 8) + 8)
    call.coalesceBits(
      column.valuesPtr,
      column.validityPtr,
      permutationPtr,
      runStartsPtr,
      rowCount,
      newest,
      valuesPtr,
      validityPtr,
    )
  } else {
    valuesPtr = scratch.allocate(8 * rowCount)
    if (!needsValidity && placesPtr !== 0) call.place64(column.valuesPtr, placesPtr, rowCount, valuesPtr)
    else if (!needsValidity && !hasDuplicates) call.gather64(column.valuesPtr, permutationPtr, rowCount, valuesPtr)
    else
      call.coalesce64(
        column.valuesPtr,
        column.validityPtr,
        permutationPtr,
        runStartsPtr,
        rowCount,
        newest,
        valuesPtr,
        validityPtr,
      )
  }
  if (!needsValidity) validityPtr = 0
  return { ...column, rowCount, valuesPtr, validityPtr, bytesPtr }
}
