// The first items of a table's root folder as plain values, for infer.
import type { BlockReader } from '../../blocks/reader.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Value } from '../../frame/dtype.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { attributeColumns, type ItemBatch } from './item-batch.js'
import { nameColumn } from './item-columns.js'
import { compareTexts, foldersOf } from './item-keys.js'
import { Matcher } from './match.js'

/** An item as a message carries it; blobs and arrays are left out. */
export interface PlainSample {
  readonly name: string
  readonly attributes: readonly (readonly [name: string, value: Value])[]
}

export interface SampleInput {
  readonly sourceCount: number
  readonly readerOf: (source: number) => BlockReader
  readonly itemCount: number
  readonly expiredNs: bigint | null
}

/** At most itemCount items, by name. */
export function sampleItems(
  kernels: Kernels,
  scratch: Scratch,
  { sourceCount, readerOf, itemCount, expiredNs }: SampleInput,
): PlainSample[] {
  const matcher = new Matcher(kernels, scratch, { filter: null, expiredNs, segments: null, excludedFolders: [] }, [])
  let samples: PlainSample[] = []
  for (let source = 0; source < sourceCount; source++) {
    const reader = readerOf(source)
    const [root] = foldersOf(reader)
    if (root === undefined || root.folder !== '') continue
    const rows = { start: 0, end: root.rowEnd }
    let found = 0
    for (let page = 0; page < reader.layout.pageCount && found < itemCount; page++) {
      if (reader.layout.pageStarts[page]! >= rows.end) break
      const mark = scratch.mark()
      const match = matcher.match(reader, { start: page, end: page + 1 }, rows, scratch)
      if (match !== null) {
        const { u8 } = kernels
        for (let row = 0; row < match.batch.rowCount && found < itemCount; row++) {
          if (((u8[match.maskPtr + (row >> 3)]! >> (row & 7)) & 1) === 0) continue
          samples.push(plainItem(match.batch, row))
          found++
        }
      }
      scratch.release(mark)
    }
    // Another source may have names before these.
    samples = samples.sort((a, b) => compareTexts(a.name, b.name)).slice(0, itemCount)
  }
  return samples
}

const decoder = new TextDecoder()

function plainItem(batch: ItemBatch, row: number): PlainSample {
  const { kernels } = batch.reader.io
  const attributes: [string, Value][] = []
  for (const name of attributeColumns(batch.reader).keys()) {
    for (const slice of batch.attribute(name)) {
      const value = slice.name.startsWith('#') ? null : valueAt(kernels, slice, row)
      if (value !== null) attributes.push([name, value])
    }
  }
  return { name: String(valueAt(kernels, batch.hidden(nameColumn), row)), attributes }
}

function valueAt({ u8, u32, i64, f64 }: Kernels, slice: ColumnSlice, row: number): Value | null {
  const { dtype, valuesPtr, validityPtr, bytesPtr } = slice
  const bit = (ptr: number): boolean => ((u8[ptr + (row >> 3)]! >> (row & 7)) & 1) === 1
  if (validityPtr !== 0 && !bit(validityPtr)) return null
  if (dtype === 'int64') return i64[(valuesPtr >> 3) + row]!
  if (dtype === 'time') return { timeNs: i64[(valuesPtr >> 3) + row]! }
  if (dtype === 'float64') return f64[(valuesPtr >> 3) + row]!
  if (dtype === 'bool') return bit(valuesPtr)
  const offsets = (valuesPtr >> 2) + row
  return decoder.decode(u8.slice(bytesPtr + u32[offsets]!, bytesPtr + u32[offsets + 1]!))
}
