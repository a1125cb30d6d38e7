// The attributes of the items that a batch of writes is about, while it is settled: one cell an item and type of an
// attribute, changed in place row by row. What is left in the end is stored.
import { assert } from '../../assert.js'
import { FramesError } from '../../errors.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { DType } from '../../frame/dtype.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { attributeOf } from './item-columns.js'

/**
 * One stored column of an attribute, at the places of the items.
 *
 * cellsPtr     int64, float64, time: 8 bytes an item; string: references (place and length, u32 each) to text that stays
 *              where it is; bool: a bit an item
 * validityPtr  a bit an item, always there
 */
interface StateColumn {
  /** As stored: a blob's begins with '#'. */
  readonly name: string
  readonly dtype: DType
  readonly cellsPtr: number
  readonly validityPtr: number
}

/** The attribute whose cells a column has. */
export function stateAttribute(columnName: string): string {
  const attribute = attributeOf(columnName)
  assert(attribute !== null, 'names and times of items are no attributes')
  return attribute
}

/** Rows of a column, and the item that each goes to. rowsPtr 0: rows 0, 1, 2, … */
export interface RowsOfItems {
  readonly rowsPtr: number
  readonly itemsPtr: number
  readonly count: number
}

export class ItemStates {
  readonly #byAttribute = new Map<string, StateColumn[]>()

  constructor(
    readonly kernels: Kernels,
    readonly scratch: Scratch,
    readonly itemCount: number,
  ) {}

  /** Takes the stored cells of all items, as a column in this batch's scratch whose texts stay. */
  load(column: ColumnSlice): void {
    const { call } = this.kernels
    const { dtype, validityPtr, valuesPtr, bytesPtr } = column
    if (validityPtr !== 0 && call.countBits(validityPtr, this.itemCount) === 0) return
    if (dtype !== 'string' && dtype !== 'null' && validityPtr !== 0) {
      this.#add({ name: column.name, dtype, cellsPtr: valuesPtr, validityPtr })
      return
    }
    const target = this.#column(column.name, dtype)
    const mark = this.scratch.mark()
    const itemsPtr = this.scratch.allocate(4 * this.itemCount)
    call.countUp(this.itemCount, 0, itemsPtr)
    if (dtype === 'string') {
      const { cellsPtr, validityPtr: targetValidity } = target
      call.assignCellTexts(valuesPtr, bytesPtr, validityPtr, 0, itemsPtr, this.itemCount, cellsPtr, targetValidity)
    } else this.#scatter(target, column, { rowsPtr: 0, itemsPtr, count: this.itemCount })
    this.scratch.release(mark)
  }

