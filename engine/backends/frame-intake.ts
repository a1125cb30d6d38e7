// How frames come into the shared memory, where jobs find them. Main thread.
import { frameByteLength, layFrame } from '../codec/columns.js'
import type { Frame } from '../frame/frame.js'
import type { Kernels } from '../kernels/kernels.js'
import { copyBytes } from '../memory/copy.js'
import type { Slice } from '../memory/slice.js'
import { type FrameInput, type FrameShape, laidFrame } from './frame-input.js'
import type { InputGate } from './input-gate.js'

/** A frame in the shared memory, until `release` is called (once). */
export interface TakenFrame {
  readonly input: FrameInput
  readonly byteLength: number
  readonly release: () => void
}

export interface FrameIntakeOptions {
  readonly signal: AbortSignal | null
  /** Throws when the session wants no more frames; called before room is waited for, and after it. */
  readonly check: () => void
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

  /** Copies a pb.Frame when there is room for it. */
  takeWire(frame: Uint8Array): Promise<TakenFrame> {
    const { byteLength } = frame
    return this.#take(byteLength, ({ byteOffset }) => {
      copyBytes(frame, this.#parts.kernels.u8, byteOffset)
      return { format: 'wire', message: { byteOffset, byteLength } }
    })
  }

  /** Lays out the columns of a frame of this thread when there is room for them. */
  takeFrame(frame: Frame): Promise<TakenFrame> {
    return this.#take(frameByteLength(frame), ({ byteOffset }) => {
      const laid = laidFrame(layFrame(this.#parts.kernels, frame, byteOffset), this.#shape)
      this.#shape = laid.shape
      return { format: 'columns', frame: laid }
    })
  }

  async #take(byteLength: number, copyIn: (slice: Slice) => FrameInput): Promise<TakenFrame> {
    const { signal, check } = this.#options
    check()
    const { slice, release } = await this.#parts.inputs.take(byteLength, signal ?? undefined)
    try {
      check()
      return { input: copyIn(slice), byteLength, release }
    } catch (error) {
      release()
      throw error
    }
  }
}
