// Which attributes a table's living items have, in which types: what the columns of a read depend on.
import type { ColumnEntry } from '../../blocks/block.js'
import type { BlockReader } from '../../blocks/reader.js'
import type { Scratch } from '../../memory/scratch.js'
import { attributeColumns, ItemBatch } from './item-batch.js'
import { blobColumn, nameColumn } from './item-columns.js'
import { compareTexts } from './item-keys.js'
import { namePart, valueOfNameText } from './name-values.js'
import type { ShownType, StoredType, TableContents } from './read-shape.js'
import { dtypeOfFieldType } from './read-shape.js'
import type { KvSchema } from './schema.js'

type ContentsSchema = Pick<KvSchema, 'fields' | 'key' | 'sortingKey'>

/** What was found out of a block, kept with it; dead rows only grow, so their number says whether it still holds. */
interface BlockFindings {
  readonly deadCount: number
  /** Columns with a value in a living row, by place in the header; only those that were asked for. */
  readonly living: Map<number, boolean>
  /** By attribute and type: whether some living item lacks the attribute and has a name that is no text of the type. */
  readonly unreadable: Map<string, boolean>
}

const findings = new WeakMap<object, BlockFindings>()

function findingsOf(reader: BlockReader, deadCount: number): BlockFindings {
  const known = findings.get(reader.layout)
  if (known?.deadCount === deadCount) return known
  const fresh: BlockFindings = { deadCount, living: new Map(), unreadable: new Map() }
  findings.set(reader.layout, fresh)
  return fresh
}

const decoder = new TextDecoder()

/**
 * Looks through the headers of all blocks; into pages only where rows are dead and a column would add something to what
 * the schema says, and where items lack their key.
 */
export function tableContents(
  sourceCount: number,
  readerOf: (source: number) => BlockReader,
  schema: ContentsSchema,
  scratch: Scratch,
): TableContents {
  const fieldTypes = new Map(schema.fields.map(({ name, type }) => [name, dtypeOfFieldType[type]]))
  const found = new Map<string, Set<StoredType>>()
  const isNameText = { [schema.key]: false, [schema.sortingKey]: false }
  for (let source = 0; source < sourceCount; source++) {
    const reader = readerOf(source)
    const { kernels, cache } = reader.io
    cache.beginEpoch()
    const deadPtr = reader.dead()
    const deadCount = deadPtr === 0 ? 0 : kernels.call.countBits(deadPtr, reader.layout.rowCount)
    if (deadCount === reader.layout.rowCount) continue
    const known = findingsOf(reader, deadCount)
    for (const [name, columns] of attributeColumns(reader)) {
      const fieldType = fieldTypes.get(name)
      for (const column of columns) {
        const type: StoredType = column.name === blobColumn(name) ? 'blob' : (column.dtype as StoredType)
        let types = found.get(name)
        if (types?.has(type) === true) continue
        if (deadCount > 0 && fieldType !== type && !isLiving(reader, column, known, scratch)) continue
        if (types === undefined) found.set(name, (types = new Set()))
        types.add(type)
      }
    }
    for (const name of [schema.key, schema.sortingKey]) {
      const type = fieldTypes.get(name)
      if (name === '' || type === undefined || type === 'string' || isNameText[name] === true) continue
      const part = name === schema.sortingKey ? 'sorting' : schema.sortingKey === '' ? 'all' : 'key'
      if (hasUnreadableName(reader, name, part, type, known, scratch)) isNameText[name] = true
    }
  }
  const attributes = [...found].map(([name, types]) => ({ name, types: [...types] }))
  attributes.sort((a, b) => compareTexts(a.name, b.name))
  return {
    attributes,
    isKeyText: isNameText[schema.key] === true,
    isSortingKeyText: schema.sortingKey !== '' && isNameText[schema.sortingKey] === true,
  }
}

