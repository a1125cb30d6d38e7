// Blocks as messages to workers carry them: as numbers in one array. A message of objects takes as long to write and to read
// as the look-up of some dozens of items, and it is sent with each batch of writes.
import type { BlockSource } from './reader.js'

/** Made by sendSources, read by receiveSources. */
export interface SentSources {
  /** The fields of each block, its id first, as the bits of a u64; then its extent. */
  readonly numbers: Float64Array
  /** Those that have bytes of their own or are damaged stand here, and not among the numbers. */
  readonly others: readonly BlockSource[]
}

const fieldCount = 10
/** As the second field: the block stands among the others. */
const isOther = -1
/** As an offset or a length: there is none. */
const none = -1

function isPlain({ values, dead, damage }: BlockSource): boolean {
  return values === null && !(dead instanceof Uint8Array) && damage === null
}

export function sendSources(sources: readonly BlockSource[]): SentSources {
  let count = 0
  for (const { extent } of sources) count += fieldCount + (extent?.length ?? 0)
  const numbers = new Float64Array(count)
  const ids = new BigUint64Array(numbers.buffer)
  const others: BlockSource[] = []
  let at = 0
  for (const source of sources) {
    ids[at++] = source.id
    if (!isPlain(source)) {
      others.push(source)
      numbers[at++] = isOther
      continue
    }
    const { packed, dead, extent } = source
    numbers[at++] = source.rowCount
    numbers[at++] = source.headerByteLength
    numbers[at++] = source.headerCrc
    numbers[at++] = source.isPacked ? 1 : 0
    numbers[at++] = packed?.byteOffset ?? none
    numbers[at++] = packed?.byteLength ?? none
    numbers[at++] = dead === null || dead instanceof Uint8Array ? none : dead.byteOffset
    numbers[at++] = dead === null || dead instanceof Uint8Array ? none : dead.byteLength
    numbers[at++] = extent?.length ?? none
    if (extent !== null) for (let i = 0; i < extent.length; i++) numbers[at++] = extent[i]!
  }
  return { numbers: at === count ? numbers : numbers.slice(0, at), others }
}

export function receiveSources({ numbers, others }: SentSources): BlockSource[] {
  const ids = new BigUint64Array(numbers.buffer, numbers.byteOffset, numbers.length)
  let at = 0
  let other = 0
  const sources: BlockSource[] = []
  while (at < numbers.length) {
    const id = ids[at++]!
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
    at += fieldCount - 2
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
