// The label sets of one table, on the main thread: who may look at them, and how new ones are stored. The sets themselves
// stand in the shared memory (kernels/labels.ts), where ingest jobs find them and put new ones.
import { pack } from 'msgpackr'
import { assert } from '../../assert.js'
import { setsEntries } from '../../blocks/sets-entries.js'
import type { BlockTable } from '../../blocks/table.js'
import { FramesError } from '../../errors.js'
import type { Kernels } from '../../kernels/kernels.js'
import { tableColumnCountMax } from '../../limits.js'
import type { Region } from '../../memory/region.js'
import type { Slice } from '../../memory/slice.js'
import type { Job } from '../../pool/job.js'
import type { Pool } from '../../pool/pool.js'
import type { Entry } from '../../stores/store.js'
import { Turn } from '../turn.js'
import type { CopyLabelsJob, LabelView, LoadLabelsJob, LoadLabelsResult, Registered, SetsPayload } from './jobs.js'
import { isContradictory, type Signature, Signatures } from './signature.js'

export interface LabelParts {
  readonly pool: Pool
  readonly kernels: Kernels
  readonly region: Region
}

/** A slice that is given back when nobody holds it and something newer has taken its place. */
interface Held {
  readonly slice: Slice
  holderCount: number
}

/** What was acquired of the sets in memory; the same for all who acquire it until something changes. */
interface HeldView {
  readonly view: LabelView
  readonly table: Held
  readonly signatures: Held
  readonly signatureCount: number
}

/** What a job may look at; release it when the job has ended. */
export interface LabelHandle {
  readonly view: LabelView
  /** See MergeJob. */
  readonly setSignatures: Uint32Array | null
  /**
   * Makes known what an ingest job with this view has found to be new: whatever is committed from then on is stored together
   * with it or behind it. False where that cannot be: the job is to be sent again with a new view.
   */
  register(registered: Registered): boolean
  release(): void
}

/** More than a label table has room for, all included. */
export interface NeededRoom {
  readonly setCount: number
  readonly keyByteLength: number
}

interface TableRoom {
  readonly slice: Slice
  readonly setCapacity: number
  readonly keyByteCapacity: number
}

/** How much larger than needed a table becomes: by much, as long as there is room. */
const growthFactors: readonly number[] = [1.5, 1.25, 1.1, 1.03]
const firstSetCapacity = 256
/** What a run of 64 KiB has room for. */
const firstKeyByteCapacity = 56 * 1024
/** Label sets of one stored value. */
const setsPerPayload = 4096
/** Scratch of the jobs that work on label sets alone, beside what they are given. */
const labelScratchByteLength = 1024 * 1024

let copyCounter = 0

/** The label sets as they stand in the shared memory. */
class SetsInMemory {
  readonly #parts: LabelParts
  /** Unique among all tables: workers keep what they made of the signatures under it. */
  readonly id = `${++copyCounter}`
  #table: Held
  #signaturesText: Held
  #lastView: HeldView | null = null
  readonly signatures = new Signatures()
  /** Of all signatures. */
  readonly #metrics = new Set<string>()
  /** Sets that are stored, or will be together with the next rows. */
  setCount = 0
  /** Number of the next stored entry. */
  nextEntry = 0
  /** Times that sets were added, or their signatures changed. */
  changeCount = 0
  #isClosed = false
  /** Numbers that were written while the table is copied: they are written into the copy, too. */
  #copyChanges: number[] | null = null
  readonly #wholeSlices = new Map<number, Slice>()

  private constructor(parts: LabelParts, table: Held, signaturesText: Held) {
    this.#parts = parts
    this.#table = table
    this.#signaturesText = signaturesText
  }