/** Whether a living row has a value in this column. */
function isLiving(reader: BlockReader, column: ColumnEntry, known: BlockFindings, scratch: Scratch): boolean {
  let living = known.living.get(column.index)
  if (living === undefined) {
    living = somePage(reader, scratch, (batch, livingPtr) => {
      const slices = batch.attribute(column.name.startsWith('#') ? column.name.slice(1) : column.name)
      const slice = slices.find(({ name, dtype }) => name === column.name && dtype === column.dtype)
      if (slice === undefined) return false
      const { call } = reader.io.kernels
      if (slice.validityPtr !== 0) call.andBits(livingPtr, slice.validityPtr, livingPtr, batch.rowCount)
      return call.countBits(livingPtr, batch.rowCount) > 0
    })
    known.living.set(column.index, living)
  }
  return living
}

/** Whether a living item lacks the attribute and its name does not tell a value of the type. */
function hasUnreadableName(
  reader: BlockReader,
  name: string,
  part: 'all' | 'key' | 'sorting',
  type: ShownType,
  known: BlockFindings,
  scratch: Scratch,
): boolean {
  const key = `${type} ${part} ${name}`
  let unreadable = known.unreadable.get(key)
  if (unreadable === undefined) {
    unreadable =
      !isComplete(reader, name) &&
      somePage(reader, scratch, (batch, lackingPtr) => {
        const { call, u8, u32 } = reader.io.kernels
        for (const { validityPtr } of batch.attribute(name)) {
          if (validityPtr === 0) return false
          call.andNotBits(lackingPtr, validityPtr, lackingPtr, batch.rowCount)
        }
        const count = call.countBits(lackingPtr, batch.rowCount)
        if (count === 0) return false
        const rowsPtr = scratch.allocate(4 * count)
        call.bitsToIndexes(lackingPtr, batch.rowCount, rowsPtr)
        const names = batch.hidden(nameColumn)
        for (let i = 0; i < count; i++) {
          const offset = (names.valuesPtr >> 2) + u32[(rowsPtr >> 2) + i]!
          const bytes = u8.slice(names.bytesPtr + u32[offset]!, names.bytesPtr + u32[offset + 1]!)
          const text = namePart(decoder.decode(bytes), part)
          if (text === null || valueOfNameText(text, type) === null) return true
        }
        return false
      })
    known.unreadable.set(key, unreadable)
  }
  return unreadable
}

/** Whether all rows of a block have a value in one column of the attribute. */
function isComplete(reader: BlockReader, name: string): boolean {
  const columns = attributeColumns(reader).get(name) ?? []
  return columns.some((column) => {
    const { presentCounts } = reader.table(column)
    return presentCounts.reduce((sum, count) => sum + count, 0) === reader.layout.rowCount
  })
}

/** Whether `test` holds for a page; it is given the living rows as a bitmap that it may change. */
function somePage(
  reader: BlockReader,
  scratch: Scratch,
  test: (batch: ItemBatch, livingPtr: number) => boolean,
): boolean {
  const { kernels, cache } = reader.io
  const { call } = kernels
  for (let page = 0; page < reader.layout.pageCount; page++) {
    const mark = scratch.mark()
    cache.beginEpoch()
    const batch = new ItemBatch(reader, page, page + 1, scratch)
    const bitsByteLength = 8 * Math.ceil(batch.rowCount / 64) + 16
    const livingPtr = scratch.allocate(bitsByteLength)
    call.fillBits(livingPtr, batch.rowCount, 1)
    const deadPtr = reader.dead()
    if (deadPtr !== 0) {
      const piecePtr = scratch.allocate(bitsByteLength)
      call.copyBits(deadPtr, batch.rowStart, piecePtr, 0, batch.rowCount)
      call.andNotBits(livingPtr, piecePtr, livingPtr, batch.rowCount)
    }
    const holds = call.countBits(livingPtr, batch.rowCount) > 0 && test(batch, livingPtr)
    scratch.release(mark)
    if (holds) return true
  }
  return false
}
