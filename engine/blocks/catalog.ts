// Which tables there are: (container, backend, path) names one, and its rows stand in the partition of its generation.
import { randomBytes } from 'node:crypto'
import { pack, unpack } from 'msgpackr'
import { FramesError } from '../errors.js'
import { tablePathByteLengthMax } from '../limits.js'
import type { Store } from '../stores/store.js'
import { seal, unseal } from './sealed.js'

const catalogPartition = 'catalog'

export interface TableName {
  readonly container: string
  readonly backend: string
  readonly path: string
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** A path without empty parts at its ends or inside: `/a//b/` is `a/b`. Throws INVALID_ARGUMENT when it is too long. */
export function tablePath(text: string): string {
  const isPlain = text !== '' && !text.startsWith('/') && !text.endsWith('/') && !text.includes('//')
  const path = isPlain
    ? text
    : text
        .split('/')
        .filter((part) => part !== '')
        .join('/')
  if (path === '') throw new FramesError('MISSING_PARAMETER', 'the table has no name')
  if (path.includes('\0')) throw new FramesError('INVALID_ARGUMENT', 'a table path cannot hold a NUL character')
  // A UTF-16 unit is three bytes at most.
  const byteLength = 3 * path.length <= tablePathByteLengthMax ? path.length : encoder.encode(path).length
  if (byteLength > tablePathByteLengthMax) {
    throw new FramesError(
      'INVALID_ARGUMENT',
      `the table path has ${byteLength} bytes; at most ${tablePathByteLengthMax} are possible`,
    )
  }
  return path
}

/** How messages name a table. */
export function shownName({ container, path }: TableName): string {
  return `${container}/${path}`
}

function keyOf({ container, backend, path }: TableName): Uint8Array {
  if (container.includes('\0') || encoder.encode(container).length > 256) {
    throw new FramesError('INVALID_ARGUMENT', 'a container name has at most 256 bytes and no NUL character')
  }
  return encoder.encode(`${container}\0${backend}\0${path}`)
}

/** A fresh partition for one generation of a table. */
export function newPartition(): string {
  return `t${randomBytes(10).toString('hex')}`
}

export class Catalog {
  constructor(readonly store: Store) {}

  /** The partition of a table, or null. Throws DATA_DAMAGED. */
  async find(name: TableName): Promise<string | null> {
    const key = keyOf(name)
    const [value] = await this.store.read(catalogPartition, [key])
    if (value == null) return null
    const payload = unseal(key, value)
    if (payload === null)
      throw new FramesError('DATA_DAMAGED', `the catalog entry of table '${shownName(name)}' is damaged`)
    return (unpack(payload) as [partition: string])[0]
  }

  /** Whether there are tables whose paths begin with that of `name` and a slash. */
  async hasBelow(name: TableName): Promise<boolean> {
    const start = keyOf({ ...name, path: `${name.path}/` })
    // The byte behind '/'.
    const end = keyOf({ ...name, path: `${name.path}0` })
    return (await this.store.scan(catalogPartition, { start, end, limit: 1, keysOnly: true })).length > 0
  }

  /** Names a filled partition. False when the table exists: then nothing changed. */
  async add(name: TableName, partition: string): Promise<boolean> {
    const key = keyOf(name)
    try {
      await this.store.commit({
        partition: catalogPartition,
        expect: [{ key, value: null }],
        puts: [{ key, value: seal(key, pack([partition])) }],
      })
      return true
    } catch (error) {
      if (error instanceof FramesError && error.code === 'COMMIT_CONFLICT') return false
      throw error
    }
  }

  /** Gives the name of a partition to another one. False when it does not name the first (any more): then nothing changed. */
  async replace(name: TableName, oldPartition: string, newPartition: string): Promise<boolean> {
    const key = keyOf(name)
    const [expected, value] = [oldPartition, newPartition].map((partition) => seal(key, pack([partition])))
    try {
      await this.store.commit({
        partition: catalogPartition,
        expect: [{ key, value: expected! }],
        puts: [{ key, value: value! }],
      })
      return true
    } catch (error) {
      if (error instanceof FramesError && error.code === 'COMMIT_CONFLICT') return false
      throw error
    }
  }

  /** Takes the name from a partition. False when it does not name this partition (any more): then nothing changed. */
  async remove(name: TableName, partition: string): Promise<boolean> {
    const key = keyOf(name)
    const expect = [{ key, value: seal(key, pack([partition])) }]
    try {
      await this.store.commit({ partition: catalogPartition, expect, puts: [], deletes: [key], makesRoom: true })
      return true
    } catch (error) {
      if (error instanceof FramesError && error.code === 'COMMIT_CONFLICT') return false
      throw error
    }
  }

  /** The tables of a backend; those that are made or deleted meanwhile may be among them or not. */
  async *names(backend: string): AsyncGenerator<TableName> {
    for await (const { key } of this.#entries()) {
      const [container, of, ...path] = decoder.decode(key).split('\0')
      if (of === backend) yield { container: container!, backend, path: path.join('\0') }
    }
  }

  async *#entries(): AsyncGenerator<{ key: Uint8Array; value: Uint8Array }> {
    const limit = 1000
    for (let start: Uint8Array | undefined; ; ) {
      const entries = await this.store.scan(catalogPartition, start === undefined ? { limit } : { start, limit })
      yield* entries
      if (entries.length < limit) return
      const last = entries[entries.length - 1]!.key
      start = new Uint8Array(last.length + 1)
      start.set(last)
    }
  }

  /** Erases partitions that no table names: a crash left them between two steps of a create or delete. */
  async eraseOrphans(): Promise<number> {
    const named = new Set<string>()
    for await (const { key, value } of this.#entries()) {
      const payload = unseal(key, value)
      // A damaged entry may name any partition: then nothing can be called an orphan.
      if (payload === null) return 0
      named.add((unpack(payload) as [partition: string])[0])
    }
    let count = 0
    for (const partition of await this.store.partitions('t')) {
      if (named.has(partition)) continue
      await this.store.dropPartition(partition)
      count++
    }
    return count
  }
}
