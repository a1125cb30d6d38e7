// Counts and aggregates of the items that a filter lets through, in a worker: nothing is materialised.
import type { BlockReader } from '../../blocks/reader.js'
import { FramesError } from '../../errors.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { ScratchFull } from '../../memory/scratch.js'
import { attributeColumns } from './item-batch.js'
import { foldersOf } from './item-keys.js'
import { type Conditions, type Match, Matcher } from './match.js'
import { isSystemAttribute, nameAttribute } from './system-attributes.js'

export interface AggregateInput {
  readonly sourceCount: number
  readonly readerOf: (source: number) => BlockReader
  readonly conditions: Conditions
  /** Attributes whose values are aggregated. */
  readonly columns: readonly string[]
  /** Which aggregates beside the counts are wanted; the others stay as they are in noTotals. */
  readonly wanted: { readonly sum: boolean; readonly extremes: boolean }
  readonly isCancelled: () => boolean
}

/** Of one attribute, over items of a part of the table. */
export interface ColumnTotals {
  /** Whether any item of the part's blocks may have it. */
  readonly isKnown: boolean
  /** Values of any type. */
  readonly valueCount: number
  /** Of the integers and floats among them; NaN counts, and makes the others NaN. */
  readonly numberCount: number
  readonly sum: number
  readonly min: number
  readonly max: number
}

export interface AggregateResult {
  readonly itemCount: number
  readonly totals: readonly ColumnTotals[]
  readonly skippedPageCount: number
  readonly readPageCount: number
}

export const noTotals: ColumnTotals = {
  isKnown: false,
  valueCount: 0,
  numberCount: 0,
  sum: 0,
  min: Number.NaN,
  max: Number.NaN,
}

/** The totals of two parts together. */
export function addTotals(a: ColumnTotals, b: ColumnTotals): ColumnTotals {
  const either = (pick: (x: number, y: number) => number, x: number, y: number): number =>
    a.numberCount === 0 ? y : b.numberCount === 0 ? x : pick(x, y)
  return {
    isKnown: a.isKnown || b.isKnown,
    valueCount: a.valueCount + b.valueCount,
    numberCount: a.numberCount + b.numberCount,
    sum: a.sum + b.sum,
    min: either(Math.min, a.min, b.min),
    max: either(Math.max, a.max, b.max),
  }
}

export function aggregateItems(kernels: Kernels, scratch: Scratch, input: AggregateInput): AggregateResult {
  const matcher = new Matcher(kernels, scratch, input.conditions, input.columns)
  let itemCount = 0
  const totals: ColumnTotals[] = input.columns.map(() => noTotals)
  for (let source = 0; source < input.sourceCount; source++) {
    const reader = input.readerOf(source)
    const { layout } = reader
    input.columns.forEach((name, i) => {
      const isKnown = name === nameAttribute || isSystemAttribute(name) || attributeColumns(reader).has(name)
      if (isKnown) totals[i] = addTotals(totals[i]!, { ...noTotals, isKnown })
    })
    if (foldersOf(reader).every(({ folder }) => matcher.isFolderExcluded(folder))) continue
    const rows = { start: 0, end: layout.rowCount }
    let pageCountMax = layout.pageCount
    for (let page = matcher.nextPage(reader, 0, layout.pageCount); page < layout.pageCount; ) {
      if (input.isCancelled()) throw new FramesError('CANCELLED', 'the read was cancelled')
      const end = matcher.batchEnd(reader, page, layout.pageCount, pageCountMax)
      const mark = scratch.mark()
      try {
        const match = matcher.match(reader, { start: page, end }, rows, scratch)
        if (match !== null) {
          const added = input.columns.map((name) => totalsOf(kernels, scratch, name, match, input.wanted))
          itemCount += match.count
          added.forEach((more, i) => {
            totals[i] = addTotals(totals[i]!, more)
          })
        }
      } catch (error) {
        // Wide pages: fewer of them at once.
        if (!(error instanceof ScratchFull) || end - page === 1) throw error
        pageCountMax = (end - page) >> 1
        continue
      } finally {
        scratch.release(mark)
      }
      page = matcher.nextPage(reader, end, layout.pageCount)
    }
  }
  return {
    itemCount,
    totals,
    skippedPageCount: matcher.skippedPageCount,
    readPageCount: matcher.readPageCount,
  }
}

function totalsOf(
  kernels: Kernels,
  scratch: Scratch,
  name: string,
  { batch, maskPtr, count }: Match,
  wanted: AggregateInput['wanted'],
): ColumnTotals {
  const { call } = kernels
  const { rowCount } = batch
  const isAll = count === rowCount
  let totals = noTotals
  for (const slice of batch.attribute(name)) {
    const mark = scratch.mark()
    let wantedPtr = isAll ? slice.validityPtr : maskPtr
    let wantedCount = isAll ? rowCount : count
    if (slice.validityPtr !== 0) {
      if (!isAll) {
        wantedPtr = scratch.allocate(8 * Math.ceil(rowCount / 64) + 16)
        call.andBits(maskPtr, slice.validityPtr, wantedPtr, rowCount)
      }
      wantedCount = call.countBits(wantedPtr, rowCount)
    }
    if (wantedCount > 0) totals = addTotals(totals, sliceTotals(kernels, slice, wantedPtr, wantedCount, wanted))
    scratch.release(mark)
  }
  return totals
}

/** Of the marked cells of a column; bits 0: all of them. */
function sliceTotals(
  { call }: Kernels,
  { dtype, valuesPtr, rowCount }: ColumnSlice,
  bitsPtr: number,
  count: number,
  { sum, extremes }: AggregateInput['wanted'],
): ColumnTotals {
  if (dtype !== 'int64' && dtype !== 'float64') return { ...noTotals, isKnown: true, valueCount: count }
  const counts = { isKnown: true, valueCount: count, numberCount: count }
  if (dtype === 'float64') {
    return {
      ...counts,
      sum: sum ? call.sumFloat64(valuesPtr, bitsPtr, rowCount) : 0,
      min: extremes ? call.minFloat64(valuesPtr, bitsPtr, rowCount) : Number.NaN,
      max: extremes ? call.maxFloat64(valuesPtr, bitsPtr, rowCount) : Number.NaN,
    }
  }
  return {
    ...counts,
    sum: sum ? call.sumInt64AsFloat64(valuesPtr, bitsPtr, rowCount) : 0,
    min: extremes ? Number(call.minInt64(valuesPtr, bitsPtr, rowCount)) : Number.NaN,
    max: extremes ? Number(call.maxInt64(valuesPtr, bitsPtr, rowCount)) : Number.NaN,
  }
}
