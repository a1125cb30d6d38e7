// The key-value backend, main-thread half: which table a request is about, and what it asks of it.
import type { TableName } from '../../blocks/catalog.js'
import type { Kill } from '../../blocks/dead-rows.js'
import type { LiveBlock } from '../../blocks/live-block.js'
import { FramesError, shortened } from '../../errors.js'
import { filterOf } from '../../expression/cache.js'
import type { Value } from '../../frame/dtype.js'
import { nameByteLengthMax } from '../../limits.js'
import type { CreateRequest, DeleteRequest, ExecuteRequest, ReadRequest, WriteRequest } from '../../requests.js'
import type {
  Backend,
  BackendParts,
  BackendWriteSession,
  CallOptions,
  ExecuteAnswer,
  ReadMessage,
  ReadOptions,
} from '../backend.js'
import { tableNameOf } from '../table-name.js'
import { refuseDeleteParameters, refuseReadParameters, refuseWriteParameters } from '../refused-parameters.js'
import type { AssignedCell } from './assigned-cells.js'
import { assignedCells, dtypeOfCell } from './assigned-cells.js'
import { inferItemCountDefault, inferItemCountMax } from './infer.js'
import type { KillJob } from './jobs.js'
import { missingSchema, readItems } from './read.js'
import { executeRead, readCommands } from './read-commands.js'
import { createSchema, encodeSchema } from './schema.js'
import type { SaveMode, SentRule } from './settle-request.js'
import { ruleOf } from './settle-request.js'
import type { KvTable, TablePlace } from './table.js'
import { missingTable, TablePlaces } from './table.js'
import { KvWriteSession } from './write-session.js'
import type { WriteGroup } from './writes.js'

const backendName = 'kv'
const saveModes: readonly SaveMode[] = [
  'errorIfTableExists',
  'overwriteTable',
  'updateItem',
  'overwriteItem',
  'createNewItemsOnly',
]
const commands: ReadonlySet<string> = new Set(['compact', 'flush', ...readCommands])
/** Blocks that one job of a delete looks into, and rows that one of its commits kills at most (or one block's). */
const killBlockCountMax = 16
const killRowCountMax = 1024 * 1024
const killScratchByteLength = 12 * 1024 * 1024
/** How often expired items of open tables are looked for: at most, and for each part of their time to live. */
const expirySweepMs = 30_000
const expirySweepsPerTtl = 20

/** Longer texts of an update are looked at each time. */
const keptUpdateLengthMax = 4096

/** What the texts of an update mean. */
interface KnownUpdate {
  readonly condition: string
  readonly expression: string
  readonly rule: SentRule
  readonly ruleText: string
  /** Set where the expression assigns constants only. */
  readonly cells: readonly AssignedCell[] | null
}

export class Kv implements Backend {
  readonly #parts: BackendParts
  readonly #places: TablePlaces
  readonly #inferItemCount: number
  readonly #sweepTimer: NodeJS.Timeout
  #sweeping: Promise<void> | null = null
  #lastUpdate: KnownUpdate | null = null