  static async load(parts: LabelParts, table: BlockTable): Promise<SetsInMemory> {
    const { kernels, region } = parts
    const slice = take(region, kernels.call.labelTableByteLength(firstSetCapacity, firstKeyByteCapacity) >>> 0)
    let signatures: Slice
    try {
      signatures = take(region, 1)
    } catch (error) {
      region.free(slice)
      throw error
    }
    kernels.call.initLabelTable(slice.byteOffset, firstSetCapacity, firstKeyByteCapacity)
    const sets = new SetsInMemory(parts, hold(slice), hold(signatures))
    try {
      sets.#writeSignatures()
      for await (const payload of table.setsPayloads()) await sets.#loadPayload(payload)
    } catch (error) {
      sets.close()
      throw error
    }
    return sets
  }

  acquire(): HeldView {
    const table = this.#table
    const signatures = this.#signaturesText
    table.holderCount++
    signatures.holderCount++
    const last = this.#lastView
    const isSame =
      last !== null &&
      last.table === table &&
      last.signatures === signatures &&
      last.view.setCount === this.setCount &&
      last.signatureCount === this.signatures.list.length
    if (isSame) return last
    this.#lastView = {
      view: {
        id: this.id,
        tablePtr: table.slice.byteOffset,
        setCount: this.setCount,
        signaturesId: `${this.id}:${this.signatures.list.length}`,
        signatures: signatures.slice,
      },
      table,
      signatures,
      signatureCount: this.signatures.list.length,
    }
    return this.#lastView
  }

  release({ table, signatures }: HeldView): void {
    this.#letGo(table)
    this.#letGo(signatures)
  }

  /**
   * Takes what a job has found to be new, and returns the entries to be stored; null where that does not go together with what
   * others have registered since it began.
   */
  apply({ setCount, signatures: found, changes }: Registered): Entry[] | null {
    const { call } = this.#parts.kernels
    const tablePtr = this.#table.slice.byteOffset
    const { signatures } = this
    const first = signatures.list.length
    const types = found.map((message) => new Map(message))
    const befores = changes.filter((_, i) => i % 2 === 0).map((set) => call.labelTableSignature(tablePtr, set))
    if (!this.#goTogether(befores, types, changes)) return null
    const pairs: number[] = []
    for (let i = 0; i < befores.length; i++) {
      const number = signatures.extended(befores[i]!, types[changes[2 * i + 1]!]!)
      if (number !== befores[i]) pairs.push(changes[2 * i]!, number)
    }
    if (signatures.list.length > first) {
      for (const signature of signatures.list.slice(first))
        for (const metric of signature.keys()) this.#metrics.add(metric)
      this.#writeSignatures()
    }
    const entries = this.#entries(setCount, signatures.since(first), pairs)
    if (entries.length === 0) return entries
    this.setCount = Math.max(this.setCount, setCount)
    this.#changed(pairs)
    return entries
  }

  /** Whether no series would be of text and of numbers, and the table have as many metrics as it may at most. */
  #goTogether(befores: Uint32Array, types: readonly Signature[], changes: Uint32Array): boolean {
    const { list } = this.signatures
    const seen = new Set<number>()
    const newMetrics = new Set<string>()
    for (let i = 0; i < befores.length; i++) {
      const number = changes[2 * i + 1]!
      const pair = befores[i]! * types.length + number
      if (seen.has(pair)) continue
      seen.add(pair)
      for (const [metric, bits] of types[number]!) {
        if (isContradictory((list[befores[i]!]!.get(metric) ?? 0) | bits)) return false
        if (!this.#metrics.has(metric)) newMetrics.add(metric)
      }
    }
    return newMetrics.size === 0 || this.#metrics.size + newMetrics.size <= tableColumnCountMax
  }

  /** The stored values of new sets up to `setCount`, and of changes: set and signature by turns, by set. */
  #entries(setCount: number, newSignatures: SetsPayload[3], pairs: readonly number[]): Entry[] {
    const { call, u8 } = this.#parts.kernels
    const tablePtr = this.#table.slice.byteOffset
    const entries: Entry[] = []
    let isFirst = true
    let at = 0
    const add = (first: number, count: number, atEnd: number): void => {
      const offsets = [0]
      for (let i = 0; i < count; i++) offsets.push(offsets[i]! + call.labelTableKeyByteLength(tablePtr, first + i))
      const keysPtr = count === 0 ? 0 : call.labelTableKeyPtr(tablePtr, first)
      const keys = u8.slice(keysPtr, keysPtr + offsets[count]!)
      const payload: SetsPayload = [first, offsets, keys, isFirst ? newSignatures : [], pairs.slice(at, atEnd)]
      entries.push(...setsEntries(this.nextEntry++, pack(payload)))
      isFirst = false
      at = atEnd
    }
    // Each entry changes sets that it or one before it brings: it is read back by itself.
    const before = this.setCount
    const endOf = (end: number, limit: number): number => {
      let atEnd = at
      while (atEnd < limit && pairs[atEnd]! < end) atEnd += 2
      return atEnd
    }
    while (at < pairs.length && pairs[at]! < before) {
      add(before, 0, endOf(before, Math.min(pairs.length, at + 2 * setsPerPayload)))
    }
    for (let first = before; first < setCount; first += setsPerPayload) {
      const end = Math.min(first + setsPerPayload, setCount)
      add(first, end - first, endOf(end, pairs.length))
    }
    return entries
  }

  /** Writes signatures of sets: set and number by turns. */
  #changed(pairs: readonly number[] | Uint32Array): void {
    const { call } = this.#parts.kernels
    this.changeCount++
    for (let i = 0; i < pairs.length; i += 2)
      call.setLabelTableSignature(this.#table.slice.byteOffset, pairs[i]!, pairs[i + 1]!)
    if (this.#copyChanges !== null) for (const word of pairs) this.#copyChanges.push(word)
  }

  /** The signature of each set, as it is now: four bytes a set. */
  setSignatures(): Uint32Array {
    const { call, u32 } = this.#parts.kernels
    const first = call.labelTableSignaturesPtr(this.#table.slice.byteOffset) >>> 2
    return u32.slice(first, first + this.setCount)
  }

  /** Puts the list of signatures where jobs can read it. */
  #writeSignatures(): void {
    const { kernels, region } = this.#parts
    const bytes = new TextEncoder().encode(JSON.stringify(this.signatures.since(1)))
    const slice = take(region, bytes.length)
    kernels.u8.set(bytes, slice.byteOffset)
    this.#letGo(this.#signaturesText)
    // The region hands out whole runs; the text is shorter.
    this.#signaturesText = { slice: { byteOffset: slice.byteOffset, byteLength: bytes.length }, holderCount: 1 }
    this.#wholeSlices.set(slice.byteOffset, slice)
  }

  hasRoom({ setCount, keyByteLength }: NeededRoom): boolean {
    const { call } = this.#parts.kernels
    const tablePtr = this.#table.slice.byteOffset
    return (
      setCount <= call.labelTableSetCapacity(tablePtr) && keyByteLength <= call.labelTableKeyBytesCapacity(tablePtr)
    )
  }

  /** Moves to a table with more room; jobs that put sets into the present one meanwhile are told that it has moved. */
  async grow({ setCount, keyByteLength }: NeededRoom): Promise<void> {
    const { region, pool, kernels } = this.#parts
    const { slice, setCapacity, keyByteCapacity } = this.#takeLarger(setCount, keyByteLength)
    const job: CopyLabelsJob = {
      kind: 'tsdb.copyLabels',
      fromPtr: this.#table.slice.byteOffset,
      toPtr: slice.byteOffset,
      setCapacity,
      keyByteCapacity,
    }
    const old = this.#table
    old.holderCount++
    this.#copyChanges = []
    try {
      const done = await pool.runToEnd<null>(job as Job, { scratchByteLength: 0 })
      done.release()
      if (this.#isClosed) throw closed()
    } catch (error) {
      region.free(slice)
      this.#copyChanges = null
      throw error
    } finally {
      this.#letGo(old)
    }
    this.#letGo(old)
    this.#table = hold(slice)
    const changes = this.#copyChanges
    this.#copyChanges = null
    for (let i = 0; i < changes.length; i += 2)
      kernels.call.setLabelTableSignature(slice.byteOffset, changes[i]!, changes[i + 1]!)
  }

  /**
   * Room for a table of so many sets, and as much more as the budget has. A large one stands at the other end of the
   * region than its predecessor: the two fit as long as their sum does.
   */
  #takeLarger(setCount: number, keyByteLength: number): TableRoom {
    const { kernels, region } = this.#parts
    const old = this.#table.slice
    const fromEnd =
      old.byteLength > region.slice.byteLength / 8 &&
      old.byteOffset - region.slice.byteOffset < region.slice.byteLength / 2
    for (const factor of growthFactors) {
      const setCapacity = Math.max(firstSetCapacity, Math.ceil(setCount * factor))
      const keyByteCapacity = Math.max(firstKeyByteCapacity, Math.ceil(keyByteLength * factor))
      const byteLength = kernels.call.labelTableByteLength(setCapacity, keyByteCapacity) >>> 0
      const slice = region.tryAllocate(byteLength, { fromEnd })
      if (slice !== null) return { slice, setCapacity, keyByteCapacity }
    }
    const byteLength = kernels.call.labelTableByteLength(setCount, keyByteLength) >>> 0
    return { slice: take(region, byteLength), setCapacity: setCount, keyByteCapacity: keyByteLength }
  }

  async #loadPayload(payload: Uint8Array): Promise<void> {
    for (;;) {
      const job: LoadLabelsJob = { kind: 'tsdb.loadLabels', tablePtr: this.#table.slice.byteOffset, payload }
      const done = await this.#parts.pool.runToEnd<LoadLabelsResult>(job as Job, {
        scratchByteLength: labelScratchByteLength + 2 * payload.length,
      })
      done.release()
      if (done.result.status === 'loaded') {
        const { setCount, signatures, changes } = done.result
        for (const message of signatures) {
          this.signatures.add(new Map(message))
          for (const [metric] of message) this.#metrics.add(metric)
        }
        if (signatures.length > 0) this.#writeSignatures()
        this.setCount = setCount
        this.#changed(changes)
        break
      }
      await this.grow(done.result)
    }
    this.nextEntry++
  }

  #letGo(held: Held): void {
    held.holderCount--
    assert(held.holderCount >= 0, 'a label table is released as often as it was acquired')
    if (held.holderCount > 0) return
    const whole = this.#wholeSlices.get(held.slice.byteOffset) ?? held.slice
    this.#wholeSlices.delete(held.slice.byteOffset)
    this.#parts.region.free(whole)
  }

  /** Gives the memory back when the last job that looks at it has ended. */
  close(): void {
    this.#isClosed = true
    this.#letGo(this.#table)
    this.#letGo(this.#signaturesText)
  }
}

