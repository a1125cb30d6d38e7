// What every backend promises to the engine.
import type { CancelSignal } from '../cancellation.js'
import type { Catalog } from '../blocks/catalog.js'
import type { ColumnHead } from '../frame/column-head.js'
import type { FrameSlice } from '../frame/column-slice.js'
import type { Frame } from '../frame/frame.js'
import type { PlainFrame } from '../frame/plain.js'
import type { WireMessages } from '../frame/wire-messages.js'
import type { Kernels } from '../kernels/kernels.js'
import type { SharedMemory } from '../memory/shared-memory.js'
import type { Pool } from '../pool/pool.js'
import type {
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  ReadRequest,
  WriteCounts,
  WriteRequest,
} from '../requests.js'
import type { Store } from '../stores/store.js'
import type { InputGate } from './input-gate.js'
import type { OutgoingMessages } from './outgoing.js'

/** What a backend works with; one of each in an engine. */
export interface BackendParts {
  readonly store: Store
  readonly catalog: Catalog
  readonly memory: SharedMemory
  /** This thread's kernels: for a few words at a time, never for columns. */
  readonly kernels: Kernels
  readonly pool: Pool
  readonly inputs: InputGate
  readonly outgoing: OutgoingMessages
  /** The container of requests that name none; '' when they must. */
  readonly defaultContainer: string
  /** Gives free space of the store back to the disk where that is worth it. */
  readonly shrinkStore: () => Promise<void>
  readonly nowMs: () => number
  /** Something went wrong outside any request. */
  readonly report: (message: string, error: unknown) => void
}

export interface CallOptions {
  readonly signal?: CancelSignal
}

/** A message of a read: encoded bytes, or columns that are the caller's until the next one. */
export interface ReadMessage {
  readonly rowCount: number
  readonly bytes: Uint8Array | null
  readonly frame: FrameSlice | null
  /** Encoded messages that are ready together, in place of `bytes`: passed on one by one, each costs more than it took to make. */
  readonly batch?: WireMessages
  /** Nothing comes behind it; absent: that is not known. */
  readonly isLast?: boolean
  /** The columns that the frames to come have, some of them each; alone in a message, the first. See ReadOptions. */
  readonly columns?: readonly ColumnHead[]
}

export interface ReadOptions extends CallOptions {
  /** Begin with a message that tells the columns; not sent when there is nothing to read. */
  readonly describe?: boolean
  /** Bytes may stand in the shared memory; see ReadEncodedOptions. */
  readonly borrows?: boolean
}

export interface ExecuteOptions extends CallOptions {
  /** In which form an answer of columns is wanted. Default: columns. */
  readonly format?: 'wire' | 'columns'
}

/** What a command answers: a small table of values, a frame with buffers of its own, or (wire) the bytes of a pb.Frame. */
export type ExecuteAnswer = PlainFrame | Frame | Uint8Array | null

export interface BackendWriteSession {
  /** One pb.Frame; must not change before this resolves, which is when the next frame may come. */
  addWire(frame: Uint8Array): Promise<void>
  /** Columns of this thread; as above. */
  addFrame(frame: Frame): Promise<void>
  /** Resolves when the frames so far are stored. Throws what has failed. */
  stored(): Promise<void>
  finish(): Promise<WriteCounts>
  abort(): void
}

export interface Backend {
  create(request: CreateRequest, options: CallOptions): Promise<void>
  openWrite(request: WriteRequest, options: CallOptions): Promise<BackendWriteSession>
  read(request: ReadRequest, format: 'wire' | 'columns', options: ReadOptions): AsyncGenerator<ReadMessage>
  delete(request: DeleteRequest, options: CallOptions): Promise<void>
  execute(request: ExecuteRequest, options: ExecuteOptions): Promise<ExecuteAnswer>
  close(): Promise<void>
}