  /** inferItemCount: items that the command `infer` looks at, at most. */
  constructor(parts: BackendParts, inferItemCount = inferItemCountDefault) {
    this.#parts = parts
    this.#inferItemCount = Math.min(inferItemCount, inferItemCountMax)
    this.#places = new TablePlaces(parts)
    this.#sweepTimer = setInterval(() => {
      this.#sweeping ??= this.#sweep().finally(() => {
        this.#sweeping = null
      })
    }, expirySweepMs).unref()
  }

  /** Without a schema there is nothing that a first write would not do: upstream's error stands. */
  async create(request: CreateRequest): Promise<void> {
    const notNeeded = "'create' isn't required for the NoSQL backend; the table is created on first write"
    if (request.schema === undefined) throw new FramesError('CREATE_NOT_NEEDED', notNeeded)
    const name = tableNameOf(request, backendName, this.#parts.defaultContainer)
    const schema = createSchema(request)
    this.#parts.report(notNeeded, null)
    await this.#inPlace(name, (place) =>
      place.turn.run(async () => {
        if (((await place.current())?.schema.key ?? '') !== '') {
          if (request.ifExists === 'ignore') return
          throw new FramesError('TABLE_EXISTS', `table '${name.path}/' already exists`)
        }
        const { blocks, turn } = await place.openOrCreate()
        await turn.run(async () => blocks.commitRows(await blocks.stageRows([]), { schema: encodeSchema(schema) }))
      }),
    )
  }

  async openWrite(request: WriteRequest, options: CallOptions): Promise<BackendWriteSession> {
    refuseWriteParameters(request, backendName)
    const name = tableNameOf(request, backendName, this.#parts.defaultContainer)
    const saveMode = saveModeOf(request)
    const { condition = '', expression = '', partitionKeys = [] } = request
    const rule: SentRule = { saveMode, condition, expression, isTemplate: true, partitionKeys }
    ruleOf(rule)
    const ruleText = JSON.stringify([saveMode, condition, expression, partitionKeys])
    const { place, release } = await this.#places.take(name)
    try {
      if (saveMode === 'errorIfTableExists') await this.#refuseExisting(place)
    } catch (error) {
      release()
      throw error
    }
    const common = { rule, ruleText, signal: options.signal ?? null }
    if (saveMode !== 'overwriteTable') {
      const complete = (): Promise<void> => Promise.resolve()
      return new KvWriteSession(this.#parts, { ...common, place, complete, release })
    }
    // Filled apart, and put in place in the end: readers see the old table until then.
    const filled = this.#places.unnamed(name)
    return new KvWriteSession(this.#parts, {
      ...common,
      place: filled,
      complete: (frameCount) =>
        place.turn.run(async () => {
          if (frameCount > 0) await place.replace(filled)
          else await place.remove()
        }),
      release: () => {
        release()
        this.#places
          .removeUnnamed(filled)
          .catch((error: unknown) => this.#parts.report('dropping a table that was not finished failed', error))
      },
    })
  }

  async *read(request: ReadRequest, format: 'wire' | 'columns', options: ReadOptions): AsyncGenerator<ReadMessage> {
    refuseReadParameters(request, backendName)
    const name = tableNameOf(request, backendName, this.#parts.defaultContainer)
    const { place, release } = await this.#places.take(name)
    try {
      const table = await place.current()
      if (table === null || table.schema.key === '') throw missingSchema(name, request.table)
      yield* readItems(this.#parts, table, request, format, options)
    } finally {
      release()
    }
  }

  async delete(request: DeleteRequest): Promise<void> {
    refuseDeleteParameters(request, backendName)
    const whole = tableNameOf(request, backendName, this.#parts.defaultContainer)
    const filterText = request.filter ?? ''
    const filter = filterText === '' ? null : filterOf(filterText)
    const { name, folder } = await this.#folderOf(whole)
    await this.#inPlace(name, (place) =>
      place.turn.run(async () => {
        const table = await place.current()
        if (table === null || (table.schema.key === '' && livingCount(table.blocks.blocks) === 0)) {
          if (request.ifMissing === 'ignore') return
          if (!(await this.#parts.catalog.hasBelow(whole))) throw missingFolder(whole)
          // Nothing matches in a folder of tables, and the folder stays as long as they do.
          if (filter !== null) return
          const text = `Failed to delete table object '${whole.path}/'.: it is a folder of tables, and no table itself`
          throw new FramesError('NOT_A_TABLE', text)
        }
        if (folder !== '') {
          const killed = { filter, folder, changedUntilNs: null }
          if ((await this.#kill(table, killed)) > 0 || request.ifMissing === 'ignore') return
          const hasItems = filter !== null && (await this.#hasItems(table, folder))
          if (!hasItems) throw missingFolder(whole)
        } else if (filter === null) await place.remove()
        else await this.#kill(table, { filter, folder: null, changedUntilNs: null })
      }),
    )
  }

  async execute(request: ExecuteRequest, options: CallOptions): Promise<ExecuteAnswer> {
    const command = request.command.trim().toLowerCase()
    const whole = tableNameOf(request, backendName, this.#parts.defaultContainer)
    if (command === 'update') {
      await this.#update(request, whole)
      return null
    }
    if (!commands.has(command)) {
      const known = ['update', ...commands].join(', ')
      const text = `NoSQL backend doesn't support execute command '${shortened(command)}'; it has ${known}`
      throw new FramesError('INVALID_ARGUMENT', text)
    }
    const { name, folder } = whole.path.includes('=') ? await this.#folderOf(whole) : { name: whole, folder: '' }
    return await this.#inPlace(name, async (place) => {
      const table = await place.current()
      if (table === null) throw missingSchema(whole, request.table)
      if (command === 'compact') {
        await this.#killExpired(place, table)
        await table.blocks.compact()
        await table.blocks.erased()
        await this.#parts.shrinkStore()
        return null
      }
      if (command === 'flush') {
        await table.blocks.flush()
        return null
      }
      const asked = { folder, command, inferItemCount: this.#inferItemCount }
      // Awaited here: what returns a promise of its own waits for it three turns longer.
      return await executeRead(this.#parts, table, asked, request, options)
    })
  }

  async close(): Promise<void> {
    clearInterval(this.#sweepTimer)
    await this.#sweeping
    await this.#places.close()
  }

  // ---- names --------------------------------------------------------------------------------------------------------

  /**
   * A path that ends in partition folders of a table (`t/city=LA`) means those, unless it is a table itself. isNew: the
   * table may still be missing.
   */
  async #folderOf(whole: TableName, isNew = false): Promise<{ name: TableName; folder: string }> {
    const parts = whole.path.split('/')
    const first = parts.findIndex((part) => part.includes('='))
    const isPartition = first > 0 && parts.slice(first).every((part) => part.includes('='))
    if (isPartition && (await this.#parts.catalog.find(whole)) === null) {
      const name = { ...whole, path: parts.slice(0, first).join('/') }
      if (isNew || (await this.#parts.catalog.find(name)) !== null)
        return { name, folder: parts.slice(first).join('/') }
    }
    return { name: whole, folder: '' }
  }

  async #inPlace<T>(name: TableName, work: (place: TablePlace) => Promise<T>): Promise<T> {
    const { place, release } = this.#places.tryTake(name) ?? (await this.#places.take(name))
    try {
      return await work(place)
    } finally {
      release()
    }
  }

  // ---- writing ------------------------------------------------------------------------------------------------------

  async #refuseExisting(place: TablePlace): Promise<void> {
    const { name } = place
    const table = await place.current()
    if (table !== null && table.schema.key !== '') {
      throw new FramesError(
        'TABLE_EXISTS',
        `table '${name.path}/' already exists; either use a differnet save mode or save to a different table`,
      )
    }
    const hasItems = table !== null && livingCount(table.blocks.blocks) > 0
    if (hasItems || (await this.#parts.catalog.hasBelow(name))) {
      throw new FramesError(
        'TABLE_EXISTS',
        `folder '${name.path}/' already exists; you can't write to an existing folder unless it already contains a schema file`,
      )
    }
  }

  async #update(request: ExecuteRequest, whole: TableName): Promise<void> {
    const args = request.args ?? {}
    const key = textArgument(args['key'])
    const expression = textArgument(args['expression']) || (request.expression ?? '')
    const condition = textArgument(args['condition'])
    if (key === '' || expression === '') {
      throw new FramesError(
        'INVALID_ARGUMENT',
        `missing a required parameter - 'table', 'expression', and/or 'key' argument: there is no text in ${key === '' ? 'key' : 'expression'}`,
      )
    }
    if (Buffer.byteLength(key) > nameByteLengthMax)
      throw new FramesError('VALUE_TOO_LARGE', `the key is longer than ${nameByteLengthMax} bytes`)
    const { rule, ruleText, cells } = this.#updateOf(condition, expression)
    const group: WriteGroup = { rule, ruleText, rowCount: 0, failure: null }
    const { name, folder } = whole.path.includes('=') ? await this.#folderOf(whole, true) : { name: whole, folder: '' }
    const byteLength = key.length + expression.length + condition.length
    // Not by #inPlace: each function that waits costs a small call.
    const { place, release } = this.#places.tryTake(name) ?? (await this.#places.take(name))
    try {
      const { skippedCount } = await place.writes.submit(group, { kind: 'item', folder, name: key, cells }, byteLength)
      if (skippedCount > 0)
        throw new FramesError('PRECONDITION', `failed to update item '${shortened(key)}': the condition is false`)
    } finally {
      release()
    }
  }

  /** Updates that follow one another mostly say the same. */
  #updateOf(condition: string, expression: string): KnownUpdate {
    const last = this.#lastUpdate
    if (last !== null && last.condition === condition && last.expression === expression) return last
    const { actions } = ruleOf({ ...updateRule, condition, expression })
    const cells = actions === null ? null : assignedCells(actions)
    const rule: SentRule = { ...updateRule, condition, expression: cells === null ? expression : '' }
    const ruleText = JSON.stringify([condition, cells?.map(cellName) ?? expression])
    const update = { condition, expression, rule, ruleText, cells }
    if (condition.length + expression.length <= keptUpdateLengthMax) this.#lastUpdate = update
    return update
  }

  // ---- deleting -----------------------------------------------------------------------------------------------------

  /** In the place's turn: the living rows that match die. A large delete is several commits. Returns how many they were. */
  #kill(table: KvTable, what: Pick<KillJob, 'filter' | 'folder' | 'changedUntilNs'>): Promise<number> {
    const { blocks, turn } = table
    return turn.run(async () => {
      const snapshot = blocks.acquire()
      try {
        let kills: Kill[] = []
        let rowCount = 0
        let total = 0
        const commit = async (): Promise<void> => {
          if (kills.length > 0) await blocks.commitRows(await blocks.stageRows([]), { kills })
          kills = []
          total += rowCount
          rowCount = 0
        }
        for (let start = 0; start < snapshot.blocks.length; start += killBlockCountMax) {
          for (const kill of await this.#findKills(
            table,
            snapshot.blocks.slice(start, start + killBlockCountMax),
            what,
          )) {
            kills.push(kill)
            rowCount += kill.rows.length
          }
          if (rowCount >= killRowCountMax) await commit()
        }
        await commit()
        return total
      } finally {
        snapshot.release()
      }
    })
  }

  /** Whether anything lives in a partition folder. */
  async #hasItems(table: KvTable, folder: string): Promise<boolean> {
    const snapshot = table.blocks.acquire()
    try {
      for (let start = 0; start < snapshot.blocks.length; start += killBlockCountMax) {
        const live = snapshot.blocks.slice(start, start + killBlockCountMax)
        const found = await this.#findKills(table, live, { filter: null, folder, changedUntilNs: null })
        if (found.some(({ rows }) => rows.length > 0)) return true
      }
      return false
    } finally {
      snapshot.release()
    }
  }

  async #findKills(
    { blocks }: KvTable,
    live: readonly LiveBlock[],
    what: Pick<KillJob, 'filter' | 'folder' | 'changedUntilNs'>,
  ): Promise<Kill[]> {
    const job: KillJob = {
      kind: 'kv.kill',
      partition: blocks.partition,
      tableName: blocks.name,
      access: this.#parts.store.workerAccess,
      sources: await blocks.sources(live),
      ...what,
    }
    const done = await this.#parts.pool.runToEnd<Kill[]>(job, { scratchByteLength: killScratchByteLength })
    done.release()
    return done.result
  }

  async #killExpired(place: TablePlace, table: KvTable): Promise<void> {
    const { ttlMs } = table.schema
    if (ttlMs === null) return
    const changedUntilNs = BigInt(this.#parts.nowMs() - ttlMs) * 1_000_000n
    await place.turn.run(async () => {
      // Replaced or deleted meanwhile: then nothing of it is left to be looked for.
      if ((await place.current()) === table) await this.#kill(table, { filter: null, folder: null, changedUntilNs })
    })
  }

  async #sweep(): Promise<void> {
    for (const place of this.#places.open()) {
      try {
        const table = await place.current()
        const ttlMs = table?.schema.ttlMs ?? null
        const nowMs = this.#parts.nowMs()
        if (table === null || ttlMs === null || nowMs < place.sweepAfterMs) continue
        place.sweepAfterMs = nowMs + ttlMs / expirySweepsPerTtl
        await this.#killExpired(place, table)
      } catch (error) {
        this.#parts.report(`removing expired items of table '${place.name.path}' failed`, error)
      }
    }
  }
}

const updateRule = { saveMode: 'updateItem', isTemplate: false, partitionKeys: [] } as const

function cellName({ attribute, value }: AssignedCell): string {
  return `${dtypeOfCell(value)} ${attribute}`
}

function missingFolder(name: TableName): FramesError {
  return missingTable(name).prefixed(`GetItems failed during recursive delete of '${name.path}/'.`)
}

function saveModeOf({ saveMode = '' }: WriteRequest): SaveMode {
  if (saveMode === '') return 'errorIfTableExists'
  const known = saveModes.find((mode) => mode === saveMode)
  if (known === undefined) throw new FramesError('UNKNOWN_SAVE_MODE', `no save mode named '${shortened(saveMode)}'`)
  return known
}

function textArgument(value: Value | readonly Value[] | undefined): string {
  return typeof value === 'string' ? value : ''
}

/** Rows that are not dead. */
function livingCount(blocks: readonly LiveBlock[]): number {
  return blocks.reduce((sum, { rowCount, dead }) => sum + rowCount - (dead?.count ?? 0), 0)
}
