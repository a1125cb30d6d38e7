// The items of some neighbouring pages of a block, as a filter and a frame see them: columns are decoded when asked for.
import type { ColumnEntry } from '../../blocks/block.js'
import { comparePages, readPages } from '../../blocks/page-run.js'
import type { BlockReader } from '../../blocks/reader.js'
import { operatorNumbers } from '../../expression/compare-vectors.js'
import type { RowSource } from '../../expression/evaluate.js'
import type { Scalar } from '../../expression/scalar.js'
import type { ComparisonOperator } from '../../expression/tree.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Scratch } from '../../memory/scratch.js'
import { attributeOf, ctimeColumn, mtimeColumn, nameColumn } from './item-columns.js'
import { isSystemAttribute, nameAttribute, systemColumn, timeOf } from './system-attributes.js'

/** The stored columns of a block by attribute; parsed blocks are kept by the worker, and this with them. */
const columnsByAttribute = new WeakMap<object, ReadonlyMap<string, readonly ColumnEntry[]>>()

/** The columns of each attribute that a block has, one a type; without the hidden ones. */
export function attributeColumns(reader: BlockReader): ReadonlyMap<string, readonly ColumnEntry[]> {
  const known = columnsByAttribute.get(reader.layout)
  if (known !== undefined) return known
  const columns = new Map<string, ColumnEntry[]>()
  for (const column of reader.layout.columns) {
    const name = attributeOf(column.name)
    if (name === null) continue
    const others = columns.get(name)
    if (others === undefined) columns.set(name, [column])
    else others.push(column)
  }
  columnsByAttribute.set(reader.layout, columns)
  return columns
}

const none: readonly ColumnSlice[] = []
const noNames: ReadonlySet<string> = new Set()

/** Rows of pages [pageStart, pageEnd). What it decodes stands in its scratch. */
export class ItemBatch implements RowSource {
  readonly rowCount: number
  /** Row of the block where it begins. */
  readonly rowStart: number
  readonly #slices = new Map<string, readonly ColumnSlice[]>()

  /** wanted: attributes whose columns are needed in any case. */
  constructor(
    readonly reader: BlockReader,
    readonly pageStart: number,
    readonly pageEnd: number,
    readonly scratch: Scratch,
    readonly wanted: ReadonlySet<string> = noNames,
  ) {
    const { pageStarts } = reader.layout
    this.rowStart = pageStarts[pageStart]!
    this.rowCount = pageStarts[pageEnd]! - this.rowStart
  }

  /** The columns of an attribute, `__name` or a system attribute; none where no item here has it. */
  attribute(name: string): readonly ColumnSlice[] {
    let slices = this.#slices.get(name)
    if (slices === undefined) {
      slices = this.#read(name)
      this.#slices.set(name, slices)
    }
    return slices
  }

  /** Only templates of writes have them. */
  placeholder(): readonly ColumnSlice[] {
    return none
  }

  /** See RowSource. By kernels that compare pages as they are stored, where the column is not wanted for anything else. */
  compare(name: string, operator: ComparisonOperator, constant: Scalar, resultPtr: number, scratch: Scratch): boolean {
    if (name === nameAttribute || isSystemAttribute(name) || this.wanted.has(name)) return false
    const columns = attributeColumns(this.reader).get(name) ?? []
    if (columns.some((column) => !canCompare(column, constant))) return false
    const { reader, pageStart, pageEnd, rowCount } = this
    const { call } = reader.io.kernels
    const pages = { start: pageStart, end: pageEnd }
    const mark = scratch.mark()
    let isFirst = true
    for (const column of columns) {
      const comparable = comparableTo(column, constant)
      if (comparable === null) continue
      const bitsPtr = isFirst ? resultPtr : scratch.allocate(Math.ceil(rowCount / 8) + 8)
      comparePages(
        reader,
        column,
        pages,
        { operator: operatorNumbers[operator], constant: comparable },
        bitsPtr,
        scratch,
      )
      if (!isFirst) call.orBits(resultPtr, bitsPtr, resultPtr, rowCount)
      isFirst = false
    }
    scratch.release(mark)
    if (isFirst) call.fillBits(resultPtr, rowCount, 0)
    return true
  }

  #read(name: string): readonly ColumnSlice[] {
    const { reader, pageStart, pageEnd, scratch, rowCount } = this
    if (name === nameAttribute) return [{ ...this.hidden(nameColumn), name }]
    if (isSystemAttribute(name)) {
      const of = timeOf(name)
      const timesPtr = of === null ? 0 : this.hidden(of === 'ctime' ? ctimeColumn : mtimeColumn).valuesPtr
      return [systemColumn(reader.io.kernels, scratch, name, timesPtr, rowCount)]
    }
    const columns = attributeColumns(reader).get(name)
    if (columns === undefined) return none
    return columns.flatMap((column) => readPages(reader, column, pageStart, pageEnd, scratch) ?? [])
  }

  /** A hidden column: every item has it. */
  hidden(name: string): ColumnSlice {
    const known = this.#slices.get(name)
    if (known !== undefined) return known[0]!
    const { reader, pageStart, pageEnd, scratch } = this
    const column = reader.column(name, name === nameColumn ? 'string' : 'time')
    const slice = column === undefined ? null : readPages(reader, column, pageStart, pageEnd, scratch)
    if (slice === null) throw reader.io.damaged(reader.source.id, `it has no column '${name}'`)
    this.#slices.set(name, [slice])
    return slice
  }
}

/** Whether pages of a column can be compared as they are stored, or no cell of it is comparable at all. */
function canCompare({ dtype }: ColumnEntry, constant: Scalar): boolean {
  switch (typeof constant) {
    case 'bigint':
      return dtype !== 'bool'
    // int64 is compared with a float64 as with the integer that this is.
    case 'number':
      return dtype !== 'bool' && (dtype !== 'int64' || Number.isSafeInteger(constant))
    case 'object':
      return !(constant instanceof Uint8Array)
    default:
      return false
  }
}

/** What the cells of a column are compared with; null: no cell of this type is comparable with the constant. */
function comparableTo({ dtype }: ColumnEntry, constant: Scalar): bigint | number | null {
  if (typeof constant === 'object') return dtype === 'time' && 'timeNs' in constant ? constant.timeNs : null
  if (dtype === 'int64') return BigInt(constant)
  return dtype === 'float64' ? Number(constant) : null
}