  #add(column: StateColumn): void {
    const attribute = stateAttribute(column.name)
    const columns = this.#byAttribute.get(attribute)
    if (columns === undefined) this.#byAttribute.set(attribute, [column])
    else columns.push(column)
  }

  /** The column of a name and type; made when no item has had such a cell yet. */
  #column(name: string, dtype: DType): StateColumn {
    const known = this.#byAttribute
      .get(stateAttribute(name))
      ?.find((column) => column.name === name && column.dtype === dtype)
    if (known !== undefined) return known
    const bitmapByteLength = Math.ceil(this.itemCount / 64) * 8
    const validityPtr = this.scratch.allocate(bitmapByteLength)
    const cellsPtr = this.scratch.allocate(dtype === 'bool' ? bitmapByteLength : 8 * this.itemCount)
    this.kernels.u8.fill(0, validityPtr, validityPtr + bitmapByteLength)
    const column = { name, dtype, cellsPtr, validityPtr }
    this.#add(column)
    return column
  }

  #scatter(target: StateColumn, { dtype, valuesPtr, bytesPtr, validityPtr }: ColumnSlice, rows: RowsOfItems): void {
    const { call } = this.kernels
    const { rowsPtr, itemsPtr, count } = rows
    const { cellsPtr, validityPtr: targetValidity } = target
    if (dtype === 'string')
      call.assignCellTexts(valuesPtr, bytesPtr, validityPtr, rowsPtr, itemsPtr, count, cellsPtr, targetValidity)
    else if (dtype === 'bool')
      call.assignCellBits(valuesPtr, validityPtr, rowsPtr, itemsPtr, count, cellsPtr, targetValidity)
    else if (dtype !== 'null')
      call.assignCells64(valuesPtr, validityPtr, rowsPtr, itemsPtr, count, cellsPtr, targetValidity)
  }

  /** Takes an attribute from items. */
  remove(attribute: string, { itemsPtr, count }: RowsOfItems): void {
    for (const { validityPtr } of this.#byAttribute.get(attribute) ?? [])
      this.kernels.call.clearItems(itemsPtr, count, validityPtr)
  }

  removeAll(rows: RowsOfItems): void {
    for (const attribute of this.#byAttribute.keys()) this.remove(attribute, rows)
  }

  /** Gives items the present cells of a column, whatever type the attribute had before; missing cells change nothing. */
  assign(column: ColumnSlice, rows: RowsOfItems): void {
    if (column.dtype === 'null') return
    const { call } = this.kernels
    const target = this.#column(column.name, column.dtype)
    for (const other of this.#byAttribute.get(stateAttribute(column.name))!) {
      if (other === target) continue
      call.clearPresent(column.validityPtr, rows.rowsPtr, rows.itemsPtr, rows.count, other.validityPtr)
    }
    this.#scatter(target, column, rows)
  }

  /** An attribute of items as columns of `count` rows in scratch; none when no item has ever had it. */
  attribute(attribute: string, itemsPtr: number, count: number, scratch: Scratch): ColumnSlice[] {
    return (this.#byAttribute.get(attribute) ?? []).map((column) => this.#gather(column, itemsPtr, count, scratch))
  }

  /** Every attribute of items (all of them, or some), as stored columns; those without a cell left are left out. */
  columns(itemsPtr: number, count: number, scratch: Scratch): ColumnSlice[] {
    const { call } = this.kernels
    return [...this.#byAttribute.values()]
      .flat()
      .filter(({ validityPtr }) => call.countBits(validityPtr, this.itemCount) > 0)
      .map((column): ColumnSlice => {
        const { name, dtype, cellsPtr: valuesPtr, validityPtr } = column
        if (count < this.itemCount || dtype === 'string') return this.#gather(column, itemsPtr, count, scratch)
        return { name, dtype, kind: 'slice', rowCount: count, valuesPtr, validityPtr, bytesPtr: 0, byteLength: 0 }
      })
  }

  #gather(
    { name, dtype, cellsPtr, validityPtr }: StateColumn,
    itemsPtr: number,
    count: number,
    scratch: Scratch,
  ): ColumnSlice {
    const { call } = this.kernels
    const bitmapByteLength = Math.ceil(count / 64) * 8
    const targetValidity = scratch.allocate(bitmapByteLength)
    call.gatherBits(validityPtr, itemsPtr, count, targetValidity)
    const column = { name, dtype, kind: 'slice', rowCount: count, validityPtr: targetValidity } as const
    if (dtype === 'string') {
      const byteLength = call.referencedByteLength(cellsPtr, validityPtr, itemsPtr, count)
      if (byteLength < 0) throw new FramesError('FRAME_TOO_LARGE', `the items have 2 GiB of text or more in '${name}'`)
      const valuesPtr = scratch.allocate(4 * (count + 1))
      const bytesPtr = scratch.allocate(byteLength)
      call.copyReferenced(cellsPtr, validityPtr, itemsPtr, count, valuesPtr, bytesPtr)
      return { ...column, valuesPtr, bytesPtr, byteLength }
    }
    if (dtype === 'bool') {
      const valuesPtr = scratch.allocate(bitmapByteLength)
      call.gatherBits(cellsPtr, itemsPtr, count, valuesPtr)
      return { ...column, valuesPtr, bytesPtr: 0, byteLength: 0 }
    }
    const valuesPtr = scratch.allocate(8 * count)
    call.gather64(cellsPtr, itemsPtr, count, valuesPtr)
    call.clearMissing64(valuesPtr, targetValidity, count)
    return { ...column, valuesPtr, bytesPtr: 0, byteLength: 0 }
  }
}
