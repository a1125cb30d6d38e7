// The label sets of one table, on the main thread: who may look at them, and how new ones come in. The sets themselves
// stand in the shared memory (kernels/labels.ts); only jobs read and write them there.
import { assert } from '../../assert.js'
import { setsEntries } from '../../blocks/sets-entries.js'
import type { BlockTable } from '../../blocks/table.js'
import { FramesError } from '../../errors.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Region } from '../../memory/region.js'
import type { Slice } from '../../memory/slice.js'
import type { Job } from '../../pool/job.js'
import type { Pool } from '../../pool/pool.js'
import { Turn } from '../turn.js'
import type { CopyLabelsJob, LabelView, LoadLabelsJob, LoadLabelsResult, RegisterResult } from './jobs.js'
import type { SignatureMessage } from './signature.js'

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

/** What a job may look at; release it when the job has ended. */
export interface LabelHandle {
  readonly view: LabelView
  /** Throws when sets that this view may name were never stored: what was made of it must not be, either. */
  assertStored(): void
  release(): void
}

interface TableRoom {
  readonly slice: Slice
  readonly setCapacity: number
  readonly keyByteCapacity: number
}

/** How much larger than needed a table becomes: by much, as long as there is room. */
const growthFactors: readonly number[] = [1.5, 1.25, 1.1, 1.03]
const firstSetCapacity = 256
const firstKeyByteCapacity = 16 * 1024
/** Scratch of the jobs that work on label sets alone, beside what they are given. */
const labelScratchByteLength = 1024 * 1024

let copyCounter = 0

/** The label sets as they stand in the shared memory. */
class SetsInMemory {
  readonly #parts: LabelParts
  /** Unique among all tables: workers keep what they made of the signatures under it. */
  readonly id = `${++copyCounter}`
  #table: Held
  #signatures: Held
  signatureMessages: SignatureMessage[] = []
  /** Sets that writers may use; their entries are stored, or on their way before anything that needs them. */
  setCount = 0
  /** Number of the next stored entry. */
  nextEntry = 0
  /** Times that sets were added, or their signatures changed. */
  changeCount = 0
  #isClosed = false
  readonly #wholeSlices = new Map<number, Slice>()

  private constructor(parts: LabelParts, table: Held, signatures: Held) {
    this.#parts = parts
    this.#table = table
    this.#signatures = signatures
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

  acquire(): Pick<LabelHandle, 'view' | 'release'> {
    const table = this.#table
    const signatures = this.#signatures
    table.holderCount++
    signatures.holderCount++
    return {
      view: {
        id: this.id,
        tablePtr: table.slice.byteOffset,
        setCount: this.setCount,
        signaturesId: `${this.id}:${this.signatureMessages.length}`,
        signatures: signatures.slice,
      },
      release: () => {
        this.#letGo(table)
        this.#letGo(signatures)
      },
    }
  }

  apply({
    setCount,
    signatures,
    changes,
  }: {
    setCount: number
    signatures: readonly SignatureMessage[]
    changes: Uint32Array
  }): void {
    const { call } = this.#parts.kernels
    if (signatures.length > 0) {
      this.signatureMessages = [...this.signatureMessages, ...signatures]
      this.#writeSignatures()
    }
    this.setCount = setCount
    this.changeCount++
    for (let i = 0; i < changes.length; i += 2)
      call.setLabelTableSignature(this.#table.slice.byteOffset, changes[i]!, changes[i + 1]!)
  }

  /** Puts the list of signatures where jobs can read it. */
  #writeSignatures(): void {
    const { kernels, region } = this.#parts
    const bytes = new TextEncoder().encode(JSON.stringify(this.signatureMessages))
    const slice = take(region, bytes.length)
    kernels.u8.set(bytes, slice.byteOffset)
    this.#letGo(this.#signatures)
    // The region hands out whole runs; the text is shorter.
    this.#signatures = { slice: { byteOffset: slice.byteOffset, byteLength: bytes.length }, holderCount: 1 }
    this.#wholeSlices.set(slice.byteOffset, slice)
  }

  /** Moves to a table with more room. Nothing may write to the present one meanwhile. */
  async grow(setCount: number, keyByteLength: number): Promise<void> {
    const { region, pool } = this.#parts
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
    try {
      const done = await pool.runToEnd<null>(job as Job, { scratchByteLength: 0 })
      done.release()
      if (this.#isClosed) throw closed()
    } catch (error) {
      region.free(slice)
      throw error
    } finally {
      this.#letGo(old)
    }
    this.#letGo(old)
    this.#table = hold(slice)
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
        this.apply(done.result)
        break
      }
      await this.grow(done.result.setCount, done.result.keyByteLength)
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
    this.#letGo(this.#signatures)
  }
}

/** Registrations [first, last] that were made known and then could not be stored; Infinity until memory is filled anew. */
interface LostRange {
  readonly first: number
  last: number
  readonly error: unknown
}

export class LabelSets {
  readonly #parts: LabelParts
  readonly #blocks: BlockTable
  #sets: SetsInMemory
  /** One registration at a time. */
  readonly #turn = new Turn()
  /** Why it is closed; null: it is open. */
  #closedBy: FramesError | null = null
  /** Memory may hold sets that are not stored: it is filled anew before the next registration. */
  #isStale = false
  #isReloadDue = false
  /** Registrations so far; a view is as old as their number. */
  #registrationCount = 0
  readonly #lost: LostRange[] = []
  /** Settles when the entries that were submitted last are stored, or not. */
  #stored: Promise<void> = Promise.resolve()

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
    for (const signature of this.#sets.signatureMessages)
      for (const [name, bits] of signature) all.set(name, (all.get(name) ?? 0) | bits)
    return all
  }