export class LabelSets {
  readonly #parts: LabelParts
  readonly #blocks: BlockTable
  #sets: SetsInMemory
  /** What moves the sets to other memory, one at a time. */
  readonly #turn = new Turn()
  /** Why it is closed; null: it is open. */
  #closedBy: FramesError | null = null
  /** A job died that may have been about to put sets into the memory: it is filled anew before the next view for writing. */
  #isDoubtful = false
  #isGrowing = false

  private constructor(parts: LabelParts, blocks: BlockTable, sets: SetsInMemory) {
    this.#parts = parts
    this.#blocks = blocks
    this.#sets = sets
  }

  /** Reads the stored label sets into the shared memory. Throws MEMORY_BUDGET, DATA_DAMAGED. */
  static async load(parts: LabelParts, blocks: BlockTable): Promise<LabelSets> {
    return new LabelSets(parts, blocks, await SetsInMemory.load(parts, blocks))
  }

  get setCount(): number {
    return this.#sets.setCount
  }

  /** All metrics with their type bits, over all label sets. */
  metrics(): Map<string, number> {
    const all = new Map<string, number>()
    for (const signature of this.#sets.signatures.list)
      for (const [name, bits] of signature) all.set(name, (all.get(name) ?? 0) | bits)
    return all
  }

  /** Names the state of the sets: what was worked out from them holds as long as this is the same. */
  get version(): string {
    const { id, changeCount } = this.#sets
    return `${id}:${changeCount}`
  }

  /** Resolves when a view may be taken for writing: at once, unless the sets are moving to other memory. */
  ready(): Promise<void> | void {
    if (this.#isDoubtful || this.#isGrowing) return this.#settled()
  }

  async #settled(): Promise<void> {
    while ((this.#isDoubtful || this.#isGrowing) && this.#closedBy === null) {
      await this.#turn.run(async () => {
        if (this.#isDoubtful && this.#closedBy === null) await this.#reload()
      })
    }
  }

  /** Throws when the table is closed or deleted: the memory of its sets may be another table's by now. */
  acquire(): LabelHandle {
    this.#assertOpen()
    const sets = this.#sets
    const held = sets.acquire()
    return {
      view: held.view,
      setSignatures: null,
      register: (registered) => this.#register(sets, registered),
      release: () => sets.release(held),
    }
  }

  /** As acquire, for a job that is not to be outdated whatever is registered meanwhile. */
  acquireFixed(): LabelHandle {
    const handle = this.acquire()
    return { ...handle, setSignatures: this.#sets.setSignatures() }
  }

  #register(sets: SetsInMemory, registered: Registered): boolean {
    this.#assertOpen()
    // What was put into memory that is given up is in no other.
    if (sets !== this.#sets || this.#isDoubtful) return false
    let entries: Entry[] | null
    try {
      entries = sets.apply(registered)
    } catch (error) {
      // No room for the signatures: what is in memory is ahead of what will be stored.
      this.#isDoubtful = true
      throw error
    }
    if (entries === null) return false
    if (entries.length > 0) this.#blocks.addSets(entries)
    return true
  }

  /** A job failed that may have been about to put sets into the memory. */
  doubt(): void {
    this.#isDoubtful = true
  }

  /** Makes room. Throws MEMORY_BUDGET when there is none. */
  async grow(needed: NeededRoom): Promise<void> {
    this.#isGrowing = true
    await this.#turn.run(async () => {
      this.#isGrowing = true
      try {
        if (this.#closedBy !== null) throw this.#closedBy
        if (this.#isDoubtful) await this.#reload()
        if (!this.#sets.hasRoom(needed)) await this.#sets.grow(needed)
      } catch (error) {
        if (!(error instanceof FramesError) || error.kind === 'internal') this.#isDoubtful = true
        throw this.#closedBy ?? error
      } finally {
        this.#isGrowing = false
      }
    })
  }

  async #reload(): Promise<void> {
    // All that is known is stored first: what is not yet would have to be forgotten by those who use it.
    await this.#blocks.storeSets()
    const sets = await SetsInMemory.load(this.#parts, this.#blocks)
    if (this.#closedBy !== null) {
      sets.close()
      throw this.#closedBy
    }
    const old = this.#sets
    this.#sets = sets
    this.#isDoubtful = false
    old.close()
  }

  #assertOpen(): void {
    if (this.#closedBy !== null) throw this.#closedBy
  }

  /** Gives the memory back when the last job that looks at it has ended. Writers fail with `reason` from now on. */
  close(reason: FramesError = closed()): void {
    if (this.#closedBy !== null) return
    this.#closedBy = reason
    this.#sets.close()
  }
}

function closed(): FramesError {
  return new FramesError('SHUTTING_DOWN', 'the table is closed')
}

/** Held by the table itself. */
function hold(slice: Slice): Held {
  return { slice, holderCount: 1 }
}

function take(region: Region, byteLength: number): Slice {
  const slice = region.tryAllocate(Math.max(1, byteLength))
  if (slice === null) {
    throw new FramesError(
      'MEMORY_BUDGET',
      `the label sets need ${byteLength} bytes more than their budget of ${region.slice.byteLength} bytes has free`,
    )
  }
  return slice
}
