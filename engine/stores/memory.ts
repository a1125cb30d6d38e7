// A store in the memory of this process, for tests: ordered, atomic, and it fails when it is told to.
import { assert } from '../assert.js'
import { FramesError } from '../errors.js'
import { assertBatch, assertPartition } from './keys.js'
import type { Batch, Entry, ScanRange, Store, WorkerAccess } from './store.js'

export type FaultPoint = 'commit' | 'read' | 'scan'

/** Failures and delays on demand. A commit that fails here has written nothing, as the interface promises. */
export class Faults {
  readonly #calls: Record<FaultPoint, number> = { commit: 0, read: 0, scan: 0 }
  readonly #failures: { point: FaultPoint; firstCall: number; endCall: number; error: FramesError }[] = []
  readonly #delaysMs: Record<FaultPoint, number> = { commit: 0, read: 0, scan: 0 }

  /** Fails `times` calls from the n-th on, counted from now; the next one is n = 1. */
  fail(point: FaultPoint, error: FramesError, { n = 1, times = 1 }: { n?: number; times?: number } = {}): void {
    const firstCall = this.#calls[point] + n
    this.#failures.push({ point, firstCall, endCall: firstCall + times, error })
  }

  /** Takes back the failures that have not happened yet. */
  clear(): void {
    this.#failures.length = 0
  }

  /** Every call waits this long before anything happens; 0 ends it. */
  delay(point: FaultPoint, ms: number): void {
    this.#delaysMs[point] = ms
  }

  /** Calls so far: with it a test can fail each call of a longer piece of work in turn. */
  callCount(point: FaultPoint): number {
    return this.#calls[point]
  }

  /** Counts the call; the store waits for the delay, then throws the error if there is one. */
  enter(point: FaultPoint): { error: FramesError | null; delayMs: number } {
    const call = ++this.#calls[point]
    const failure = this.#failures.find((one) => one.point === point && one.firstCall <= call && call < one.endCall)
    return { error: failure?.error ?? null, delayMs: this.#delaysMs[point] }
  }
}

/** Opens an empty store. Its values lie in SharedArrayBuffers, so that a message can carry them to a worker uncopied. */
export function openMemoryStore({ faults = new Faults() }: { faults?: Faults } = {}): Store {
  return new MemoryStore(faults)
}

class MemoryStore implements Store {
  readonly workerAccess: WorkerAccess = null
  readonly #partitions = new Map<string, OrderedMap>()
  readonly #faults: Faults
  /** Settles when the last commit so far has: commits happen in the order of their calls. */
  #lastCommit: Promise<unknown> = Promise.resolve()
  #closed = false

  constructor(faults: Faults) {
    this.#faults = faults
  }

  async read(partition: string, keys: readonly Uint8Array[]): Promise<(Uint8Array | null)[]> {
    assertPartition(partition)
    await this.#enter('read')
    const map = this.#partitions.get(partition)
    return keys.map((key) => map?.get(toName(key)) ?? null)
  }

  async scan(partition: string, range: ScanRange): Promise<Entry[]> {
    assertPartition(partition)
    await this.#enter('scan')
    return this.#partitions.get(partition)?.scan(range) ?? []
  }

  commit(batch: Batch): Promise<void> {
    if (this.#closed) return Promise.reject(storeClosed())
    assertBatch(batch)
    const { error, delayMs } = this.#faults.enter('commit')
    const commit = this.#lastCommit.then(async () => {
      if (delayMs > 0) await waitMs(delayMs)
      if (error) throw error
      this.#apply(batch)
    })
    this.#lastCommit = commit.catch(() => undefined) // its caller hears of it; the next commit goes on
    return commit
  }

  async partitions(prefix: string): Promise<string[]> {
    this.#assertOpen()
    return [...this.#partitions.keys()].filter((name) => name.startsWith(prefix)).sort()
  }

  async dropPartition(partition: string): Promise<void> {
    this.#assertOpen()
    const drop = this.#lastCommit.then(() => void this.#partitions.delete(partition))
    this.#lastCommit = drop
    await drop
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#lastCommit
    this.#partitions.clear()
  }

  async #enter(point: 'read' | 'scan'): Promise<void> {
    this.#assertOpen()
    const { error, delayMs } = this.#faults.enter(point)
    if (delayMs > 0) await waitMs(delayMs)
    if (error) throw error
  }

  #assertOpen(): void {
    if (this.#closed) throw storeClosed()
  }

