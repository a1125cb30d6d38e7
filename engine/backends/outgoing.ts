// Messages of reads from the end of their job until they have left. Who takes them says whether they may stay in the shared
// memory meanwhile: then they are copied once, by whoever sends them, and never into fresh memory.
import type { FrameSlice } from '../frame/column-slice.js'
import { MiB } from '../limits.js'
import { takeBytes } from '../memory/copy.js'
import type { Region } from '../memory/region.js'
import type { JobResult } from '../pool/pool.js'
import type { ReadMessage } from './backend.js'

/** What one job has made, valid until it is released. */
export interface OutgoingStep {
  /** Columns. */
  readonly messages: readonly ReadMessage[]
  /** Encoded messages; null where columns are wanted. */
  readonly batch: readonly Uint8Array[] | null
  readonly rowCount: number
  /** What all of it takes, about. */
  readonly byteLength: number
  release(): void
}

/** The part of the arenas that may wait so: readers that stop reading must leave the rest to those who go on. */
const heldShareMax = 1 / 8
/** What one job may leave there. */
const stepByteLengthMax = 4 * MiB

/** Takes over the scratch of jobs: all of it is given back at once, but for what their messages stand in. */
export class OutgoingMessages {
  readonly #u8: Uint8Array
  readonly #arenas: Region
  readonly #heldByteLengthMax: number
  #heldByteLength = 0

  constructor(u8: Uint8Array, arenas: Region) {
    this.#u8 = u8
    this.#arenas = arenas
    this.#heldByteLengthMax = arenas.slice.byteLength * heldShareMax
  }

  /** Bytes of the arenas that wait to be sent now. */
  get heldByteLength(): number {
    return this.#heldByteLength
  }

  /**
   * wire     rows, byte offset and byte length of each message, in the order of their places
   * borrows  whether the bytes may stay in the shared memory, if there is room; otherwise they are in memory of their own
   */
  takeWire(job: JobResult<unknown>, wire: Uint32Array, borrows: boolean): OutgoingStep {
    if (wire.length === 0) {
      job.release()
      return { messages: [], batch: [], rowCount: 0, byteLength: 0, release: () => undefined }
    }
    // They stand one behind the other: one piece of memory for all, and one copy.
    const start = wire[1]!
    const end = wire[wire.length - 2]! + wire[wire.length - 1]!
    const usedByteLength = end - job.scratch.byteOffset
    const isBorrowed =
      borrows &&
      usedByteLength <= stepByteLengthMax &&
      this.#heldByteLength + usedByteLength <= this.#heldByteLengthMax &&
      this.#hasRoomFor(job.scratch.byteLength)
    const byteLength = end - start
    const bytes = isBorrowed ? this.#u8.subarray(start, end) : takeBytes(this.#u8, { byteOffset: start, byteLength })
    const batch: Uint8Array[] = []
    let rowCount = 0
    for (let i = 0; i < wire.length; i += 3) {
      rowCount += wire[i]!
      const from = wire[i + 1]! - start
      batch.push(bytes.subarray(from, from + wire[i + 2]!))
    }
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
    const room = this.#arenas.tryAllocate(byteLength, { urgent: true })
    if (room === null) return false
    this.#arenas.free(room)
    return true
  }

  /** Columns, which are read where they stand: in the first byteLength bytes of the scratch. */
  takeColumns(
    job: JobResult<unknown>,
    made: readonly { readonly rowCount: number; readonly frame: FrameSlice | null }[],
    byteLength: number,
  ): OutgoingStep {
    job.keepFirst(byteLength)
    let rowCount = 0
    for (const message of made) rowCount += message.rowCount
    const messages = made.map((message): ReadMessage => ({ ...message, bytes: null }))
    return { messages, batch: null, rowCount, byteLength, release: () => job.release() }
  }
}
