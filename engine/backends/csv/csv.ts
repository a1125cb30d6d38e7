// The csv backend, main-thread half: a table is a file below the root folder.
import type { CancelSignal } from '../../cancellation.js'
import type { BigIntStats } from 'node:fs'
import { constants } from 'node:fs'
import { type FileHandle, link, lstat, open, unlink, writeFile } from 'node:fs/promises'
import { FramesError, shortened } from '../../errors.js'
import type { ColumnHead } from '../../frame/column-head.js'
import type { DType } from '../../frame/dtype.js'
import type { PlainFrame } from '../../frame/plain.js'
import { csvPingCellCountMax, MiB, tableColumnCountMax } from '../../limits.js'
import type { JobResult } from '../../pool/pool.js'
import type {
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  ReadRequest,
  TableSchema,
  WriteRequest,
} from '../../requests.js'
import type { Backend, BackendParts, BackendWriteSession, CallOptions, ReadMessage, ReadOptions } from '../backend.js'
import { refuseDeleteParameters, refuseReadParameters, refuseWriteParameters } from '../refused-parameters.js'
import { Turn } from '../turn.js'
import { fileError, quotedTable, systemErrorName } from './file-error.js'
import { CsvFolder, nameOf, removeFile } from './folder.js'
import { parseMarker, type TextPlace } from './marker.js'
import type { OpenText, ReadTextJob, ReadTextResult, ScanTextJob, ScanTextResult } from './read-jobs.js'
import { recordText } from './record-text.js'
import { CsvWriteSession } from './write-session.js'

const readScratchByteLength = 16 * MiB
/** Files whose columns are kept, and columns of them together: a read that goes on need not look through its file again. */
const profileCountMax = 64
const profileColumnCountMax = 64 * 1024
const rowCountNone = 2 ** 52

/** What a look through a whole file has found. */
interface Profile {
  readonly names: readonly string[]
  readonly dtypes: readonly DType[]
  readonly rowCount: number
  /** Where the first record starts. */
  readonly start: TextPlace
}

/** What one job has read; frames are valid until it is released. */
interface ReadStep {
  readonly messages: readonly ReadMessage[]
  readonly next: TextPlace | null
  release(): void
}

interface OpenFile {
  readonly handle: FileHandle
  readonly text: OpenText
  /** Tells this version of the file from all others. */
  readonly version: string
}

export class Csv implements Backend {
  readonly #parts: BackendParts
  readonly #folder: CsvFolder | null
  readonly #profiles = new Map<string, Profile>()
  #profileColumnCount = 0
  readonly #turns = new Map<string, { readonly turn: Turn; userCount: number }>()
  #cleaned: Promise<void> | null = null

  /** rootDir: the folder of the files, made when it is missing; null: every call that needs it fails. */
  constructor(parts: BackendParts, rootDir: string | null) {
    this.#parts = parts
    this.#folder = rootDir === null ? null : new CsvFolder(rootDir)
  }

  async create(request: CreateRequest): Promise<void> {
    const { table } = request
    const header = headerOf(request.schema)
    const appends = appendsOf(request.schema)
    const folder = this.#rootFolder()
    const place = await folder.locate(table, `cannot create file: open ${shortened(table)}`)
    const exists = (): void => {
      if (request.ifExists === 'ignore') return
      throw new FramesError('TABLE_EXISTS', `file '${quotedTable(table)}' already exists`)
    }
    try {
      if (await isThere(place.path)) return exists()
      const temporary = await folder.createTemporary()
      try {
        await temporary.handle.writeFile(header)
        await temporary.handle.datasync()
        if (!(await linkNew(temporary.path, place.path, header))) return exists()
        await folder.setAppends(table, appends)
        await place.folder.sync()
      } finally {
        await removeFile(temporary.path)
        await temporary.close()
      }
    } catch (error) {
      throw fileError(error, `cannot create file: open ${shortened(table)}`)
    } finally {
      await place.close()
    }
  }

