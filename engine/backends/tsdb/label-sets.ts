// The label sets of one table, on the main thread: who may look at them, and how new ones come in. The sets themselves
// stand in the shared memory (kernels/labels.ts); only jobs read and write them there.
import { assert } from '../../assert.js'
import { Turn } from '../turn.js'
import { unseal } from '../../blocks/sealed.js'
import { BlockTable } from '../../blocks/table.js'
import { FramesError } from '../../errors.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Region } from '../../memory/region.js'
import type { Slice } from '../../memory/slice.js'
import type { Pool } from '../../pool/pool.js'
import type { Job } from '../../pool/job.js'
import type { Entry } from '../../stores/store.js'
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
  release(): void
}

const firstSetCapacity = 256
const firstKeyByteCapacity = 16 * 1024
/** Scratch of the jobs that work on label sets alone, beside what they are given. */
const labelScratchByteLength = 1024 * 1024

let tableCounter = 0

export class LabelSets {
  readonly #parts: LabelParts
  readonly #id = `${++tableCounter}`
  #table: Held
  #signatures: Held
  #signatureMessages: SignatureMessage[] = []
  /** Sets that writers may use; their entries are stored, or on their way before anything that needs them. */
  #setCount = 0
  /** One registration at a time. */
  readonly #turn = new Turn()
  #isClosed = false
  /** Set when memory may hold sets that were not stored: the owner loads the table anew. */
  #isStale = false

  private constructor(parts: LabelParts, table: Held, signatures: Held) {
    this.#parts = parts
    this.#table = table
    this.#signatures = signatures
  }

  /** Reads the stored label sets into the shared memory. Throws MEMORY_BUDGET, DATA_DAMAGED. */
  static async load(parts: LabelParts, table: BlockTable): Promise<LabelSets> {
    const { kernels, region } = parts
    const slice = take(region, kernels.call.labelTableByteLength(firstSetCapacity, firstKeyByteCapacity) >>> 0)
    kernels.call.initLabelTable(slice.byteOffset, firstSetCapacity, firstKeyByteCapacity)
    const sets = new LabelSets(parts, hold(slice), hold(take(region, 1)))
    try {
      sets.#writeSignatures()
      for await (const entry of table.setsEntries()) await sets.#loadEntry(entry, table.name)
    } catch (error) {
      sets.close()
      throw error
    }
    return sets
  }

  get setCount(): number {
    return this.#setCount
  }

  get isStale(): boolean {
    return this.#isStale
  }

