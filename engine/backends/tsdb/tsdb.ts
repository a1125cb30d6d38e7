// The time series backend, main-thread half: which tables are open, and what each request asks of them.
import type { CancelSignal } from '../../cancellation.js'
import type { TableName } from '../../blocks/catalog.js'
import { newPartition, shownName, tablePath } from '../../blocks/catalog.js'
import type { LiveBlock } from '../../blocks/live-block.js'
import type { RuleJob } from '../../blocks/merge-rule.js'
import type { BlockSource } from '../../blocks/reader.js'
import { BlockTable } from '../../blocks/table.js'
import { FramesError } from '../../errors.js'
import type { PlainFrame } from '../../frame/plain.js'
import type {
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  ReadRequest,
  Session,
  WriteRequest,
} from '../../requests.js'
import type { Backend, BackendParts, BackendWriteSession, CallOptions, ReadMessage, ReadOptions } from '../backend.js'
import { type StepSource, Steps } from '../../steps.js'
import { parseDurationMs } from '../../time.js'
import { Rounds } from '../rounds.js'
import { Turn } from '../turn.js'
import { refuseDeleteParameters, refuseReadParameters, refuseWriteParameters } from '../refused-parameters.js'
import { executeCommand, parseCommand } from './commands.js'
import { type DeletePlan, deleteSamples, erasureOf, expired, planDelete } from './delete.js'
import { askedDigests } from './digests.js'
import { extentOf } from './directory.js'
import type { MergeJob, SelectJob } from './jobs.js'
import { LabelSets } from './label-sets.js'
import { type MergePosition, stretchAt } from './merge-stretch.js'
import { planRead, type ReadPlan, type ReadShape, type ReadSource, readSource } from './plan.js'
import { openSets } from './read.js'
import { expiryMs, isDue } from './retention.js'
import type { TsdbSchema } from './schema.js'
import { createSchema, decodeSchema, encodeSchema } from './schema.js'
import type { Selection } from './select.js'
import { GatheredWrites } from './gathered-writes.js'
import { TsdbWriteSession } from './write-session.js'

/** An open table. Closed again when it was not used for a while and others need its place. */
export interface OpenTable {
  readonly name: TableName
  readonly blocks: BlockTable
  readonly labels: LabelSets
  readonly schema: TsdbSchema
  /** Writes that look at what is stored, one at a time. */
  readonly turn: Turn
  readonly gathered: GatheredWrites
  /** Selections by filter text, for the label sets they were made of. */
  readonly selections: Map<string, Selection>
  selectionsVersion: string
  /** What scans are told, by the shape of their read; see ScanTerms. */
  readonly scanTerms: Readonly<Record<'wire' | 'columns', WeakMap<ReadShape, string>>>
  /** Calls that use it now. */
  userCount: number
}

const backendName = 'tsdb'
/** Selections of one table that are kept. */
const selectionCountMax = 64
/** Tables open at once; each holds at least two runs of shared memory. */
const openTableCountMax = 512
/** Tables that are open though nobody has used them yet. */
const openAheadCountMax = 8
/** Times a selection is made again because new metrics came in meanwhile. */
const viewRetryCountMax = 100
/** Scratch of a select job: a few bytes a label set. */
const selectScratchByteLength = 256 * 1024

