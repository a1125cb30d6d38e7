// Blocks as messages to workers carry them: as numbers in lists. A message of objects takes as long to write and to read
// as the look-up of some dozens of items, and it is sent with each batch of writes. A typed array has memory of its own on
// both sides, which takes longer than a hundred numbers; more of them are written and read much faster so.
import type { BlockSource } from './reader.js'

/** Made by sendSources, read by receiveSources. */
export interface SentSources {
  readonly ids: BigUint64Array | readonly bigint[]
  /** The fields of each block, then its extent. */
  readonly numbers: Float64Array | readonly number[]
  /** Those that have bytes of their own or are damaged stand here, and not among the numbers. */
  readonly others: readonly BlockSource[]
}

const fieldCount = 9
/** Blocks that are sent in plain lists, at most. */
const listedCountMax = 8
/** As the first field: the block stands among the others. */
const isOther = -1
/** As an offset or a length: there is none. */
const none = -1

function isPlain({ values, dead, damage }: BlockSource): boolean {
  return values === null && !(dead instanceof Uint8Array) && damage === null
}

export function sendSources(sources: readonly BlockSource[]): SentSources {
  const ids: bigint[] = []
  const numbers: number[] = []
  const others: BlockSource[] = []
  for (const source of sources) {
    ids.push(source.id)
    if (!isPlain(source)) {
      others.push(source)
      numbers.push(isOther)
      continue
    }
    const { packed, dead, extent } = source
    numbers.push(
      source.rowCount,
      source.headerByteLength,
      source.headerCrc,
      source.isPacked ? 1 : 0,
      packed?.byteOffset ?? none,
      packed?.byteLength ?? none,
      dead === null || dead instanceof Uint8Array ? none : dead.byteOffset,
      dead === null || dead instanceof Uint8Array ? none : dead.byteLength,
      extent?.length ?? none,
    )
    if (extent !== null) for (let i = 0; i < extent.length; i++) numbers.push(extent[i]!)
  }
  if (sources.length <= listedCountMax) return { ids, numbers, others }
  return { ids: new BigUint64Array(ids), numbers: new Float64Array(numbers), others }
}

export function receiveSources({ ids, numbers, others }: SentSources): BlockSource[] {
  let at = 0
  let other = 0
  const sources: BlockSource[] = []
  for (const id of ids) {
    const rowCount = numbers[at++]!
    if (rowCount === isOther) {
      sources.push(others[other++]!)
      continue
    }
    const headerByteLength = numbers[at]!
    const headerCrc = numbers[at + 1]!
    const isPacked = numbers[at + 2] === 1
    const packedOffset = numbers[at + 3]!
    const packedByteLength = numbers[at + 4]!
    const deadOffset = numbers[at + 5]!
    const deadByteLength = numbers[at + 6]!
    const extentLength = numbers[at + 7]!
    at += fieldCount - 1
    let extent: number[] | null = null
    if (extentLength !== none) {
      extent = []
      for (let i = 0; i < extentLength; i++) extent.push(numbers[at++]!)
    }
    sources.push({
      id,
      rowCount,
      headerByteLength,
      headerCrc,
      extent,
      isPacked,
      packed: packedOffset === none ? null : { byteOffset: packedOffset, byteLength: packedByteLength },
      values: null,
      dead: deadOffset === none ? null : { byteOffset: deadOffset, byteLength: deadByteLength },
      damage: null,
    })
  }
  return sources
}
