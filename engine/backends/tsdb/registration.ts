// New label sets, metrics and types of the frames of a job, in a worker. Label sets are put into the table at once, by one
// worker at a time; which metrics they have is told to the main thread, which gives signatures their numbers.
import { FramesError } from '../../errors.js'
import type { Kernels } from '../../kernels/kernels.js'
import { tableColumnCountMax } from '../../limits.js'
import { checkTypes, type NeededTypes, type OpenFrame } from './append.js'
import type { LabelView, Registered } from './jobs.js'
import type { SignatureMessage, Signatures } from './signature.js'

/** Why label sets could not be put into the table: it has moved, somebody who died keeps others out, or it must hold so much. */
export type MissingRoom = Unusable | { readonly setCount: number; readonly keyByteLength: number }

type Unusable = 'moved' | 'stuck'

/** Words of a label table that belong to those who change it (kernels/labels.ts leaves them alone): i32 from its begin. */
const lockWord = 8
const lockStates = { free: 0, taken: 1, moved: 2 } as const
/** Putting sets in takes milliseconds: whoever holds the lock for longer has died. */
const lockWaitMsMax = 1000

/** Runs `work` while nobody else changes the table. */
function locked<T>({ i32 }: Kernels, tablePtr: number, work: () => T, endState: 0 | 2 = lockStates.free): T | Unusable {
  const word = (tablePtr >> 2) + lockWord
  const endMs = performance.now() + lockWaitMsMax
  for (;;) {
    const state = Atomics.compareExchange(i32, word, lockStates.free, lockStates.taken)
    if (state === lockStates.free) break
    if (state === lockStates.moved) return 'moved'
    if (performance.now() >= endMs) return 'stuck'
    Atomics.wait(i32, word, lockStates.taken, 10)
  }
  let state: 0 | 2 = lockStates.free
  try {
    const result = work()
    state = endState
    return result
  } finally {
    Atomics.store(i32, word, state)
    Atomics.notify(i32, word)
  }
}

/** Copies a table into a larger one that is empty; from then on the old one takes no sets. False when that cannot be. */
export function moveTable(kernels: Kernels, fromPtr: number, toPtr: number): boolean {
  const move = (): boolean => {
    if (kernels.call.copyLabelTable(fromPtr, toPtr) < 0) throw new RangeError('the new label table is too small')
    return true
  }
  return locked(kernels, fromPtr, move, lockStates.moved) === true
}

/** Of one job. */
export class Registration {
  readonly #kernels: Kernels
  readonly #labels: LabelView
  readonly #base: Signatures
  readonly #requestKinds: ReadonlyMap<string, number>
  /** With what the job adds; made when it adds something. */
  #signatures: Signatures | null = null
  #metrics: Set<string> | null = null
  /** Set → signature, where the job changes it. */
  readonly #numbers = new Map<number, number>()
  #setCount: number

  constructor(
    kernels: Kernels,
    labels: LabelView,
    signatures: Signatures,
    requestKinds: readonly (readonly [metric: string, bits: number])[],
  ) {
    this.#kernels = kernels
    this.#labels = labels
    this.#base = signatures
    this.#requestKinds = new Map(requestKinds)
    this.#setCount = labels.setCount
  }

  /**
   * Writes the set of each group of a frame to setNumbersPtr (u32), and notes what is new. Throws for a frame whose types do
   * not fit; then, as when the table has no room, nothing has changed.
   */
  register(frame: OpenFrame, setNumbersPtr: number): MissingRoom | null {
    const { call, u32 } = this.#kernels
    const { tablePtr } = this.#labels
    const { keyOffsetsPtr, keyBytesPtr, groupCount } = frame.grouping
    // Whatever stands in the table may be used: the main thread stores it before these rows.
    const setCount = call.labelTableCount(tablePtr)
    const missingCount = call.labelTableFind(tablePtr, setCount, keyOffsetsPtr, keyBytesPtr, groupCount, setNumbersPtr)
    const sets = u32.subarray(setNumbersPtr >> 2, (setNumbersPtr >> 2) + groupCount)
    const wanted: { readonly group: number; readonly types: NeededTypes }[] = []
    checkTypes(
      this.#kernels,
      frame,
      (group) => this.#signatureOf(sets[group]!),
      (group, types) => wanted.push({ group, types }),
      this.#requestKinds,
    )
    if (wanted.length > 0) this.#checkColumns(wanted)
    if (missingCount > 0) {
      const insert = (): number =>
        call.labelTableInsert(tablePtr, keyOffsetsPtr, keyBytesPtr, groupCount, setNumbersPtr)
      const newCount = locked(this.#kernels, tablePtr, insert)
      if (typeof newCount !== 'number') return newCount
      if (newCount < 0) {
        const keyByteLength = call.labelTableKeyBytesUsed(tablePtr) + u32[(keyOffsetsPtr >> 2) + groupCount]!
        return { setCount: call.labelTableCount(tablePtr) + groupCount, keyByteLength }
      }
    }
    for (const set of sets) if (set >= this.#setCount) this.#setCount = set + 1
    // Several groups may be one set (0.0 and -0.0 have one text).
    for (const { group, types } of wanted) {
      const set = sets[group]!
      this.#signatures ??= this.#base.fork()
      this.#numbers.set(set, this.#signatures.extended(this.#numberOf(set), types))
    }
    return null
  }

  #signatureOf(set: number) {
    const { list } = this.#signatures ?? this.#base
    return list[this.#numberOf(set)]!
  }

  /** Sets that are new have no types; neither have those whose signature was made since this job was sent, for all it knows. */
  #numberOf(set: number): number {
    const own = this.#numbers.get(set)
    if (own !== undefined) return own
    if (set === notFound) return 0
    const number = this.#kernels.call.labelTableSignature(this.#labels.tablePtr, set)
    return number < this.#base.list.length ? number : 0
  }

  #checkColumns(wanted: readonly { readonly types: NeededTypes }[]): void {
    this.#metrics ??= new Set(this.#base.list.flatMap((signature) => [...signature.keys()]))
    const metrics = this.#metrics
    const newMetrics = new Set<string>()
    let last: NeededTypes | null = null
    for (const { types } of wanted) {
      if (types !== last) for (const name of types.keys()) if (!metrics.has(name)) newMetrics.add(name)
      last = types
    }
    if (metrics.size + newMetrics.size > tableColumnCountMax) {
      const what = `the table would have ${metrics.size + newMetrics.size} metrics; at most ${tableColumnCountMax} are possible`
      throw new FramesError('TOO_MANY_COLUMNS', what)
    }
    for (const name of newMetrics) metrics.add(name)
  }

  /** What the main thread must know of; null: nothing is new. */
  found(): Registered | null {
    if (this.#numbers.size === 0 && this.#setCount <= this.#labels.setCount) return null
    const indexes = new Map<number, number>()
    const signatures: SignatureMessage[] = []
    const changes = new Uint32Array(2 * this.#numbers.size)
    let at = 0
    for (const [set, number] of [...this.#numbers].sort(([a], [b]) => a - b)) {
      let index = indexes.get(number)
      if (index === undefined) {
        index = signatures.push([...this.#signatures!.list[number]!]) - 1
        indexes.set(number, index)
      }
      changes[at++] = set
      changes[at++] = index
    }
    return { setCount: this.#setCount, signatures, changes }
  }
}

const notFound = 0xffffffff
