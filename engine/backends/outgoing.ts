// Messages of reads from the end of their job until they have left. Who takes them says whether they may stay in the shared
// memory meanwhile: then they are copied once, by whoever sends them, and never into fresh memory.
import type { CancelSignal } from '../cancellation.js'
import { frameEnd, moveFrame } from '../codec/columns.js'
import type { FrameSlice } from '../frame/column-slice.js'
import { ListedMessages, PlacedMessages, type WireMessages, wirePrefixByteLength } from '../frame/wire-messages.js'
import { FramesError } from '../errors.js'
import { arenaWaitMsMax, MiB } from '../limits.js'
import { takeBytes } from '../memory/copy.js'
import type { Region } from '../memory/region.js'
import type { JobResult } from '../pool/pool.js'
import type { ReadMessage } from './backend.js'

/** What one job has made, valid until it is released. */
export interface OutgoingStep {
  /** Columns. */
  readonly messages: readonly ReadMessage[]
  /** Encoded messages; null where columns are wanted. */
  readonly batch: WireMessages | null
  readonly rowCount: number
  /** What all of it takes, about. */
  readonly byteLength: number
  release(): void
}

/** The part of the arenas that may wait so: readers that stop reading must leave the rest to those who go on. */
const heldShareMax = 1 / 8
/** What one job may leave there. */
const stepByteLengthMax = 4 * MiB
/** Columns that wait outside of the arenas: beyond this, reads of columns wait for one another, and nobody else for them. */
const movedByteLengthMax = 128 * MiB

const noMessages = new ListedMessages([])

/** Takes over the scratch of jobs: all of it is given back at once, but for what their messages stand in. */
export class OutgoingMessages {
  readonly #u8: Uint8Array
  readonly #arenas: Region
  readonly #heldByteLengthMax: number
  #heldByteLength = 0
  #movedByteLength = 0
  readonly #waiting = new Set<() => void>()

  constructor(u8: Uint8Array, arenas: Region) {
    this.#u8 = u8
    this.#arenas = arenas
    this.#heldByteLengthMax = arenas.slice.byteLength * heldShareMax
  }

  /** Whether somebody waits for others to take their columns. */
  get isWaitedFor(): boolean {
    return this.#waiting.size > 0
  }

  /** Bytes of the arenas that wait to be sent now. */
  get heldByteLength(): number {
    return this.#heldByteLength
  }

  /**
   * wire     rows, byte offset and byte length of each message, in the order of their places, each behind its prefix
   * borrows  whether the bytes may stay in the shared memory, if there is room; otherwise they are in memory of their own
   */
  takeWire(job: JobResult<unknown>, wire: ArrayLike<number>, borrows: boolean): OutgoingStep {
    if (wire.length === 0) {
      job.release()
      return { messages: [], batch: noMessages, rowCount: 0, byteLength: 0, release: () => undefined }
    }
    // They stand one behind the other: one piece of memory for all, and one copy.
    const start = wire[1]! - wirePrefixByteLength
    const end = wire[wire.length - 2]! + wire[wire.length - 1]!
    const usedByteLength = end - job.scratch.byteOffset
    const isBorrowed =
      borrows &&
      usedByteLength <= stepByteLengthMax &&
      this.#heldByteLength + usedByteLength <= this.#heldByteLengthMax &&
      this.#hasRoomFor(job.scratch.byteLength)
    const byteLength = end - start
    const bytes = isBorrowed ? this.#u8.subarray(start, end) : takeBytes(this.#u8, { byteOffset: start, byteLength })
    const batch = new PlacedMessages(bytes, wire, start)
    const { rowCount } = batch
    if (!isBorrowed) {
      job.release()
      return { messages: [], batch, rowCount, byteLength, release: () => undefined }
    }
    job.keepFirst(usedByteLength)
    this.#heldByteLength += usedByteLength
    const release = (): void => {
      this.#heldByteLength -= usedByteLength
      job.release()
    }
    return { messages: [], batch, rowCount, byteLength, release }
  }

  /**
   * Whether another job like this one finds room beside it. What is held stands where scratches began: a few MiB each, spread
   * over the arenas, would leave no piece between them that is long enough.
   */
  #hasRoomFor(byteLength: number): boolean {
    return this.#arenas.hasRoom(byteLength)
  }

  /**
   * Resolves when a job that makes columns may start: what waits to be read, by others that stop reading, is bounded. Rejects
   * with MEMORY_BUDGET after a while.
   */
  async roomForColumns(signal: CancelSignal | null | undefined): Promise<void> {
    const deadlineMs = performance.now() + arenaWaitMsMax
    while (this.#movedByteLength > movedByteLengthMax) {
      if (signal?.aborted === true) throw signal.reason
      const leftMs = deadlineMs - performance.now()
      if (leftMs <= 0) throw new FramesError('MEMORY_BUDGET', 'columns of other reads wait to be taken')
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer)
          signal?.removeEventListener('abort', wake)
          this.#waiting.delete(wake)
          resolve()
        }
        const timer = setTimeout(wake, leftMs)
        signal?.addEventListener('abort', wake)
        this.#waiting.add(wake)
      })
    }
  }

  /** Columns, which are read where they stand while there is room, and else in memory of their own. */
  takeColumns(
    job: JobResult<unknown>,
    made: readonly { readonly rowCount: number; readonly frame: FrameSlice | null }[],
  ): OutgoingStep {
    let rowCount = 0
    let end = job.scratch.byteOffset
    for (const message of made) {
      rowCount += message.rowCount
      if (message.frame !== null) end = Math.max(end, frameEnd(message.frame))
    }
    const byteLength = end - job.scratch.byteOffset
    if (this.#heldByteLength + byteLength > this.#heldByteLengthMax || !this.#hasRoomFor(job.scratch.byteLength)) {
      const messages = made.map(({ rowCount: count, frame }): ReadMessage => {
        if (frame === null) return { rowCount: count, bytes: null, frame }
        return { rowCount: count, bytes: null, frame: moveFrame(this.#u8, frame) }
      })
      job.release()
      this.#movedByteLength += byteLength
      const release = (): void => {
        this.#movedByteLength -= byteLength
        if (this.#movedByteLength > movedByteLengthMax) return
        for (const wake of this.#waiting) wake()
      }
      return { messages, batch: null, rowCount, byteLength, release }
    }
    const messages = made.map(({ rowCount: count, frame }): ReadMessage => ({ rowCount: count, bytes: null, frame }))
    job.keepFirst(byteLength)
    this.#heldByteLength += byteLength
    const release = (): void => {
      this.#heldByteLength -= byteLength
      job.release()
    }
    return { messages, batch: null, rowCount, byteLength, release }
  }
}