  #apply({ partition, expect = [], puts, deletes = [] }: Batch): void {
    const map = this.#partitions.get(partition) ?? new OrderedMap()
    for (const { key, value } of expect) {
      const found = map.get(toName(key)) ?? null
      const equal = found === null || value === null ? found === value : Buffer.compare(found, value) === 0
      if (!equal) throw new FramesError('COMMIT_CONFLICT', `a key of partition "${partition}" is not as expected`)
    }
    // One buffer for the values of a batch: a SharedArrayBuffer of its own for each would cost more than the value.
    let byteLength = 0
    for (const { value } of puts) byteLength += value.byteLength
    const shared = new SharedArrayBuffer(byteLength)
    let offset = 0
    for (const { key, value } of puts) {
      const copy = new Uint8Array(shared, offset, value.byteLength)
      copy.set(value)
      offset += value.byteLength
      map.set(toName(key), copy)
    }
    for (const key of deletes) map.delete(toName(key))
    if (map.isEmpty) this.#partitions.delete(partition)
    else this.#partitions.set(partition, map)
  }
}

/** A key as text, one character a byte: JavaScript compares such strings byte by byte, far faster than arrays. */
function toName(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1')
}

interface Chunk {
  readonly names: string[]
  readonly values: Uint8Array[]
}

/** Entries of a chunk before it is cut in two: an insertion moves half of them, a look-up halves its way through. */
const chunkLengthMax = 512

/** Names in order with their values, in chunks of sorted arrays; every chunk but an only one holds something. */
class OrderedMap {
  readonly #chunks: Chunk[] = [{ names: [], values: [] }]

  get isEmpty(): boolean {
    return this.#chunks[0].names.length === 0
  }

  get(name: string): Uint8Array | undefined {
    const chunk = this.#chunks[this.#chunkOf(name)]
    const index = lowerBound(chunk.names, name)
    return chunk.names[index] === name ? chunk.values[index] : undefined
  }

  set(name: string, value: Uint8Array): void {
    const chunkIndex = this.#chunkOf(name)
    const { names, values } = this.#chunks[chunkIndex]
    const index = lowerBound(names, name)
    if (names[index] === name) {
      values[index] = value
      return
    }
    names.splice(index, 0, name)
    values.splice(index, 0, value)
    if (names.length <= chunkLengthMax) return
    const half = names.length >> 1
    this.#chunks.splice(chunkIndex + 1, 0, { names: names.splice(half), values: values.splice(half) })
  }

  delete(name: string): void {
    const chunkIndex = this.#chunkOf(name)
    const { names, values } = this.#chunks[chunkIndex]
    const index = lowerBound(names, name)
    if (names[index] !== name) return
    names.splice(index, 1)
    values.splice(index, 1)
    if (names.length === 0 && this.#chunks.length > 1) this.#chunks.splice(chunkIndex, 1)
  }

  scan({ start, end, reverse = false, limit, byteLengthMax = Infinity, keysOnly = false }: ScanRange): Entry[] {
    const startName = start && toName(start)
    const endName = end && toName(end)
    const entries: Entry[] = []
    let byteLength = 0
    for (const [name, value] of this.#walk(reverse ? endName : startName, reverse)) {
      if (reverse ? startName !== undefined && name < startName : endName !== undefined && name >= endName) break
      if (entries.length >= limit || byteLength >= byteLengthMax) break
      entries.push({ key: Uint8Array.from(Buffer.from(name, 'latin1')), value: keysOnly ? new Uint8Array() : value })
      if (!keysOnly) byteLength += value.byteLength
    }
    return entries
  }

  /** Entries from a name on, or backwards from the last one before it. */
  *#walk(from: string | undefined, reverse: boolean): Generator<[string, Uint8Array]> {
    const chunks = this.#chunks
    const step = reverse ? -1 : 1
    let chunkIndex = from === undefined ? (reverse ? chunks.length - 1 : 0) : this.#chunkOf(from)
    let index = from === undefined ? (reverse ? Infinity : 0) : lowerBound(chunks[chunkIndex].names, from)
    if (reverse) index = Math.min(index, chunks[chunkIndex].names.length) - 1
    for (; chunkIndex >= 0 && chunkIndex < chunks.length; chunkIndex += step) {
      const { names, values } = chunks[chunkIndex]
      for (; index >= 0 && index < names.length; index += step) yield [names[index], values[index]]
      index = reverse ? (chunks[chunkIndex - 1]?.names.length ?? 0) - 1 : 0
    }
  }

  /** The last chunk that begins at or before a name; the first one when the name is before all. */
  #chunkOf(name: string): number {
    let low = 0
    let high = this.#chunks.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (this.#chunks[middle].names[0] <= name) low = middle
      else high = middle - 1
    }
    assert(low < this.#chunks.length, 'a map has a chunk for every name')
    return low
  }
}

/** The index of the first name that is not before `name`. */
function lowerBound(names: readonly string[], name: string): number {
  let low = 0
  let high = names.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (names[middle] < name) low = middle + 1
    else high = middle
  }
  return low
}

function storeClosed(): FramesError {
  return new FramesError('SHUTTING_DOWN', 'the store is closed')
}

function waitMs(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