  /** Names the state of the sets: what was worked out from them holds as long as this is the same. */
  get version(): string {
    const { id, changeCount } = this.#sets
    return `${id}:${changeCount}`
  }

  /** Resolves when a view may be taken for writing: at once, unless sets were lost and are read again. */
  async ready(): Promise<void> {
    while (this.#isStale && this.#closedBy === null) {
      await this.#turn.run(async () => {
        if (this.#isStale && this.#closedBy === null) await this.#reload()
      })
    }
  }

  /** Throws when the table is closed or deleted: the memory of its sets may be another table's by now. */
  acquire(): LabelHandle {
    this.#assertOpen()
    const age = this.#registrationCount
    return { ...this.#sets.acquire(), assertStored: () => this.#assertStored(age) }
  }

  #assertStored(age: number): void {
    const range = this.#lost.find(({ first, last }) => first <= age && age <= last)
    if (range === undefined) return
    this.#reloadSoon()
    throw range.error
  }

  /**
   * Takes the turn and registers what is new in a frame: `runJob` is given a view and must run a register job. Resolves
   * when the new sets may be used, with whether there were any; their entries stand in the table's queue before whatever
   * is committed from then on. With `mayBeDone` nothing is done when others have registered while this waited for the turn.
   */
  register(runJob: (view: LabelView) => Promise<RegisterResult>, mayBeDone = false): Promise<boolean> {
    const before = this.#registrationCount
    return this.#turn.run(async () =>
      mayBeDone && this.#registrationCount !== before ? false : this.#register(runJob),
    )
  }

  async #register(runJob: (view: LabelView) => Promise<RegisterResult>): Promise<boolean> {
    for (;;) {
      if (this.#closedBy !== null) throw this.#closedBy
      if (this.#isStale) await this.#reload()
      const handle = this.acquire()
      let result: RegisterResult
      try {
        result = await runJob(handle.view)
      } catch (error) {
        // A worker that died may have left sets in memory that nobody stored.
        if (!(error instanceof FramesError) || error.kind === 'internal') this.#isStale = true
        throw error
      } finally {
        handle.release()
      }
      // Closed while the job ran: the memory that its result belongs to may be somebody else's by now.
      if (this.#closedBy !== null) throw this.#closedBy
      // Earlier sets were lost while the job ran: what it has added stands in the wrong memory.
      if (this.#isStale) continue
      if (result.status === 'grow') {
        await this.#sets.grow(result.setCount, result.keyByteLength).catch((error: unknown) => {
          throw this.#closedBy ?? error
        })
        continue
      }
      const isNew = result.payloads.length > 0
      if (isNew) this.#store(result)
      return isNew
    }
  }

  #store(result: Extract<RegisterResult, { status: 'registered' }>): void {
    const sets = this.#sets
    try {
      sets.apply(result)
    } catch (error) {
      // No room for the signatures: the table in memory is ahead of what is known of it.
      this.#isStale = true
      throw error
    }
    const age = ++this.#registrationCount
    const entries = result.payloads.flatMap((payload) => setsEntries(sets.nextEntry++, payload))
    // Submitted here, before the turn ends: what later writers commit stands behind it in the table's queue.
    this.#stored = this.#blocks
      .commitSets(entries, {
        check: () => this.#assertStored(age),
        onFailure: (error) => this.#lose(age, error),
      })
      .catch(() => undefined) // onFailure has told everybody who needs to know
  }

  /** Everything that was made of the sets since registration `age` may name sets that will never be stored. */
  #lose(age: number, error: unknown): void {
    this.#lost.push({ first: age, last: Number.POSITIVE_INFINITY, error })
    this.#isStale = true
    this.#reloadSoon()
  }

  /** Without it, writers that need no new sets would be refused for ever. A failure is tried again when one is. */
  #reloadSoon(): void {
    if (this.#isReloadDue || !this.#isStale) return
    this.#isReloadDue = true
    this.#turn
      .run(async () => {
        this.#isReloadDue = false
        if (this.#isStale && this.#closedBy === null) await this.#reload()
      })
      .catch(() => undefined)
  }

  async #reload(): Promise<void> {
    await this.#stored
    const sets = await SetsInMemory.load(this.#parts, this.#blocks)
    if (this.#closedBy !== null) {
      sets.close()
      throw this.#closedBy
    }
    const old = this.#sets
    this.#sets = sets
    this.#isStale = false
    for (const range of this.#lost) range.last = Math.min(range.last, this.#registrationCount)
    this.#registrationCount++
    old.close()
  }

  #assertOpen(): void {
    if (this.#closedBy !== null) throw this.#closedBy
  }

  /** Gives the memory back when the last job that looks at it has ended. Registrations fail with `reason` from now on. */
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