  async openWrite(request: WriteRequest, options: CallOptions): Promise<BackendWriteSession> {
    refuseWriteParameters(request, 'csv')
    const { table } = request
    const folder = this.#rootFolder()
    const tried = `cannot create file: open ${shortened(table)}`
    const place = await folder.locate(table, tried)
    try {
      if ((await isThere(place.path)) && !(await lstat(place.path)).isFile()) {
        throw new FramesError('FILE_FAILED', `${tried}: is not a file`)
      }
      const namesNow = () => this.#namesOf(table, options.signal)
      const names = (await folder.appends(table)) ? await namesNow() : null
      const temporary = await folder.createTemporary()
      return new CsvWriteSession(this.#parts, {
        table: shortened(table),
        place,
        temporary,
        signal: options.signal ?? null,
        appendTo: names === null ? null : { names },
        inTurn: (work) => this.#inTurn(nameOf(table), work),
        namesNow,
      })
    } catch (error) {
      await place.close()
      throw fileError(error, tried)
    }
  }

  async *read(request: ReadRequest, format: 'wire' | 'columns', options: ReadOptions): AsyncGenerator<ReadMessage> {
    refuseReadParameters(request, 'csv')
    const file = await this.#open(request.table)
    try {
      const profile = await this.#profile(file, options.signal)
      const { limit = 0n, messageLimit = 0n, marker = '' } = request
      if (limit < 0n) throw new FramesError('INVALID_ARGUMENT', `limit is ${limit}, below 0`)
      if (messageLimit < 0n) throw new FramesError('INVALID_ARGUMENT', `message_limit is ${messageLimit}, below 0`)
      const columns = wantedColumns(profile, request.columns ?? [])
      const place = marker === '' ? profile.start : parseMarker(marker, file.version, file.text.byteLength)
      if (place.row >= profile.rowCount) return
      if (options.describe) {
        const heads = columns.map(({ name, dtype }): ColumnHead => ({ name, role: 'column', dtype }))
        yield { rowCount: 0, bytes: null, frame: null, columns: heads }
      }
      const job: ReadTextJob = {
        kind: 'csv.read',
        text: file.text,
        place,
        columnCount: profile.names.length,
        columns,
        rowCountMax: limit === 0n ? rowCountNone : Number(limit),
        frameRowCount: Number(messageLimit),
        fileRowCount: profile.rowCount,
        file: file.version,
        format,
      }
      yield* this.#messages(job, options.signal)
    } finally {
      await file.handle.close()
    }
  }

  /** The frames of one job after another; the next one runs while the messages of the last leave. */
  async *#messages(job: ReadTextJob, signal: CancelSignal | undefined): AsyncGenerator<ReadMessage> {
    const run = async (place: TextPlace, rowCountMax: number): Promise<ReadStep> => {
      if (job.format === 'columns') await this.#parts.outgoing.roomForColumns(signal)
      const next: ReadTextJob = { ...job, place, rowCountMax }
      const done = await this.#parts.pool.runToEnd<ReadTextResult>(next, {
        scratchByteLength: readScratchByteLength,
        ...(signal === undefined ? {} : { signal }),
      })
      return this.#step(done)
    }
    const start = (place: TextPlace, rowCountMax: number): Promise<ReadStep> => {
      const started = run(place, rowCountMax)
      // Looked at when its turn comes; a failure must not count as unhandled before.
      started.catch(() => undefined)
      return started
    }
    let leftCount = job.rowCountMax
    let pending: Promise<ReadStep> | null = start(job.place, leftCount)
    try {
      while (pending !== null) {
        const { messages, next, release }: ReadStep = await pending
        pending = null
        for (const { rowCount } of messages) leftCount -= rowCount
        try {
          if (next !== null && leftCount > 0) pending = start(next, leftCount)
          yield* messages
        } finally {
          release()
        }
      }
    } finally {
      const left = await pending?.catch(() => null)
      left?.release()
    }
  }

  /** The scratch of a job is free when it has ended: readers that stop reading would hold all of them otherwise. */
  #step(done: JobResult<ReadTextResult>): ReadStep {
    const { kernels, outgoing } = this.#parts
    const { messages: made, next } = done.result
    if (made.some(({ frame }) => frame !== null)) return { ...outgoing.takeColumns(done, made), next }
    const messages = made.map(({ rowCount, bytes, frame }): ReadMessage => {
      if (bytes === null) return { rowCount, bytes, frame }
      return { rowCount, bytes: kernels.u8.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength), frame }
    })
    done.release()
    return { messages, next, release: () => undefined }
  }

  async delete(request: DeleteRequest): Promise<void> {
    refuseDeleteParameters(request, 'csv')
    const { table } = request
    const folder = this.#rootFolder()
    const missing = (): void => {
      if (request.ifMissing === 'ignore') return
      throw new FramesError('TABLE_NOT_FOUND', `path to file '${quotedTable(table)}' doesn't exist`)
    }
    const place = await folder.locate(table, 'open', { keepsLink: true }).catch((error: unknown) => {
      if (error instanceof FramesError && error.code === 'TABLE_NOT_FOUND') return null
      throw error
    })
    if (place === null) return missing()
    try {
      if (!(await isThere(place.path))) return missing()
      await unlink(place.path)
      await folder.setAppends(table, false)
      await place.folder.sync()
    } catch (error) {
      throw fileError(error, `cannot delete file '${quotedTable(table)}'`)
    } finally {
      await place.close()
    }
  }

  async execute(request: ExecuteRequest): Promise<PlainFrame | null> {
    if (request.command.toLowerCase() !== 'ping') {
      const command = quotedTable(request.command)
      throw new FramesError('INVALID_ARGUMENT', `CSV backend doesn't support execute command '${command}'; it has ping`)
    }
    return pingFrame(request.args ?? {})
  }

  async close(): Promise<void> {
    await this.#cleaned
  }

  // ---- files --------------------------------------------------------------------------------------------------------

  #rootFolder(): CsvFolder {
    const folder = this.#folder
    if (folder === null) {
      throw new FramesError(
        'NO_ROOT_FOLDER',
        'the csv backend has no root folder: the engine keeps everything in memory',
      )
    }
    this.#cleaned ??= folder
      .removeLeftovers(Date.now())
      .catch((error: unknown) => this.#parts.report('removing leftovers of csv writes failed', error))
    return folder
  }

  /** Opens a file for reading; close its handle. */
  async #open(table: string): Promise<OpenFile> {
    const tried = `open ${shortened(table)}`
    const place = await this.#rootFolder().locate(table, tried)
    let handle: FileHandle | null = null
    try {
      // Not waiting for the other end of a pipe.
      const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
      handle = await open(place.path, flags)
      const stats = await handle.stat({ bigint: true })
      if (!stats.isFile()) throw new FramesError('FILE_FAILED', `${tried}: is not a file`)
      return { handle, text: { fd: handle.fd, byteLength: Number(stats.size) }, version: versionOf(stats) }
    } catch (error) {
      await handle?.close()
      throw fileError(error, tried)
    } finally {
      await place.close()
    }
  }

  /** The columns of a table's file; null when it is missing or empty. */
  async #namesOf(table: string, signal: CancelSignal | undefined): Promise<readonly string[] | null> {
    let file: OpenFile
    try {
      file = await this.#open(table)
    } catch (error) {
      if (error instanceof FramesError && error.code === 'TABLE_NOT_FOUND') return null
      throw error
    }
    try {
      return file.text.byteLength === 0 ? null : (await this.#profile(file, signal)).names
    } finally {
      await file.handle.close()
    }
  }

  /** Looks through the whole file, if this version of it was not looked at before. */
  async #profile({ text, version }: OpenFile, signal: CancelSignal | undefined): Promise<Profile> {
    const known = this.#profiles.get(version)
    if (known !== undefined) return known
    let header: ScanTextResult['header'] = null
    let types: Uint32Array | null = null
    let rowCount = 0
    for (let place: TextPlace | null = { byteOffset: 0, line: 1, row: 0 }; place !== null; ) {
      const job: ScanTextJob = { kind: 'csv.scan', text, place, types }
      const done: JobResult<ScanTextResult> = await this.#parts.pool.runToEnd<ScanTextResult>(job, {
        scratchByteLength: readScratchByteLength,
        ...(signal === undefined ? {} : { signal }),
      })
      done.release()
      const { result } = done
      header ??= result.header
      types = result.types
      rowCount += result.rowCount
      place = result.next
    }
    const { names, end } = header!
    const profile = { names, dtypes: Array.from(types!, dtypeOfBits), rowCount, start: end }
    this.#keep(version, profile)
    return profile
  }

  #keep(version: string, profile: Profile): void {
    this.#profiles.set(version, profile)
    this.#profileColumnCount += profile.names.length
    for (const [oldest, { names }] of this.#profiles) {
      if (this.#profiles.size <= profileCountMax && this.#profileColumnCount <= profileColumnCountMax) return
      this.#profiles.delete(oldest)
      this.#profileColumnCount -= names.length
    }
  }

  async #inTurn<T>(name: string, work: () => Promise<T>): Promise<T> {
    const entry = this.#turns.get(name) ?? { turn: new Turn(), userCount: 0 }
    this.#turns.set(name, entry)
    entry.userCount++
    try {
      return await entry.turn.run(work)
    } finally {
      if (--entry.userCount === 0) this.#turns.delete(name)
    }
  }
}

function versionOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join('.')
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (systemErrorName(error) === 'ENOENT') return false
    throw error
  }
}

/** Gives a finished file a second name that must be new; false when that name exists. */
async function linkNew(path: string, target: string, text: string): Promise<boolean> {
  try {
    await link(path, target)
    return true
  } catch (error) {
    const name = systemErrorName(error)
    if (name === 'EEXIST') return false
    // Some file systems have no second names.
    if (name !== 'EPERM' && name !== 'ENOTSUP' && name !== 'EXDEV') throw error
  }
  try {
    await writeFile(target, text, { flag: 'wx' })
    return true
  } catch (error) {
    if (systemErrorName(error) === 'EEXIST') return false
    throw error
  }
}

/** The first line of a created file; '' without fields. */
function headerOf(schema: TableSchema | undefined): string {
  const fields = schema?.fields ?? []
  for (const [i, { name }] of fields.entries()) {
    if (name === '') throw new FramesError('INVALID_ARGUMENT', `field ${i} with no name`)
  }
  if (fields.length > tableColumnCountMax) {
    throw new FramesError('TOO_MANY_COLUMNS', `${fields.length} columns, at most ${tableColumnCountMax} are possible`)
  }
  return fields.length === 0 ? '' : recordText(fields.map(({ name }) => name))
}

