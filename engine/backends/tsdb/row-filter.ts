// WHERE with metrics: rows of a label set are let through or not by their values. All modes read through it.
import { FramesError, shortened } from '../../errors.js'
import { Filter, type RowSource } from '../../expression/evaluate.js'
import { canSkip } from '../../expression/skip.js'
import { collectAttributes, type Expression } from '../../expression/tree.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { labelColumns, type Labels } from './label-tail.js'
import type { Batch, BatchColumn, RowSkip, SampleReader, WantedMetric } from './series-reader.js'
import { bitmapByteLength } from './series-reader.js'
import { seriesType, type Signature, storedTypes } from './signature.js'

/**
 * Parts a condition that names metrics: what can be told of a label set by itself, and what is told row by row. Conditions
 * joined by AND are parted, others go as a whole. Throws INVALID_ARGUMENT for `_name` beside metrics.
 */
export function splitCondition(
  tree: Expression,
  metrics: ReadonlySet<string>,
): { readonly labels: Expression | null; readonly rows: Expression } {
  const all = tree.kind === 'and' ? tree.operands : [tree]
  const namesOf = (part: Expression): Set<string> => {
    const names = new Set<string>()
    collectAttributes(part, names)
    return names
  }
  const isOfRows = (part: Expression): boolean => [...namesOf(part)].some((name) => metrics.has(name))
  const labels = joined(all.filter((part) => !isOfRows(part)))
  const rows = joined(all.filter(isOfRows))!
  if (namesOf(rows).has('_name')) {
    const metric = [...namesOf(rows)].find((name) => metrics.has(name))!
    const what = `_name cannot stand in one condition with the metric '${shortened(metric)}', only beside it with AND`
    throw new FramesError('INVALID_ARGUMENT', what)
  }
  return { labels, rows }
}

/** Parts of a condition that all must hold; null: there are none. */
export function joined(parts: readonly Expression[]): Expression | null {
  if (parts.length === 0) return null
  return parts.length === 1 ? parts[0]! : { kind: 'and', operands: parts }
}

export interface RowFilterInput {
  readonly condition: Expression
  /** The labels that it names. */
  readonly rowLabels: readonly string[]
  readonly signatureOf: (set: number) => Signature
  readonly labelsOf: (set: number) => Labels
}

/** As the reader that it reads, but with the cells of rows that the condition lets through. */
export class FilteredReader implements SampleReader {
  readonly #kernels: Kernels
  readonly #filter: Filter
  /** What lasts as long as a set is open, and the memory of evaluations, at the other end of the batches' memory. */
  readonly #back: Scratch
  readonly #mark: number
  readonly #names: ReadonlySet<string>
  /** Cells of the open set's batches that were asked for; behind them those that only the condition needs. */
  #wantedCount = 0
  #metrics: readonly WantedMetric[] = []
  #skip: RowSkip | null = null
  /** What these were made of. */
  #madeOf: { readonly metrics: readonly WantedMetric[]; readonly signature: Signature } | null = null
  #labels: Labels = []

  /** temporary: what a batch needs beyond decoded pages; the same as that of the reader. */
  constructor(
    readonly reader: SampleReader,
    kernels: Kernels,
    readonly temporary: Scratch,
    readonly input: RowFilterInput,
  ) {
    this.#kernels = kernels
    this.#back = temporary.back()
    this.#filter = new Filter(kernels, this.#back, input.condition)
    this.#mark = this.#back.mark()
    const names = new Set<string>()
    collectAttributes(input.condition, names)
    this.#names = names
  }

