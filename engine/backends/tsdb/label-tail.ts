// The part of a frame that tells its label set: label columns and the labels map, as wire bytes. It is the same for every
// frame of a set with as many rows, so a worker keeps what it wrote last.
import { encodedFrameBound, encodeFrame } from '../../codec/wire.js'
import type { ColumnSlice, FrameSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import { MiB } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'

export type Labels = readonly (readonly [name: string, value: string])[]

interface Tail {
  readonly rowCount: number
  readonly multiIndex: boolean
  readonly bytes: Uint8Array
}

const tailByteLengthMax = 16 * MiB
/** Then the oldest go, a quarter at once: a map that loses its first entry each time walks over the places of all lost before. */
const tailByteLengthKept = 12 * MiB
/** By what the sets are of, then by set. */
const tails = new Map<string, Map<number, Tail>>()
let tailByteLength = 0
/** What a tail takes beside its bytes, about. */
const tailOverheadByteLength = 200

/** Tails of one list of sets, one behind the other. */
interface TailList {
  readonly of: string
  readonly sets: Uint32Array
  readonly rowCount: number
  readonly multiIndex: boolean
  /** One more than there are tails. */
  readonly offsets: Uint32Array
  readonly bytes: Uint8Array
}

/** Lists that were asked for last: dashboards ask for the same sets again and again. */
const tailLists: TailList[] = []
const tailListCountMax = 8
const tailListByteLengthMax = MiB

const noBytes = new Uint8Array(0)
const textEncoder = new TextEncoder()

/**
 * The name of a label's column. `__name__`, which an index column may be called, is the metric's name elsewhere, so clients
 * of this protocol are shown another; the labels map keeps it.
 */
export function shownLabelName(name: string): string {
  return name === '__name__' ? 'metric_name' : name
}

/** Label columns of constant text, in scratch. */
export function labelColumns(kernels: Kernels, scratch: Scratch, labels: Labels, rowCount: number): ColumnSlice[] {
  return labels.map(([name, value]) => {
    const bytes = textEncoder.encode(value)
    const valuesPtr = scratch.allocate(8)
    const bytesPtr = scratch.allocate(bytes.length)
    kernels.u32[valuesPtr >> 2] = 0
    kernels.u32[(valuesPtr >> 2) + 1] = bytes.length
    kernels.u8.set(bytes, bytesPtr)
    return {
      name,
      dtype: 'string',
      kind: 'label',
      rowCount,
      valuesPtr,
      validityPtr: 0,
      bytesPtr,
      byteLength: bytes.length,
    }
  })
}

/** labelColumns as a frame shows them. */
export function shownLabelColumns(
  kernels: Kernels,
  scratch: Scratch,
  labels: Labels,
  rowCount: number,
): readonly ColumnSlice[] {
  return labelColumns(kernels, scratch, labels, rowCount).map((column) => {
    return { ...column, name: shownLabelName(column.name) }
  })
}

/**
 * Wire bytes to append to a frame that has the set's value columns and its time index. Fields of one number keep their
 * order when messages are joined, so label columns come behind the value columns, or (multiIndex) behind the index.
 *
 * of, set  name the label set: a set of that number among those of one table, with the labels that are wanted of them
 */
export function labelTail(
  kernels: Kernels,
  scratch: Scratch,
  of: string,
  set: number,
  labelsOf: () => Labels,
  rowCount: number,
  multiIndex: boolean,
): Uint8Array {
  let own = tails.get(of)
  const known = own?.get(set)
  if (known !== undefined && known.rowCount === rowCount && known.multiIndex === multiIndex) return known.bytes
  const labels = labelsOf()
  // A frame without any column would have its row count told by null maps; joined, the frame would have them twice.
  const bytes = labels.length === 0 ? noBytes : encodedLabels(kernels, scratch, labels, rowCount, multiIndex)
  if (own === undefined) tails.set(of, (own = new Map()))
  if (known !== undefined) {
    own.delete(set)
    tailByteLength -= tailOverheadByteLength + known.bytes.length
  }
  own.set(set, { rowCount, multiIndex, bytes })
  tailByteLength += tailOverheadByteLength + bytes.length
  if (tailByteLength > tailByteLengthMax) dropOldTails()
  return bytes
}

/** labelTail of many sets. The arrays are those of the next who asks for the same, too. */
export function labelTails(
  of: string,
  sets: Uint32Array,
  rowCount: number,
  multiIndex: boolean,
  tailAt: (index: number) => Uint8Array,
): Pick<TailList, 'offsets' | 'bytes'> {
  const known = tailLists.findIndex((list) => {
    const isAlike = list.of === of && list.rowCount === rowCount && list.multiIndex === multiIndex
    return isAlike && list.sets.length === sets.length && list.sets.every((set, i) => set === sets[i])
  })
  if (known >= 0) {
    const [list] = tailLists.splice(known, 1)
    tailLists.push(list!)
    return list!
  }
  const tails = Array.from(sets, (_, index) => tailAt(index))
  const offsets = new Uint32Array(tails.length + 1)
  for (let i = 0; i < tails.length; i++) offsets[i + 1] = offsets[i]! + tails[i]!.length
  const bytes = new Uint8Array(offsets[tails.length]!)
  for (let i = 0; i < tails.length; i++) bytes.set(tails[i]!, offsets[i])
  const list: TailList = { of, sets: sets.slice(), rowCount, multiIndex, offsets, bytes }
  if (bytes.length + 8 * sets.length <= tailListByteLengthMax) {
    tailLists.push(list)
    if (tailLists.length > tailListCountMax) tailLists.shift()
  }
  return list
}

function dropOldTails(): void {
  for (const [of, own] of tails) {
    for (const [set, { bytes }] of own) {
      own.delete(set)
      tailByteLength -= tailOverheadByteLength + bytes.length
      if (tailByteLength <= tailByteLengthKept) return
    }
    tails.delete(of)
  }
}

function encodedLabels(
  kernels: Kernels,
  scratch: Scratch,
  labels: Labels,
  rowCount: number,
  multiIndex: boolean,
): Uint8Array {
  const mark = scratch.mark()
  const columns = shownLabelColumns(kernels, scratch, labels, rowCount)
  const frame: FrameSlice = {
    rowCount,
    columns: multiIndex ? [] : columns,
    indices: multiIndex ? columns : [],
    labels: labels.map(([name, value]) => ({ name, value })),
  }
  const bound = encodedFrameBound(frame)
  const targetPtr = scratch.allocate(bound)
  const bytes = kernels.u8.slice(targetPtr, targetPtr + encodeFrame(kernels, frame, targetPtr, bound))
  scratch.release(mark)
  return bytes
}