  /** All metrics with their type bits, over all label sets. */
  metrics(): Map<string, number> {
    const all = new Map<string, number>()
    for (const signature of this.#signatureMessages)
      for (const [name, bits] of signature) all.set(name, (all.get(name) ?? 0) | bits)
    return all
  }

  /** Names the state of the sets: what was worked out from them holds as long as this is the same. */
  get version(): string {
    return `${this.#id}:${this.#setCount}:${this.#signatureMessages.length}`
  }

  acquire(): LabelHandle {
    const table = this.#table
    const signatures = this.#signatures
    table.holderCount++
    signatures.holderCount++
    return {
      view: {
        id: this.#id,
        tablePtr: table.slice.byteOffset,
        setCount: this.#setCount,
        signaturesId: `${this.#id}:${this.#signatureMessages.length}`,
        signatures: signatures.slice,
      },
      release: () => {
        this.#letGo(table)
        this.#letGo(signatures)
      },
    }
  }

  /**
   * Takes the turn and registers what is new in a frame. `job` is given a view and must be a register job; `store` is
   * called with the entries to make durable, before this resolves, and must submit them at once.
   */
  async register(
    runJob: (view: LabelView) => Promise<RegisterResult>,
    store: (entries: readonly Entry[]) => Promise<void>,
  ): Promise<void> {
    await this.#turn.run(() => this.#register(runJob, store))
  }

  async #register(
    runJob: (view: LabelView) => Promise<RegisterResult>,
    store: (entries: readonly Entry[]) => Promise<void>,
  ): Promise<void> {
    for (;;) {
      if (this.#isStale || this.#isClosed) throw new FramesError('VIEW_OUTDATED', 'the label sets are read again')
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
      if (result.status === 'grow') {
        await this.#grow(result.setCount, result.keyByteLength)
        continue
      }
      if (result.payloads.length === 0) return
      this.#apply(result)
      // Submitted here, before the turn ends: what later writers commit stands behind it in the store's queue.
      store(result.payloads.map((payload) => BlockTable.setsEntry(this.#nextEntry++, payload))).catch(() => {
        this.#isStale = true
      })
      return
    }
  }

  #nextEntry = 0

  #apply({
    setCount,
    signatures,
    changes,
  }: {
    setCount: number
    signatures: readonly SignatureMessage[]
    changes: Uint32Array
  }): void {
    const { call } = this.#parts.kernels
    this.#setCount = setCount
    if (signatures.length > 0) {
      this.#signatureMessages = [...this.#signatureMessages, ...signatures]
      this.#writeSignatures()
    }
    for (let i = 0; i < changes.length; i += 2)
      call.setLabelTableSignature(this.#table.slice.byteOffset, changes[i]!, changes[i + 1]!)
  }

  /** Puts the list of signatures where jobs can read it. */
  #writeSignatures(): void {
    const { kernels, region } = this.#parts
    const bytes = new TextEncoder().encode(JSON.stringify(this.#signatureMessages))
    const slice = take(region, bytes.length)
    kernels.u8.set(bytes, slice.byteOffset)
    this.#letGo(this.#signatures)
    // The region hands out whole runs; the text is shorter.
    this.#signatures = { slice: { byteOffset: slice.byteOffset, byteLength: bytes.length }, holderCount: 1 }
    this.#wholeSlices.set(slice.byteOffset, slice)
  }

  readonly #wholeSlices = new Map<number, Slice>()

  async #grow(setCount: number, keyByteLength: number): Promise<void> {
    const { kernels, region, pool } = this.#parts
    const setCapacity = Math.max(firstSetCapacity, Math.ceil(setCount * 1.5))
    const keyByteCapacity = Math.max(firstKeyByteCapacity, Math.ceil(keyByteLength * 1.5))
    const slice = take(region, kernels.call.labelTableByteLength(setCapacity, keyByteCapacity) >>> 0)
    const job: CopyLabelsJob = {
      kind: 'tsdb.copyLabels',
      fromPtr: this.#table.slice.byteOffset,
      toPtr: slice.byteOffset,
      setCapacity,
      keyByteCapacity,
    }
    try {
      const done = await pool.run<null>(job as Job, { scratchByteLength: 0 })
      done.release()
    } catch (error) {
      region.free(slice)
      throw error
    }
    this.#letGo(this.#table)
    this.#table = hold(slice)
  }

  async #loadEntry(entry: Entry, tableName: string): Promise<void> {
    const payload = unseal(entry.key, entry.value)
    if (payload === null)
      throw new FramesError('DATA_DAMAGED', `label sets of table '${tableName}' are damaged (entry ${this.#nextEntry})`)
    for (;;) {
      const job: LoadLabelsJob = { kind: 'tsdb.loadLabels', tablePtr: this.#table.slice.byteOffset, payload }
      const done = await this.#parts.pool.run<LoadLabelsResult>(job as Job, {
        scratchByteLength: labelScratchByteLength + 2 * payload.length,
      })
      done.release()
      if (done.result.status === 'loaded') {
        this.#apply(done.result)
        break
      }
      await this.#grow(done.result.setCount, done.result.keyByteLength)
    }
    this.#nextEntry++
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
    if (this.#isClosed) return
    this.#isClosed = true
    this.#letGo(this.#table)
    this.#letGo(this.#signatures)
  }
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