  open(set: number, metrics: readonly WantedMetric[], startNs: bigint, endNs: bigint): boolean {
    const { signatureOf, labelsOf, rowLabels } = this.input
    // All labels of a set are parsed to find some: most conditions on values name none.
    if (rowLabels.length > 0) this.#labels = labelsOf(set).filter(([name]) => rowLabels.includes(name))
    const signature = signatureOf(set)
    if (this.#madeOf?.metrics !== metrics || this.#madeOf.signature !== signature) this.#prepare(metrics, signature)
    return this.reader.open(set, this.#metrics, startNs, endNs, null, this.#skip)
  }

  #prepare(metrics: readonly WantedMetric[], signature: Signature): void {
    const { condition } = this.input
    this.#madeOf = { metrics, signature }
    this.#wantedCount = metrics.length
    const others = [...signature].flatMap(([name, bits]): WantedMetric[] => {
      if (!this.#names.has(name) || metrics.some((metric) => metric.name === name)) return []
      return [{ name, type: seriesType(bits), storedTypes: storedTypes(bits) }]
    })
    this.#metrics = [...metrics, ...others]
    const tested = this.#metrics.filter(({ name }) => this.#names.has(name))
    this.#skip = { metrics: tested, canSkip: (summaryOf) => canSkip(condition, summaryOf) }
  }

  next(): Batch | null {
    const { call } = this.#kernels
    for (;;) {
      const batch = this.reader.next()
      if (batch === null) return null
      this.#back.release(this.#mark)
      const maskPtr = this.temporary.allocate(bitmapByteLength(batch.rowCount))
      this.#filter.evaluate(this.#rowsOf(batch), maskPtr)
      const count = call.countBits(maskPtr, batch.rowCount)
      if (count === 0) continue
      const wanted = batch.columns.slice(0, this.#wantedCount)
      if (count === batch.rowCount) return { ...batch, columns: wanted }
      return { ...batch, columns: wanted.map((cells) => this.#masked(cells, maskPtr, batch.rowCount)) }
    }
  }

  #masked(cells: BatchColumn | null, maskPtr: number, rowCount: number): BatchColumn | null {
    if (cells === null) return null
    if (cells.validityPtr === 0) return { ...cells, validityPtr: maskPtr }
    const validityPtr = this.temporary.allocate(bitmapByteLength(rowCount))
    this.#kernels.call.andBits(cells.validityPtr, maskPtr, validityPtr, rowCount)
    return { ...cells, validityPtr }
  }

  #rowsOf(batch: Batch): RowSource {
    const { rowCount } = batch
    const labels = labelColumns(this.#kernels, this.#back, this.#labels, rowCount)
    const columns = this.#metrics.flatMap((metric, i) =>
      this.#names.has(metric.name) ? this.#columnOf(metric, batch.columns[i] ?? null, rowCount) : [],
    )
    return {
      rowCount,
      attribute: (name) => {
        const label = labels.find((column) => column.name === name)
        return label === undefined ? columns.filter((column) => column.name === name) : [label]
      },
      placeholder: () => [],
    }
  }

  /** Cells as a column: bits past the last row are 0, and the first offset of texts is. */
  #columnOf({ name, type }: WantedMetric, cells: BatchColumn | null, rowCount: number): ColumnSlice[] {
    if (cells === null) return []
    const { call, u32 } = this.#kernels
    let { validityPtr, valuesPtr, bytesPtr } = cells
    const clean = (ptr: number): number => {
      const cleanPtr = this.#back.allocate(bitmapByteLength(rowCount))
      call.fillBits(cleanPtr, rowCount, 0)
      call.copyBits(ptr, 0, cleanPtr, 0, rowCount)
      return cleanPtr
    }
    if (validityPtr !== 0 && rowCount % 8 !== 0) validityPtr = clean(validityPtr)
    let byteLength = 0
    if (type === 'bool' && rowCount % 8 !== 0) valuesPtr = clean(valuesPtr)
    if (type === 'string') {
      const first = u32[valuesPtr >> 2]!
      byteLength = u32[(valuesPtr >> 2) + rowCount]! - first
      const offsetsPtr = this.#back.allocate(4 * (rowCount + 1))
      const textPtr = this.#back.allocate(byteLength)
      call.copyStrings(valuesPtr, bytesPtr, 0, rowCount, offsetsPtr, 0, textPtr)
      valuesPtr = offsetsPtr
      bytesPtr = textPtr
    }
    return [{ name, dtype: type, kind: 'slice', rowCount, valuesPtr, validityPtr, bytesPtr, byteLength }]
  }
}
