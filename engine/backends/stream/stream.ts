// The stream backend, main-thread half: what each request asks of which stream.
import type { TableName } from '../../blocks/catalog.js'
import { newPartition, shownName } from '../../blocks/catalog.js'
import { BlockTable } from '../../blocks/table.js'
import { FramesError } from '../../errors.js'
import type { PlainFrame } from '../../frame/plain.js'
import type {
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  ReadRequest,
  TableRequest,
  WriteRequest,
} from '../../requests.js'
import type { Backend, BackendParts, BackendWriteSession, CallOptions, ReadMessage, ReadOptions } from '../backend.js'
import { OpenTables } from '../open-tables.js'
import { Rounds } from '../rounds.js'
import { refuseDeleteParameters, refuseReadParameters, refuseWriteParameters } from '../refused-parameters.js'
import { tableNameOf } from '../table-name.js'
import { commandOf } from './commands.js'
import { markerKey, planRead } from './plan.js'
import { readStream } from './read.js'
import { createSchema, encodeSchema } from './schema.js'
import { missing, StreamTable, tableParts } from './table.js'
import { StreamWriteSession } from './write-session.js'

const backendName = 'stream'

export class Streams implements Backend {
  readonly #parts: BackendParts
  readonly #tables: OpenTables<StreamTable>
  readonly #rounds: Rounds

  constructor(parts: BackendParts) {
    this.#parts = parts
    const { catalog, store, report } = parts
    this.#tables = new OpenTables({
      catalog,
      store,
      report,
      load: async (name) => {
        const partition = await catalog.find(name)
        if (partition === null) throw missing(shownName(name))
        return StreamTable.open(parts, name, partition)
      },
    })
    // Open streams look after themselves, and more often.
    const visit = (name: TableName): Promise<void> => this.#tables.visit(name, (table) => table.retention.run())
    this.#rounds = new Rounds({ catalog, backend: backendName, visit, report })
  }

  async create(request: CreateRequest): Promise<void> {
    const schema = createSchema(request, Math.floor(this.#parts.nowMs()))
    const name = this.#nameOf(request)
    const exists = (): void => {
      if (request.ifExists === 'ignore') return
      throw new FramesError('TABLE_EXISTS', `A stream already exists at path '${name.path}'`)
    }
    const { catalog, store } = this.#parts
    if ((await catalog.find(name)) !== null) return exists()
    const partition = newPartition()
    await BlockTable.create(tableParts(this.#parts), partition, encodeSchema(schema))
    if (await catalog.add(name, partition)) return
    await store.dropPartition(partition)
    exists()
  }

  async openWrite(request: WriteRequest, options: CallOptions): Promise<BackendWriteSession> {
    refuseWriteParameters(request, 'stream')
    const { table, release } = await this.#tables.take(this.#nameOf(request))
    return new StreamWriteSession(this.#parts, { table, signal: options.signal ?? null, release })
  }

  async *read(request: ReadRequest, format: 'wire' | 'columns', options: ReadOptions): AsyncGenerator<ReadMessage> {
    refuseReadParameters(request, 'stream')
    const plan = planRead(request, this.#parts.nowMs())
    const { table, release } = await this.#tables.take(this.#nameOf(request)).catch(asSeek)
    try {
      yield* readStream(this.#parts, table, {
        plan,
        marker: request.marker ?? '',
        markerKey: markerKey(request),
        format,
        describe: options.describe ?? false,
        signal: options.signal ?? null,
      })
    } finally {
      release()
    }
  }

  async delete(request: DeleteRequest): Promise<void> {
    refuseDeleteParameters(request, 'stream')
    const name = this.#nameOf(request)
    const partition = await this.#parts.catalog.find(name)
    if (partition === null) {
      if (request.ifMissing === 'ignore') return
      throw missing(shownName(name))
    }
    await this.#tables.delete(name, partition)
  }

  async execute(request: ExecuteRequest): Promise<PlainFrame | null> {
    const command = commandOf(request)
    const { table, release } = await this.#tables.take(this.#nameOf(request))
    try {
      return await command(table, this.#parts)
    } finally {
      release()
    }
  }

  #nameOf(request: TableRequest): TableName {
    return tableNameOf(request, backendName, this.#parts.defaultContainer)
  }

  async close(): Promise<void> {
    await this.#rounds.stop()
    await this.#tables.close()
  }
}

/** A read of a missing stream fails where it seeks. */
function asSeek(error: unknown): never {
  const isMissing = error instanceof FramesError && error.code === 'TABLE_NOT_FOUND'
  throw isMissing ? new FramesError(error.code, `Error in Seek operation - ${error.what}`) : error
}
