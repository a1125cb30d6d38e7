// One write at work: jobs put the records of its frames into a file of its own, which takes the table's place at the end.
import type { CancelSignal } from '../../cancellation.js'
import { constants } from 'node:fs'
import { copyFile, type FileHandle, open, rename } from 'node:fs/promises'
import { FramesError } from '../../errors.js'
import type { Frame } from '../../frame/frame.js'
import { MiB } from '../../limits.js'
import type { WriteCounts } from '../../requests.js'
import type { BackendParts, BackendWriteSession } from '../backend.js'
import { fileError } from './file-error.js'
import type { Place } from './folder.js'
import { removeFile } from './folder.js'
import type { FrameInput } from '../frame-input.js'
import { FrameIntake, type TakenFrame } from '../frame-intake.js'
import type { WriteTextJob, WriteTextResult } from './write-jobs.js'

export interface CsvWriteOptions {
  readonly table: string
  readonly place: Place
  /** What is written, until it is whole. */
  readonly temporary: Place & { readonly handle: FileHandle }
  readonly signal: CancelSignal | null
  /** The columns that the table has; set: the rows are appended to it. */
  readonly appendTo: { readonly names: readonly string[] } | null
  /** One at a time for each table: what looks at the old file and puts a new one in its place. */
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>
  /** The columns of the table's file now, null when it is missing or empty. */
  readonly namesNow: () => Promise<readonly string[] | null>
}

/** Frames of one session that are here: one at work, one waiting. */
const frameCountMax = 2
/** Scratch of a write job beside what follows from the size of its frame. */
const writeScratchByteLength = 4 * MiB

export class CsvWriteSession implements BackendWriteSession {
  readonly #parts: BackendParts
  readonly #intake: FrameIntake
  readonly #options: CsvWriteOptions
  #frameCount = 0
  #rowCount = 0
  #byteOffset = 0
  #names: readonly string[] | null
  #failure: unknown = null
  #isAborted = false
  #tail: Promise<void> = Promise.resolve()
  readonly #waiting: Promise<void>[] = []
  #ended: Promise<void> | null = null

  constructor(parts: BackendParts, options: CsvWriteOptions) {
    this.#parts = parts
    this.#intake = new FrameIntake(parts, { signal: options.signal, check: () => this.#throwFailure() })
    this.#options = options
    this.#names = options.appendTo?.names ?? null
  }

  async addWire(frame: Uint8Array): Promise<void> {
    await this.#add(await this.#intake.takeWire(frame))
  }

  async addFrame(frame: Frame): Promise<void> {
    await this.#add(await this.#intake.takeFrame(frame))
  }

  async #add({ input, byteLength, release }: TakenFrame): Promise<void> {
    const work = this.#tail.then(() => this.#write(input, byteLength)).finally(release)
    this.#tail = work.catch((error: unknown) => {
      this.#failure ??= error
    })
    this.#waiting.push(this.#tail)
    if (this.#waiting.length >= frameCountMax) await this.#waiting.shift()
    this.#throwFailure()
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure
    if (this.#isAborted) throw new FramesError('CANCELLED', 'the write was given up')
  }

  async #write(input: FrameInput, byteLength: number): Promise<void> {
    if (this.#failure !== null || this.#isAborted) return
    const { temporary, signal } = this.#options
    const job: WriteTextJob = {
      kind: 'csv.write',
      input,
      fd: temporary.handle.fd,
      byteOffset: this.#byteOffset,
      names: this.#names,
    }
    const done = await this.#parts.pool.runToEnd<WriteTextResult>(job, {
      scratchByteLength: writeScratchByteLength + 3 * byteLength,
      ...(signal === null ? {} : { signal }),
    })
    done.release()
    this.#frameCount++
    this.#rowCount += done.result.rowCount
    this.#byteOffset = done.result.byteOffset
    this.#names = done.result.names
  }

  async stored(): Promise<void> {
    await this.#tail
    this.#throwFailure()
  }

  async finish(): Promise<WriteCounts> {
    try {
      await this.stored()
      const { table, place, temporary, appendTo, inTurn } = this.#options
      try {
        if (appendTo === null) await inTurn(() => this.#replace(temporary))
        else if (this.#byteOffset > 0) await inTurn(() => this.#append(appendTo.names))
        // The name is as durable as the bytes.
        await place.folder.sync()
      } catch (error) {
        throw fileError(error, `write ${table}`)
      }
      return { frameCount: this.#frameCount, rowCount: this.#rowCount }
    } finally {
      await this.#end()
    }
  }

  async #replace({ path, handle }: { path: string; handle: FileHandle }): Promise<void> {
    await handle.datasync()
    await rename(path, this.#options.place.path)
  }

  /** A copy of the table with the rows behind it takes its place: who reads meanwhile has the old file open. */
  async #append(names: readonly string[]): Promise<void> {
    const { place, temporary, namesNow, table } = this.#options
    const now = await namesNow()
    if (now === null || now.length !== names.length || now.some((name, i) => name !== names[i])) {
      throw new FramesError('FILE_CHANGED', `the columns of ${table} changed while rows for it were written`)
    }
    const wholePath = `${temporary.path}.whole.tmp`
    try {
      await copyFile(place.path, wholePath, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
      const whole = await open(wholePath, constants.O_RDWR | constants.O_NOFOLLOW)
      try {
        await appendFile(whole, temporary.handle, this.#byteOffset)
        await this.#replace({ path: wholePath, handle: whole })
      } finally {
        await whole.close()
      }
    } finally {
      await removeFile(wholePath)
    }
  }

  abort(): void {
    this.#isAborted = true
    // When nothing of this session works on the file any more.
    this.#tail
      .then(() => this.#end())
      .catch((error: unknown) => this.#parts.report(`removing a file of an ended write failed`, error))
  }

  /** Removes the file unless it has become the table's. */
  #end(): Promise<void> {
    this.#ended ??= this.#close()
    return this.#ended
  }

  async #close(): Promise<void> {
    const { place, temporary } = this.#options
    try {
      await removeFile(temporary.path)
    } finally {
      await temporary.close()
      await place.close()
    }
  }
}

const copyByteLength = 1 * MiB

/** Copies the first byteLength bytes of a file behind another, after a line end where its last line has none. */
async function appendFile(target: FileHandle, source: FileHandle, byteLength: number): Promise<void> {
  const buffer = Buffer.allocUnsafe(copyByteLength)
  let end = (await target.stat()).size
  if (end > 0) {
    const last = await target.read(buffer, 0, 1, end - 1)
    if (last.bytesRead === 1 && buffer[0] !== 0x0a) end += (await target.write('\n', end)).bytesWritten
  }
  for (let read = 0; read < byteLength; ) {
    const { bytesRead } = await source.read(buffer, 0, Math.min(copyByteLength, byteLength - read), read)
    if (bytesRead === 0) throw new FramesError('FILE_CHANGED', 'the rows of a write are gone before they were appended')
    for (let written = 0; written < bytesRead; ) {
      written += (await target.write(buffer, written, bytesRead - written, end + read + written)).bytesWritten
    }
    read += bytesRead
  }
}
