// Rows of label sets become messages: finished wire frames, or columns.
import { encodedFrameBound, encodeFrame } from '../../codec/wire.js'
import type { ColumnSlice, FrameSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import { readMessageByteLength } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import type { Labels } from './label-tail.js'
import { labelColumns, labelTail } from './label-tail.js'
import type { WantedColumns } from './pools.js'
import { RowCollector } from './row-collector.js'
import type { ScanInput, ScanMessage, ScanPosition, ScanSet } from './scan-input.js'
import type { Batch, BatchColumn } from './series-reader.js'
import { bitmapByteLength } from './series-reader.js'
import type { MetricType } from './signature.js'

/** Rows of a message, whatever their size: pointers of the collector stay small. */
const messageRowCountMax = 65_536
/** An entry of a null map, without its name. */
const nullEntryByteLength = 8

/** A batch without its first rows. */
export function shiftBatch(
  kernels: Kernels,
  temporary: Scratch,
  batch: Batch,
  row: number,
  metrics: readonly { readonly type: MetricType }[],
): Batch {
  const rowCount = batch.rowCount - row
  const shiftBits = (ptr: number): number => {
    const targetPtr = temporary.allocate(bitmapByteLength(rowCount))
    kernels.call.copyBits(ptr, row, targetPtr, 0, rowCount)
    return targetPtr
  }
  const columns = batch.columns.map((cells, i): BatchColumn | null => {
    if (cells === null) return null
    const { type } = metrics[i]!
    const valuesPtr = type === 'bool' ? shiftBits(cells.valuesPtr) : cells.valuesPtr + row * (type === 'string' ? 4 : 8)
    return {
      valuesPtr,
      validityPtr: cells.validityPtr === 0 ? 0 : shiftBits(cells.validityPtr),
      bytesPtr: cells.bytesPtr,
    }
  })
  return { rowCount, timesPtr: batch.timesPtr + 8 * row, columns }
}

/** Collects rows of one label set after another and closes messages when they are large enough. */
export class MessageSink {
  readonly messages: ScanMessage[] = []
  #sentRowCount = 0
  #byteLength = 0
  /** Of the rows collected; see #extraOf. */
  #extraByteLength = 0
  #collector: RowCollector | null = null
  #types = ''
  #capacity = 0
  #index = 0
  #set: ScanSet | null = null
  #wanted: WantedColumns | null = null
  #columnNumbers: number[] = []
  /** Where column i of a batch goes. */
  #batchNumbers: readonly number[] = []
  readonly #mark: number

  constructor(
    readonly kernels: Kernels,
    readonly output: Scratch,
    readonly collected: Scratch,
    readonly temporary: Scratch,
    readonly input: ScanInput,
  ) {
    this.#mark = collected.mark()
  }

  /** Enough for one job. */
  get isLarge(): boolean {
    return this.#byteLength >= readMessageByteLength
  }

  get isAtRowLimit(): boolean {
    return this.#sentRowCount + (this.#collector?.rowCount ?? 0) >= this.input.rowCountMax
  }

  begin(index: number, set: ScanSet, wanted: WantedColumns): void {
    this.#index = index
    this.#set = set
    this.#wanted = wanted
    const { plan } = this.input
    const types = wanted.columns.map(({ type }) => type).join()
    if (this.#collector === null || types !== this.#types) {
      this.collected.release(this.#mark)
      const rowByteLength = wanted.columns.reduce(
        (sum, { type }) => sum + (type === 'bool' ? 1 : type === 'string' ? 16 : 8),
        9,
      )
      const limit = plan.messageLimit > 0 ? plan.messageLimit : messageRowCountMax
      this.#capacity = Math.max(
        1,
        Math.min(limit, messageRowCountMax, Math.floor(readMessageByteLength / rowByteLength)),
      )
      this.#collector = new RowCollector(this.kernels, this.collected, this.#capacity)
      this.#columnNumbers = wanted.columns.map(({ type }) => this.#collector!.addColumn(type))
      this.#types = types
    }
    // Raw batches have a column a metric; the frame also has those that the set lacks.
    this.#batchNumbers =
      plan.mode === 'raw' ? this.#columnNumbers.filter((_, i) => wanted.columns[i]!.metric >= 0) : this.#columnNumbers
    this.#collector.clear()
  }

  /** Takes rows; what it could not take is named by the position returned. */
  push(batch: Batch): ScanPosition | null {
    const { plan, rowCountMax } = this.input
    const wanted = this.#wanted!
    const collector = this.#collector!
    const isRaw = plan.mode === 'raw'
    const numbers = this.#batchNumbers
    const types = isRaw ? wanted.metrics : wanted.columns
    for (let rows = batch; ; ) {
      const room = Math.min(this.#capacity - collector.rowCount, rowCountMax - this.#sentRowCount - collector.rowCount)
      const taken = this.#rowsThatFit(rows, Math.min(rows.rowCount, room))
      if (taken > 0) collector.append(rows, taken, numbers, isRaw)
      this.#extraByteLength += this.#extraOf(rows, taken)
      if (collector.rowCount >= this.#capacity || this.#extraByteLength >= readMessageByteLength) this.#close()
      if (taken === rows.rowCount) return null
      // More may fit: this step took only what fills a message.
      const rest = taken > 0 ? shiftBatch(this.kernels, this.temporary, rows, taken, types) : rows
      if (this.isAtRowLimit) {
        // Rows without any cell are no reason to go on.
        if (isRaw && !collector.hasCells(rest)) return null
      } else if (!this.isLarge) {
        rows = rest
        continue
      }
      return { index: this.#index, fromNs: this.kernels.i64[rest.timesPtr >> 3]!, carry: [] }
    }
  }

  /** What rows [0, rowCount) of a batch take beyond their cells of fixed size: text, and names in null maps. */
  #extraOf(batch: Batch, rowCount: number): number {
    if (this.input.plan.mode !== 'raw') return 0
    const { call, u32 } = this.kernels
    let byteLength = 0
    for (const { name, type, metric } of this.#wanted!.columns) {
      const cells = metric < 0 ? null : batch.columns[metric]!
      if (type === 'string' && cells !== null) {
        const offsets = cells.valuesPtr >> 2
        byteLength += u32[offsets + rowCount]! - u32[offsets]!
      }
      if (cells !== null && cells.validityPtr === 0) continue
      const presentCount = cells === null ? 0 : call.countBits(cells.validityPtr, rowCount)
      byteLength += (rowCount - presentCount) * (name.length + nullEntryByteLength)
    }
    return byteLength
  }

  /** How many of `rowCount` rows one step takes, at least one: a page of wide rows would make too large a message. */
  #rowsThatFit(batch: Batch, rowCount: number): number {
    if (rowCount <= 1 || this.#extraOf(batch, rowCount) <= readMessageByteLength) return rowCount
    let fits = 1
    let tooMany = rowCount
    while (fits + 1 < tooMany) {
      const middle = (fits + tooMany) >>> 1
      if (this.#extraOf(batch, middle) <= readMessageByteLength) fits = middle
      else tooMany = middle
    }
    return fits
  }

  end(): void {
    this.#close()
  }

  #close(): void {
    const collector = this.#collector!
    const { rowCount } = collector
    if (rowCount === 0) return
    const set = this.#set!
    const mark = this.collected.mark()
    const columns: ColumnSlice[] = this.#wanted!.columns.map(({ name, type }, i) => {
      const { valuesPtr, validityPtr, bytesPtr, byteLength } = collector.column(this.#columnNumbers[i]!)
      return { name, dtype: type, kind: 'slice', rowCount, valuesPtr, validityPtr, bytesPtr, byteLength }
    })
    const time: ColumnSlice = {
      name: 'time',
      dtype: 'time',
      kind: 'slice',
      rowCount,
      valuesPtr: collector.timesPtr,
      validityPtr: 0,
      bytesPtr: 0,
      byteLength: 0,
    }
    this.messages.push(this.#write({ rowCount, columns, indices: [time], labels: [] }, set.set))
    this.collected.release(mark)
    this.#sentRowCount += rowCount
    this.#extraByteLength = 0
    collector.clear()
  }

  /** Writes the frame of a label set, whose labels are added here. */
  #write(frame: FrameSlice, set: number): ScanMessage {
    const { output, kernels, collected } = this
    const { rowCount } = frame
    const { multiIndex } = this.input.plan
    const { groupBy } = this.input.plan
    const labelsOf = (): Labels => {
      const labels = this.input.labelsOf(set)
      return groupBy === null ? labels : labels.filter(([name]) => groupBy.includes(name))
    }
    if (this.input.format === 'columns') {
      const start = output.mark()
      const labels = labelsOf()
      const constants = labelColumns(kernels, collected, labels, rowCount)
      const copy = copyFrame(kernels, output, {
        rowCount,
        columns: multiIndex ? frame.columns : [...frame.columns, ...constants],
        indices: multiIndex ? [...frame.indices, ...constants] : frame.indices,
        labels: labels.map(([name, value]) => ({ name, value })),
      })
      this.#byteLength += output.mark() - start
      return { rowCount, bytes: null, frame: copy }
    }
    const group = groupBy === null ? '' : `:${groupBy.join()}`
    const tail = labelTail(kernels, collected, `${this.input.labelsId}:${set}${group}`, labelsOf, rowCount, multiIndex)
    const bound = encodedFrameBound(frame)
    const byteOffset = output.allocate(bound + tail.length)
    const headByteLength = encodeFrame(kernels, frame, byteOffset, bound)
    kernels.u8.set(tail, byteOffset + headByteLength)
    const byteLength = headByteLength + tail.length
    output.release(byteOffset)
    output.allocate(byteLength)
    this.#byteLength += byteLength
    return { rowCount, bytes: { byteOffset, byteLength }, frame: null }
  }
}

/** A frame whose buffers stand in `target`, for a reader that wants columns. */
function copyFrame(kernels: Kernels, target: Scratch, frame: FrameSlice): FrameSlice {
  const { u8, u32, call } = kernels
  const copyBytes = (ptr: number, byteLength: number): number => {
    const targetPtr = target.allocate(byteLength)
    u8.copyWithin(targetPtr, ptr, ptr + byteLength)
    return targetPtr
  }
  const copyColumn = (column: ColumnSlice): ColumnSlice => {
    const rowCount = column.kind === 'label' ? 1 : column.rowCount
    const validityPtr = column.validityPtr === 0 ? 0 : copyBytes(column.validityPtr, Math.ceil(rowCount / 8))
    if (column.dtype === 'string') {
      const byteLength = u32[(column.valuesPtr >> 2) + rowCount]! - u32[column.valuesPtr >> 2]!
      const valuesPtr = target.allocate(4 * (rowCount + 1))
      const bytesPtr = target.allocate(byteLength)
      call.copyStrings(column.valuesPtr, column.bytesPtr, 0, rowCount, valuesPtr, 0, bytesPtr)
      return { ...column, valuesPtr, validityPtr, bytesPtr, byteLength }
    }
    return {
      ...column,
      valuesPtr: copyBytes(column.valuesPtr, column.dtype === 'bool' ? Math.ceil(rowCount / 8) : 8 * rowCount),
      validityPtr,
    }
  }
  return { ...frame, columns: frame.columns.map(copyColumn), indices: frame.indices.map(copyColumn) }
}