/** Property `append` of any field: whether writes append to the file instead of replacing it. */
function appendsOf(schema: TableSchema | undefined): boolean {
  let appends: boolean | undefined
  for (const { properties } of schema?.fields ?? []) {
    const value = properties?.['append']
    if (value === undefined) continue
    if (typeof value !== 'boolean') throw new FramesError('INVALID_ARGUMENT', "property 'append' must be true or false")
    if (appends !== undefined && appends !== value) {
      throw new FramesError('INVALID_ARGUMENT', "property 'append' is given as true and as false")
    }
    appends = value
  }
  return appends ?? false
}

/** Numbers of mixed kinds are floats; any other mix, and a column without values, is text. */
function dtypeOfBits(bits: number): DType {
  switch (bits & 31) {
    case 1:
      return 'time'
    case 2:
      return 'bool'
    case 4:
      return 'int64'
    case 8:
    case 12:
      return 'float64'
    default:
      return 'string'
  }
}

/** The asked columns in the order of the file, each once; none asked: all. Throws COLUMN_NOT_FOUND. */
function wantedColumns({ names, dtypes }: Profile, asked: readonly string[]): ReadTextJob['columns'] {
  if (asked.length === 0) return names.map((name, field) => ({ field, name, dtype: dtypes[field]! }))
  const fields = new Map<string, number>()
  // Of several with one name the last, as clients take it.
  for (const [field, name] of names.entries()) fields.set(name, field)
  const wanted = [...new Set(asked)].map((name) => {
    const field = fields.get(name)
    if (field === undefined) throw new FramesError('COLUMN_NOT_FOUND', `column '${shortened(name)}' doesn't exist`)
    return { field, name, dtype: dtypes[field]! }
  })
  return wanted.sort((a, b) => a.field - b.field)
}

const pingRowCountDefault = 37n
const pingColumnCountDefault = 4n

function pingFrame(args: NonNullable<ExecuteRequest['args']>): PlainFrame | null {
  const count = (name: string, byDefault: bigint): bigint => {
    const value = args[name]
    if (typeof value !== 'bigint') return byDefault
    if (value < 0n) throw new FramesError('INVALID_ARGUMENT', `${name} is ${value}, below 0`)
    return value
  }
  const rowCount = count('rows', pingRowCountDefault)
  const columnCount = count('cols', pingColumnCountDefault)
  if (rowCount * columnCount > BigInt(csvPingCellCountMax) || columnCount > BigInt(tableColumnCountMax)) {
    throw new FramesError('FRAME_TOO_LARGE', `${rowCount} rows of ${columnCount} columns are too many to answer with`)
  }
  if (rowCount === 0n || columnCount === 0n) return null
  return {
    columns: Array.from({ length: Number(columnCount) }, (_, column) => ({
      name: `col-${column}`,
      dtype: 'int64',
      values: Array.from({ length: Number(rowCount) }, (_row, row) => BigInt(row * column)),
    })),
  }
}