export class Tsdb implements Backend {
  readonly #parts: BackendParts
  readonly #open = new Map<string, Promise<OpenTable>>()
  #lastTaken: { readonly key: string; readonly opening: Promise<OpenTable>; readonly table: OpenTable } | null = null
  /** Tables that are being closed: a partition is opened again only when nobody works on it any more. */
  readonly #closing = new Map<string, Promise<void>>()
  /** Tables that were opened because they had just been made; nobody has used them yet. */
  readonly #openedAhead = new Set<string>()
  /** Deleted tables whose rows are still being erased. */
  readonly #erasing = new Set<Promise<void>>()
  #stopErasing: () => void = () => undefined
  readonly #stopped = new Promise<'stopped'>((resolve) => {
    this.#stopErasing = () => resolve('stopped')
  })

  readonly #defaultTtlMs: number
  readonly #rounds: Rounds

  /** `ttl`: how long tables keep their samples that are made without one; a duration, '' for ever. */
  constructor(parts: BackendParts, { ttl = '' }: { readonly ttl?: string } = {}) {
    this.#parts = parts
    this.#defaultTtlMs = parseDurationMs(ttl)
    const { catalog, report } = parts
    this.#rounds = new Rounds({ catalog, backend: backendName, visit: (name) => this.#visit(name), report })
  }

  /** Erases what has expired of a table, when it is worth it. */
  async #visit(name: TableName): Promise<void> {
    const table = await this.#take(name)
    try {
      const nowMs = this.#parts.nowMs()
      const oldestMs = timeMinMs(table.blocks.blocks)
      if (isDue(table.schema, oldestMs, nowMs))
        await deleteSamples(this.#parts, table, expired(expiryMs(table.schema, nowMs)!), null)
    } finally {
      this.#giveBack(table)
    }
  }

  async create(request: CreateRequest): Promise<void> {
    const schema = createSchema(request, this.#defaultTtlMs)
    const name = nameOf(request)
    const exists = (): void => {
      if (request.ifExists === 'ignore') return
      throw new FramesError('TABLE_EXISTS', `A TSDB table already exists at path '${name.path}'`)
    }
    const { catalog, store } = this.#parts
    if ((await catalog.find(name)) !== null) return exists()
    const partition = newPartition()
    await BlockTable.create(this.#tableParts(), partition, new TextEncoder().encode(encodeSchema(schema)))
    if (await catalog.add(name, partition)) {
      this.#openAhead(name)
      return
    }
    await store.dropPartition(partition)
    exists()
  }

  async openWrite(request: WriteRequest, options: CallOptions): Promise<BackendWriteSession> {
    refuseWriteParameters(request, 'tsdb')
    const name = nameOf(request)
    const table = await this.#take(name).catch(asAdapter)
    return new TsdbWriteSession(this.#parts, {
      table,
      signal: options.signal ?? null,
      release: () => this.#giveBack(table),
    })
  }

  read(request: ReadRequest, format: 'wire' | 'columns', options: ReadOptions): AsyncGenerator<ReadMessage> {
    let table: OpenTable | null = null
    let messages: StepSource<ReadMessage> | null = null
    let isOpen = false
    return new Steps<ReadMessage>({
      next: async () => {
        if (!isOpen) {
          isOpen = true
          refuseReadParameters(request, 'tsdb')
          const source = readSource(request)
          const plan = planRead(request, this.#parts.nowMs())
          const name = nameOf({ table: source.table, session: request.session })
          table = this.#takeLast(name) ?? (await this.#take(name).catch(asAdapter))
          if (source.limit !== 0n) messages = await this.#openSets(table, { request, source, plan, format, options })
        }
        return messages === null ? null : await messages.next()
      },
      close: async () => {
        try {
          await messages?.close()
        } finally {
          if (table !== null) this.#giveBack(table)
        }
      },
    })
  }

  #openSets(
    table: OpenTable,
    {
      request,
      source,
      plan,
      format,
      options,
    }: {
      readonly request: ReadRequest
      readonly source: ReadSource
      readonly plan: ReadPlan
      readonly format: 'wire' | 'columns'
      readonly options: ReadOptions
    },
  ): Promise<StepSource<ReadMessage> | null> {
    return openSets(this.#parts, table, {
      plan,
      limit: source.limit ?? 0n,
      marker: request.marker ?? '',
      markerOf: () =>
        JSON.stringify([
          request.columns ?? [],
          request.filter ?? '',
          request.aggregators ?? '',
          request.multiIndex ?? false,
          request.query ?? '',
          plan.groupBy,
          plan.windowMs,
          plan.mode,
          plan.interpolation,
        ]),
      select: () => this.#select(table, source, plan, options.signal),
      format,
      describe: options.describe ?? false,
      borrows: options.borrows ?? false,
      signal: options.signal ?? null,
    })
  }

  async delete(request: DeleteRequest, options: CallOptions): Promise<void> {
    refuseDeleteParameters(request, 'tsdb')
    const name = nameOf(request)
    const plan = planDelete(request, this.#parts.nowMs())
    const { catalog } = this.#parts
    const partition = await catalog.find(name)
    if (partition === null) {
      if (request.ifMissing === 'ignore') return
      throw missing(name)
    }
    if (plan === null) await this.#drop(name, partition)
    else await this.#deletePart(name, plan, request.ifMissing === 'ignore', options.signal)
  }

  async #deletePart(
    name: TableName,
    plan: DeletePlan,
    ignoresMissing: boolean,
    signal: CancelSignal | undefined,
  ): Promise<void> {
    let table: OpenTable
    try {
      table = await this.#take(name)
    } catch (error) {
      // Deleted by another call since it was found.
      if (ignoresMissing && error instanceof FramesError && error.code === 'TABLE_NOT_FOUND') return
      throw error
    }
    try {
      const { filter, filterText } = plan
      const source = { query: null, filter, filterText }
      const selection = filter === null ? null : await this.#select(table, source, { groupBy: null, items: [] }, signal)
      await deleteSamples(this.#parts, table, plan, selection)
    } finally {
      this.#giveBack(table)
    }
  }

  /** The table is gone when the catalog says so; its space is given back when its last reader has ended. */
  async #drop(name: TableName, partition: string): Promise<void> {
    const key = keyOf(name)
    const { catalog, store, report } = this.#parts
    // Another delete was first: this one has nothing to do.
    if (!(await catalog.remove(name, partition))) return
    this.#openedAhead.delete(key)
    // Only now: whoever opened the table before this found the old partition, and is in the map.
    const open = this.#open.get(key)
    this.#open.delete(key)
    const erase = async (): Promise<void> => {
      const table = await open?.catch(() => undefined)
      const end = await Promise.race([table?.blocks.drop(), this.#stopped])
      table?.labels.close(missing(name))
      // Somebody still reads: the rows are erased at the next start.
      if (end !== 'stopped') await store.dropPartition(partition)
    }
    const erased: Promise<void> = erase()
      .catch((error: unknown) =>
        report(`erasing table '${shownName(name)}' failed; it is tried again at the next start`, error),
      )
      .finally(() => this.#erasing.delete(erased))
    this.#erasing.add(erased)
  }

  async execute(request: ExecuteRequest, options: CallOptions): Promise<PlainFrame | null> {
    const command = parseCommand(request)
    const table = await this.#take(nameOf(request))
    try {
      return await executeCommand(this.#parts, table, command, request, options)
    } finally {
      this.#giveBack(table)
    }
  }

  async close(): Promise<void> {
    await this.#rounds.stop()
    const tables = await Promise.allSettled(this.#open.values())
    this.#open.clear()
    for (const result of tables) if (result.status === 'fulfilled') await closeTable(result.value)
    await Promise.all(this.#closing.values())
    this.#stopErasing()
    await Promise.all(this.#erasing)
  }

  // ---- open tables --------------------------------------------------------------------------------------------------

  #tableParts() {
    const { store, memory, pool, report, kernels } = this.#parts
    const missing = (tableName: string): FramesError =>
      new FramesError('TABLE_NOT_FOUND', `No TSDB schema file found at '${tableName}': the table was deleted`)
    return { store, memory, pool, report, bytes: kernels.u8, missing }
  }

  /** The first write need not wait for a dozen reads, one after the other, while its frames come in. */
  #openAhead(name: TableName): void {
    const key = keyOf(name)
    if (this.#openedAhead.size >= openAheadCountMax || this.#open.has(key)) return
    this.#openedAhead.add(key)
    // Whoever needs the table tries again, and is told what is wrong.
    this.#begin(key, name).then(
      () => this.#closeIdle(),
      () => this.#openedAhead.delete(key),
    )
  }

  #begin(key: string, name: TableName): Promise<OpenTable> {
    let opening = this.#open.get(key)
    if (opening === undefined) {
      opening = this.#load(name)
      this.#open.set(key, opening)
      opening.catch(() => {
        if (this.#open.get(key) === opening) this.#open.delete(key)
      })
    }
    return opening
  }

  /** The open table; give it back. Throws TABLE_NOT_FOUND. */
  async #take(name: TableName): Promise<OpenTable> {
    const key = keyOf(name)
    this.#openedAhead.delete(key)
    for (;;) {
      const opening = this.#begin(key, name)
      const table = await opening
      // Closed or dropped meanwhile: look again.
      if (this.#open.get(key) !== opening) continue
      table.userCount++
      // Least recently used first, as Map order.
      if (key !== this.#lastTaken?.key) {
        this.#open.delete(key)
        this.#open.set(key, opening)
      }
      this.#lastTaken = { key, opening, table }
      this.#closeIdle()
      return table
    }
  }

  /** As #take, of the table that was taken last; null: it is another one, or not open any more. */
  #takeLast(name: TableName): OpenTable | null {
    const last = this.#lastTaken
    if (last === null || last.key !== keyOf(name) || this.#open.get(last.key) !== last.opening) return null
    last.table.userCount++
    return last.table
  }

  #giveBack(table: OpenTable): void {
    table.userCount--
  }

  /** Closes tables that nobody uses, least recently used first, until few enough are open or all are in use. */
  #closeIdle(): void {
    if (this.#open.size <= openTableCountMax) return
    for (const [key, opening] of this.#open) {
      opening.then(
        (table) => {
          if (this.#open.size <= openTableCountMax) return
          if (table.userCount > 0 || this.#open.get(key) !== opening) return
          this.#open.delete(key)
          this.#openedAhead.delete(key)
          const closing = closeTable(table)
            .catch((error: unknown) => this.#parts.report(`closing table '${shownName(table.name)}' failed`, error))
            .finally(() => this.#closing.delete(key))
          this.#closing.set(key, closing)
        },
        () => undefined,
      )
    }
  }

  async #load(name: TableName): Promise<OpenTable> {
    const { catalog, pool, kernels, memory } = this.#parts
    await this.#closing.get(keyOf(name))
    const partition = await catalog.find(name)
    if (partition === null) throw missing(name)
    const blocks = await BlockTable.open(this.#tableParts(), partition, shownName(name))
    const schema = decodeSchema(new TextDecoder().decode(blocks.schema))
    const labels = await LabelSets.load({ pool, kernels, region: memory.labelTables }, blocks).catch(
      async (error: unknown) => {
        await blocks.close()
        throw error
      },
    )
    const step = (sources: readonly BlockSource[], position: unknown, isAgain: boolean): RuleJob => {
      const { view, setSignatures, release } = isAgain ? labels.acquireFixed() : labels.acquire()
      const expiredMs = expiryMs(schema, this.#parts.nowMs())
      const from = position as MergePosition | null
      const job: MergeJob = {
        kind: 'tsdb.merge',
        partition,
        tableName: shownName(name),
        access: this.#parts.store.workerAccess,
        ...stretchAt(sources, from),
        position: from,
        labels: view,
        setSignatures,
        partitionIntervalMs: schema.partitionIntervalMs,
        asked: askedDigests(schema),
        newestWins: schema.duplicates !== 'first',
        erasure: expiredMs === null ? null : erasureOf(expired(expiredMs)),
      }
      return { job, release }
    }
    blocks.startMerging({ step })
    return {
      name,
      blocks,
      labels,
      schema,
      turn: new Turn(),
      gathered: new GatheredWrites(this.#parts, { blocks, labels, schema }),
      selections: new Map(),
      selectionsVersion: '',
      scanTerms: { wire: new WeakMap(), columns: new WeakMap() },
      userCount: 0,
    }
  }

  /** The label sets of a read; at once where they are known. */
  #select(
    table: OpenTable,
    { query, filter, filterText }: Pick<ReadSource, 'query' | 'filter' | 'filterText'>,
    { groupBy, items }: Pick<ReadPlan, 'groupBy' | 'items'>,
    signal: CancelSignal | undefined,
  ): Selection | Promise<Selection> {
    const { labels, selections } = table
    if (table.selectionsVersion !== labels.version) {
      selections.clear()
      table.selectionsVersion = labels.version
    }
    const filtersRows = query !== null
    const { metrics, text: groupsText } = groupBy === null ? noGroups : groupsOf(groupBy, items)
    // Lists, and behind their end the filter: no two selections have one text.
    const text = `${groupsText}${filtersRows ? '?' : ':'}${filterText}`
    const known = selections.get(text)
    if (known !== undefined) return known
    const asked = { filter, groupBy, metrics, filtersRows }
    return this.#selectNow(table, text, asked, signal)
  }

  async #selectNow(
    table: OpenTable,
    text: string,
    asked: Pick<SelectJob, 'filter' | 'groupBy' | 'metrics' | 'filtersRows'>,
    signal: CancelSignal | undefined,
  ): Promise<Selection> {
    const { labels, selections } = table
    for (let tries = 0; ; tries++) {
      const { version } = labels
      const handle = labels.acquire()
      try {
        const job: SelectJob = { kind: 'tsdb.select', labels: handle.view, ...asked }
        const done = await this.#parts.pool.runToEnd<Selection>(job, {
          scratchByteLength: selectScratchByteLength + 24 * handle.view.setCount,
          ...(signal === undefined ? {} : { signal }),
        })
        done.release()
        if (table.selectionsVersion === version) {
          selections.set(text, done.result)
          if (selections.size > selectionCountMax) selections.delete(selections.keys().next().value!)
        }
        return done.result
      } catch (error) {
        const isOutdated = error instanceof FramesError && error.code === 'VIEW_OUTDATED'
        if (!isOutdated || tries >= viewRetryCountMax) throw error
      } finally {
        handle.release()
      }
    }
  }
}

/** What of the groups of a read decides which label sets it selects. */
interface Groups {
  readonly metrics: readonly string[] | null
  /** Two with one text are the same. */
  readonly text: string
}

const noGroups: Groups = { metrics: null, text: '' }
/** Of shapes that are read again and again; by their labels, which are a shape's own. */
const knownGroups = new WeakMap<readonly string[], Groups>()

/** Which label sets must have the labels of a group depends on the metrics; others are selected whatever is read. */
function groupsOf(groupBy: readonly string[], items: ReadPlan['items']): Groups {
  let groups = knownGroups.get(groupBy)
  if (groups === undefined) {
    const metrics = items.some(({ metric }) => metric === null) ? null : items.map(({ metric }) => metric!)
    groups = { metrics, text: JSON.stringify([groupBy, metrics]) }
    knownGroups.set(groupBy, groups)
  }
  return groups
}

/** Reads and writes of a missing table carry upstream's prefix. */
function asAdapter(error: unknown): never {
  throw error instanceof FramesError ? error.prefixed('failed to create adapter') : error
}

async function closeTable(table: OpenTable): Promise<void> {
  await table.blocks.close()
  table.labels.close()
}

function nameOf(request: { readonly table: string; readonly session?: Session | undefined }): TableName {
  return { container: request.session?.container ?? '', backend: backendName, path: tablePath(request.table) }
}

function keyOf({ container, path }: TableName): string {
  return `${container}\0${path}`
}

/** Callers look for this text. */
function missing(name: TableName): FramesError {
  return new FramesError('TABLE_NOT_FOUND', `No TSDB schema file found at '${shownName(name)}'`)
}

/** Of the oldest sample; Infinity when there is none, 0 when it is not known. */
function timeMinMs(blocks: readonly LiveBlock[]): number {
  return blocks.reduce((oldestMs, block) => Math.min(oldestMs, extentOf(block)?.timeMinMs ?? 0), Infinity)
}
