// The numbered commits of one table: many may be on their way to the disk, and they take effect in the order in which
// they were asked for.
//
//   run ──► queue ──► sent: expects version n - 1, writes version n ──► durable: published, then answered
//             ▲                        │
//             └── tried again ◄── failed, because one before it has: its number has to be another one now
import { FramesError } from '../errors.js'
import type { Entry, Store } from '../stores/store.js'
import { versionKey } from './keys.js'
import { seal } from './sealed.js'

/** What a commit writes besides the version. */
export interface Change {
  readonly puts: readonly Entry[]
  readonly deletes?: readonly Uint8Array[]
  /** See Batch. */
  readonly makesRoom?: boolean
}

export interface CommitRequest {
  /** Called with the number each time before the commit is sent. Throws when it is not wanted any more. */
  readonly build: (commit: number) => Change
  /** Called once, when the commit is durable, in the order of the numbers. */
  readonly publish: (commit: number) => void
  /** Called each time that a commit which was sent is not stored, before any other is built; it may be built again. */
  readonly onReturned?: () => void
  /** Called once, when the commit has failed for good, and before those behind it are tried again. */
  readonly onFailure?: (error: unknown) => void
}

interface Pending extends CommitRequest {
  tries: number
  resolve(): void
  reject(error: unknown): void
}

/** Tries of one commit when others keep winning; in one process only a failed neighbour causes a second. */
const commitTriesMax = 16

export function versionValue(version: number): Uint8Array {
  const payload = new Uint8Array(8)
  new DataView(payload.buffer).setBigUint64(0, BigInt(version))
  return seal(versionKey, payload)
}

export class CommitQueue {
  readonly #store: Store
  readonly #partition: string
  /** The newest durable commit. */
  #version: number
  /** Asked for and not sent, in order. */
  #waiting: Pending[] = []
  #inFlightCount = 0
  /** Failed because one before them has, in order. */
  #again: Pending[] = []
  /** A commit failed: those behind it fail, too, and nothing is sent until all of them are back. */
  #isBroken = false
  readonly #onIdle: (() => void)[] = []

  constructor(store: Store, partition: string, version: number) {
    this.#store = store
    this.#partition = partition
    this.#version = version
  }

  /** Resolves when the commit is durable and published. */
  run(request: CommitRequest): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ...request, tries: 0, resolve, reject })
      this.#send()
    })
  }

  /** Resolves when no commit is on its way or waits. */
  async idle(): Promise<void> {
    while (this.#inFlightCount > 0 || this.#waiting.length > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle.push(resolve)
      })
    }
  }

  #send(): void {
    while (!this.#isBroken && this.#waiting.length > 0) {
      const pending = this.#waiting.shift()!
      const commit = this.#version + this.#inFlightCount + 1
      let change: Change
      try {
        change = pending.build(commit)
      } catch (error) {
        fail(pending, error)
        continue
      }
      this.#inFlightCount++
      pending.tries++
      void this.#carryOut(pending, commit, change)
    }
    if (this.#inFlightCount === 0) for (const wake of this.#onIdle.splice(0)) wake()
  }

  /** Never rejects. */
  async #carryOut(pending: Pending, commit: number, { puts, deletes = [], makesRoom = false }: Change): Promise<void> {
    let failure: { readonly error: unknown } | null = null
    try {
      await this.#store.commit({
        partition: this.#partition,
        expect: [{ key: versionKey, value: versionValue(commit - 1) }],
        puts: [...puts, { key: versionKey, value: versionValue(commit) }],
        deletes,
        makesRoom,
      })
    } catch (error) {
      failure = { error }
    }
    // The store answers in order, so this is the oldest one that was sent.
    this.#inFlightCount--
    if (failure === null) this.#finish(pending, commit)
    else {
      this.#isBroken = true
      pending.onReturned?.()
      const isConflict = failure.error instanceof FramesError && failure.error.code === 'COMMIT_CONFLICT'
      if (isConflict && pending.tries < commitTriesMax) this.#again.push(pending)
      else fail(pending, failure.error)
    }
    if (this.#inFlightCount === 0) {
      this.#isBroken = false
      this.#waiting.unshift(...this.#again.splice(0))
    }
    this.#send()
  }

  #finish(pending: Pending, commit: number): void {
    this.#version = commit
    try {
      pending.publish(commit)
      pending.resolve()
    } catch (error) {
      pending.reject(error)
    }
  }
}

function fail(pending: Pending, error: unknown): void {
  try {
    pending.onFailure?.(error)
  } finally {
    pending.reject(error)
  }
}
