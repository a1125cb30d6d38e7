// The keys of a table's partition. One byte says which kind of value stands there; numbers are big endian, so that
// byte order is number order.

export const keyKinds = {
  version: 0x01,
  schema: 0x02,
  schemaCopy: 0x03,
  live: 0x20,
  head: 0x21,
  data: 0x22,
  packed: 0x23,
  dead: 0x24,
  deadCopy: 0x25,
  kills: 0x26,
  killsCopy: 0x27,
  sets: 0x30,
  setsCopy: 0x31,
  stage: 0x40,
  gone: 0x41,
  note: 0x50,
} as const

function keyOf(kind: number, ...numbers: readonly bigint[]): Uint8Array {
  const key = new Uint8Array(1 + 8 * numbers.length)
  key[0] = kind
  const view = new DataView(key.buffer)
  numbers.forEach((number, i) => {
    view.setBigUint64(1 + 8 * i, number)
  })
  return key
}

/** The numbers behind a key's first byte. */
export function keyNumbers(key: Uint8Array): bigint[] {
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength)
  const numbers: bigint[] = []
  for (let at = 1; at + 8 <= key.length; at += 8) numbers.push(view.getBigUint64(at))
  return numbers
}

export const versionKey = keyOf(keyKinds.version)
export const schemaKey = keyOf(keyKinds.schema)
export const schemaCopyKey = keyOf(keyKinds.schemaCopy)
/** The commits stand in the key, so that the order of blocks and the runs they form are known even where a value is damaged. */
export const liveKey = (lastCommit: bigint, firstCommit: bigint, block: bigint): Uint8Array =>
  keyOf(keyKinds.live, lastCommit, firstCommit, block)
export const packedKey = (block: bigint): Uint8Array => keyOf(keyKinds.packed, block)
export const headKey = (block: bigint): Uint8Array => keyOf(keyKinds.head, block)
export const dataKey = (block: bigint, segment: number): Uint8Array => keyOf(keyKinds.data, block, BigInt(segment))
export const setsKey = (first: bigint): Uint8Array => keyOf(keyKinds.sets, first)
export const setsCopyKey = (first: bigint): Uint8Array => keyOf(keyKinds.setsCopy, first)
/** Twice each: what they say stands nowhere else. */
export const deadKeys = (block: bigint): readonly [Uint8Array, Uint8Array] => [
  keyOf(keyKinds.dead, block),
  keyOf(keyKinds.deadCopy, block),
]
export const killsKeys = (commit: bigint): readonly [Uint8Array, Uint8Array] => [
  keyOf(keyKinds.kills, commit),
  keyOf(keyKinds.killsCopy, commit),
]
export const stageKey = (block: bigint): Uint8Array => keyOf(keyKinds.stage, block)
export const goneKey = (block: bigint): Uint8Array => keyOf(keyKinds.gone, block)

/** A value of the backend's own. */
export const noteKey = (high: bigint, low: bigint): Uint8Array => keyOf(keyKinds.note, high, low)

/** All keys of one kind, as a range [start, end). */
export function kindRange(kind: number): { readonly start: Uint8Array; readonly end: Uint8Array } {
  return { start: Uint8Array.of(kind), end: Uint8Array.of(kind + 1) }
}

/** All segments of one block, as a range [start, end). */
export function blockRange(block: bigint): { readonly start: Uint8Array; readonly end: Uint8Array } {
  return { start: keyOf(keyKinds.data, block), end: keyOf(keyKinds.data, block + 1n) }
}
