// How frames come into the shared memory, where jobs find them. Main thread.
import type { CancelSignal } from '../cancellation.js'
import { frameByteLength, layFrame } from '../codec/columns.js'
import type { Frame } from '../frame/frame.js'
import type { Kernels } from '../kernels/kernels.js'
import { copyBytes } from '../memory/copy.js'
import type { Slice } from '../memory/slice.js'
import { type FrameInput, type FrameShape, laidFrame } from './frame-input.js'
import type { InputGate } from './input-gate.js'
import { repeatedRowCount } from './repeated-rows.js'

/** A frame in the shared memory, until `release` is called (once). */
export interface TakenFrame {
  readonly input: FrameInput
  readonly byteLength: number
  readonly release: () => void
}

export interface FrameIntakeOptions {
  readonly signal: CancelSignal | null
  /** Throws when the session wants no more frames; called before room is waited for, and after it. */
  readonly check: () => void
  /** Whether texts of index columns that come again and again may be laid out once; see LaidFrame. */
  readonly takesRepeatedRows?: boolean
}

/** Of one write session. */
export class FrameIntake {
  readonly #parts: { readonly kernels: Kernels; readonly inputs: InputGate }
  readonly #options: FrameIntakeOptions
  #shape: FrameShape | null = null

  constructor(parts: { readonly kernels: Kernels; readonly inputs: InputGate }, options: FrameIntakeOptions) {
    this.#parts = parts
    this.#options = options
  }

  /**
   * Copies a pb.Frame when there is room for it. `taken` is called at once with what this resolves with: a caller that
   * awaits it comes behind the copies of all who have room, too.
   */
  takeWire(frame: Uint8Array, taken?: (frame: TakenFrame) => void): Promise<TakenFrame> {
    const { byteLength } = frame
    const copyIn = ({ byteOffset }: Slice): FrameInput => {
      copyBytes(frame, this.#parts.kernels.u8, byteOffset)
      return { format: 'wire', message: { byteOffset, byteLength } }
    }
    return this.#take(byteLength, copyIn, taken)
  }

  /** Lays out the columns of a frame of this thread when there is room for them. Otherwise as takeWire. */
  takeFrame(frame: Frame, taken?: (frame: TakenFrame) => void): Promise<TakenFrame> {
    const repeated = this.#options.takesRepeatedRows === true ? repeatedRowCount(frame) : 0
    const copyIn = ({ byteOffset }: Slice): FrameInput => {
      const laid = laidFrame(layFrame(this.#parts.kernels, frame, byteOffset, repeated), this.#shape, repeated)
      this.#shape = laid.shape
      return { format: 'columns', frame: laid }
    }
    return this.#take(frameByteLength(frame, repeated), copyIn, taken)
  }

  async #take(
    byteLength: number,
    copyIn: (slice: Slice) => FrameInput,
    taken: ((frame: TakenFrame) => void) | undefined,
  ): Promise<TakenFrame> {
    const { signal, check } = this.#options
    check()
    const { slice, release } = await this.#parts.inputs.take(byteLength, signal ?? undefined)
    try {
      check()
      const frame = { input: copyIn(slice), byteLength, release }
      taken?.(frame)
      return frame
    } catch (error) {
      release()
      throw error
    }
  }
}
