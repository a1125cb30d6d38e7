// The commands that read a kv table: items by name, counts and aggregates, statistics, and the schema that items show.
import type { LiveBlock } from '../../blocks/live-block.js'
import { sendSources } from '../../blocks/sent-sources.js'
import { takeFrame } from '../../codec/columns.js'
import { FramesError, shortened } from '../../errors.js'
import { filterOf } from '../../expression/cache.js'
import type { Value } from '../../frame/dtype.js'
import type { PlainColumn, PlainFrame } from '../../frame/plain.js'
import { floatText } from '../../frame/value-text.js'
import { KiB, MiB } from '../../limits.js'
import type { ExecuteRequest } from '../../requests.js'
import { formatTimeNs } from '../../time.js'
import type { BackendParts, ExecuteAnswer, ExecuteOptions } from '../backend.js'
import { addTotals, type AggregateResult, type ColumnTotals, noTotals } from './aggregate.js'
import type { GetResult } from './get.js'
import { inferSchema } from './infer.js'
import { type NamePlaces, placesOf, workerOf } from './name-places.js'
import { expiryNs, missingSchema, tableSources } from './read.js'
import type { AggregateJob, GetJob, SampleJob, ToldView } from './read-jobs.js'
import type { PlainSample } from './sample.js'
import { encodeSchema, type KvSchema } from './schema.js'
import type { KvTable } from './table.js'

/** In lower case, as executeRead takes them. */
export const readCommands: readonly string[] = [
  'get',
  'count',
  'aggregate',
  'stats',
  'infer',
  'infer_schema',
  'inferschema',
]

const getScratchByteLength = 8 * MiB
const aggregateScratchByteLength = 8 * MiB
/** Names of one job: what waits behind it is the next one's. */
const namesOfJobMax = 4096
/** As few names as these are not shared out among the workers: what a job costs beside its names is as much. */
const namesOfJobMin = 32
/** Of what a worker keeps: in a table that takes more of it, each keeps its own part. */
const keptShareMax = 0.75
/** Bitmaps of dead rows that travel with a view and stay in the heap of the worker that keeps it. */
const keptDeadByteLengthMax = 256 * KiB
/** So many jobs tell of a new state of the table, in full; a worker that none of them went to says so. */
const toldJobsPerWorker = 4
/** Rows of a part of an aggregate: a job of some ms. */
const partRowCountMax = 4 * 1024 * 1024
const partRowCountMin = 131_072

/** Arguments of a command: over the wire single values, embedded also lists. */
export type CommandArguments = Readonly<Record<string, Value | readonly Value[]>>

/**
 * Runs `command`, one of readCommands. `folder`: the partition folder that the table's path named, or ''. inferItemCount: items
 * that `infer` looks at, at most.
 *
 *   get        key (one name) or keys (list, or its JSON text), columns. The items there are, in the order of the names
 *   count      filter. One row: count
 *   aggregate  aggregators ('count,avg'), columns, filter. One row: count, avg(column) …
 *   stats      one row about the table
 *   infer      key. Replaces the schema; no frame
 */
export function executeRead(
  parts: BackendParts,
  table: KvTable,
  asked: { readonly folder: string; readonly command: string; readonly inferItemCount: number },
  request: ExecuteRequest,
  options: ExecuteOptions,
): ExecuteAnswer | Promise<ExecuteAnswer> {
  const { folder, command, inferItemCount } = asked
  const args: CommandArguments = request.args ?? {}
  if (command === 'stats') return tableStatistics(table)
  if (command.startsWith('infer'))
    return infer(parts, table, { key: textArgument(args, 'key'), itemCount: inferItemCount }, options)
  if (table.schema.key === '') throw missingSchema(table.name, request.table)
  switch (command) {
    case 'get':
      return queueOf(parts, table).get(folder, namesOf(args), listArgument(args, 'columns'), options)
    case 'count':
      return aggregate(parts, table, folder, { aggregators: ['count'], columns: [], args, options })
    default: {
      const columns = listArgument(args, 'columns')
      const aggregators = listArgument(args, 'aggregators')
      return aggregate(parts, table, folder, { aggregators, columns, args, options })
    }
  }
}

// ---- arguments ------------------------------------------------------------------------------------------------------

function textArgument(args: CommandArguments, name: string): string {
  const value = args[name]
  if (value === undefined) return ''
  if (typeof value === 'string') return value
  throw invalid(`argument '${name}' is no text`)
}

/** A list of texts: an array, JSON text of one, or names with commas between them. */
function listArgument(args: CommandArguments, name: string): readonly string[] {
  const value = args[name]
  if (value === undefined || value === '') return []
  const isList = Array.isArray(value)
  if (!isList && typeof value !== 'string') throw invalid(`argument '${name}' is no list of texts`)
  if (isList) {
    return (value as readonly Value[]).map((item) => {
      if (typeof item !== 'string') throw invalid(`argument '${name}' is no list of texts`)
      return item
    })
  }
  const text = value as string
  if (!text.startsWith('[')) return text.split(',').map((part) => part.trim())
  return parseList(text, name).map(String)
}

/** A list of texts without escapes: what programs send who ask for many items by name. */
const plainTexts = /^\["[^"\\\p{Cc}]*"(?:,"[^"\\\p{Cc}]*")*\]$/u

const jsonTextOrNumber = /"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/g

function parseList(text: string, name: string): readonly unknown[] {
  // Not by JSON.parse, which looks each text up in a table of all texts that V8 knows.
  if (plainTexts.test(text)) return text.slice(2, -2).split('","')
  let list: unknown
  try {
    // Integers keep all their digits: a key above 2^53 is one, too.
    const quoted = text.replace(jsonTextOrNumber, (token) => (/^-?[0-9]+$/.test(token) ? `"${token}"` : token))
    list = JSON.parse(quoted)
  } catch {
    throw invalid(`argument '${name}' is no JSON list`)
  }
  if (!Array.isArray(list)) throw invalid(`argument '${name}' is no JSON list`)
  return list
}

/** The names of the items that `get` wants. */
function namesOf(args: CommandArguments): readonly string[] {
  const { key, keys } = args
  if (key !== undefined && !Array.isArray(key)) return [nameOf(key as Value)]
  const list = keys ?? key
  if (list === undefined) throw invalid("the command 'get' needs an argument 'key' or 'keys'")
  if (Array.isArray(list)) return (list as readonly Value[]).map(nameOf)
  if (typeof list !== 'string') return [nameOf(list as Value)]
  if (!list.trimStart().startsWith('[')) return [list]
  return parseNames(list)
}

/** JSON text of a list: texts as they are, numbers and booleans as item names write them. */
function parseNames(text: string): readonly string[] {
  return parseList(text, 'keys').map((item) => {
    if (typeof item === 'string' || typeof item === 'number' || typeof item === 'boolean') return nameOf(item)
    throw invalid("argument 'keys' has an item that is no key")
  })
}

/** The text of a key in item names. */
function nameOf(value: Value): string {
  if (typeof value === 'string') return value
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (typeof value === 'bigint') return value.toString()
  if (typeof value === 'object') return formatTimeNs(value.timeNs)
  const text = floatText(value)
  return /^-?[0-9]+$/.test(text) ? `${text}.0` : text
}

function invalid(what: string): FramesError {
  return new FramesError('INVALID_ARGUMENT', shortened(what))
}

// ---- get ------------------------------------------------------------------------------------------------------------

interface Waiting {
  readonly names: readonly string[]
  /** The worker that keeps the pages of the one name; null: it may be any. */
  readonly home: number | null
  resolve(answer: ExecuteAnswer): void
  reject(error: unknown): void
}

/** Callers that may share a job: they look into the same folder and want the same columns in the same form. */
interface WaitingGroup {
  readonly folder: string
  readonly columns: readonly string[]
  readonly format: 'wire' | 'columns'
  waiting: Waiting[]
  /** The workers, by number, that were given a job which has not ended. */
  readonly running: Set<number>
}

const queues = new WeakMap<object, GetQueue>()

function queueOf(parts: BackendParts, table: KvTable): GetQueue {
  let queue = queues.get(table.blocks)
  if (queue === undefined) {
    queue = new GetQueue(parts, table)
    queues.set(table.blocks, queue)
  }
  return queue
}

/** The `get` calls on one table: while a job runs, those that come wait and are answered by the next one together. */
class GetQueue {
  readonly #groups = new Map<string, WaitingGroup>()
  #places: NamePlaces | null = null
  #placesVersion = -1
  /** The state of the table that workers were told of last, and by how many jobs. */
  #told = { view: '', jobCount: 0 }

  constructor(
    readonly parts: BackendParts,
    readonly table: KvTable,
  ) {}

  get(
    folder: string,
    names: readonly string[],
    columns: readonly string[],
    { format = 'columns', signal }: ExecuteOptions,
  ): Promise<ExecuteAnswer> {
    if (names.length > namesOfJobMax)
      throw invalid(`'get' takes at most ${namesOfJobMax} keys at once, not ${names.length}`)
    const key = columns.length === 0 && folder === '' ? format : JSON.stringify([format, folder, columns])
    let group = this.#groups.get(key)
    if (group === undefined) {
      group = { folder, columns, format, waiting: [], running: new Set() }
      this.#groups.set(key, group)
    }
    const waitingGroup = group
    return new Promise<ExecuteAnswer>((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(new FramesError('CANCELLED', 'the request was cancelled')), {
        once: true,
      })
      waitingGroup.waiting.push({ names, home: this.#homeOf(names), resolve, reject })
      if (waitingGroup.waiting.length > 1) return
      this.#startSoon(key, waitingGroup)
    })
  }

  /** Only of single names: those of a longer list would have to be shared out and put together again. */
  #homeOf(names: readonly string[]): number | null {
    if (names.length !== 1) return null
    const { parts, table } = this
    const { workerCount } = parts.pool.statistics()
    const { version } = table.blocks
    if (this.#placesVersion !== version) {
      this.#placesVersion = version
      const keptByteLength = (parts.memory.decodedPages.slice.byteLength / Math.max(1, workerCount)) * keptShareMax
      this.#places = placesOf(table.blocks.blocks, { workerCount, keptByteLength }, this.#places)
    }
    return this.#places === null ? null : workerOf(this.#places, names[0]!)
  }

  #start(key: string, group: WaitingGroup): void {
    const { workerCount } = this.parts.pool.statistics()
    for (let worker = 0; worker < Math.max(1, workerCount) && group.waiting.length > 0; worker++) {
      // A worker may have the job of another, which was busy then. Both wait for that to end, or they would go on like this.
      const isOwnBusy = this.#places !== null && group.running.size > 0 && !this.parts.pool.isIdle(worker)
      if (group.running.has(worker) || isOwnBusy) continue
      const callers = takeCallers(group, worker, Math.max(1, workerCount - group.running.size))
      if (callers.length === 0) continue
      group.running.add(worker)
      this.#run(group, callers, worker)
        .catch((error: unknown) => {
          for (const caller of callers) caller.reject(error)
        })
        .finally(() => {
          group.running.delete(worker)
          this.#startSoon(key, group)
        })
    }
  }

  /** When all that promises have set going is done: those who call in the same turn, or again at once, go together. */
  #startSoon(key: string, group: WaitingGroup): void {
    process.nextTick(() => {
      if (group.waiting.length > 0) this.#start(key, group)
      else if (group.running.size === 0 && this.#groups.get(key) === group) this.#groups.delete(key)
    })
  }

  async #run({ folder, columns, format }: WaitingGroup, callers: readonly Waiting[], worker: number): Promise<void> {
    const { parts, table } = this
    const { schema } = table
    const names: string[] = []
    const callerStarts = new Uint32Array(callers.length + 1)
    callers.forEach((caller, i) => {
      for (const name of caller.names) names.push(name)
      callerStarts[i + 1] = names.length
    })
    const { partition, name: tableName } = table.blocks
    const snapshot = table.blocks.acquire()
    try {
      const view = `${partition} ${snapshot.version} ${schema.key}`
      if (this.#told.view !== view) this.#told = { view, jobCount: 0 }
      const asked = {
        kind: 'kv.get',
        partition,
        tableName,
        access: parts.store.workerAccess,
        view,
        columns,
        folder,
        ...joinedNames(names),
        callerStarts,
        expiredNs: expiryNs(schema.ttlMs, parts.nowMs()),
        format,
      } as const
      for (let isAnswered = false; !isAnswered; ) {
        const job: GetJob = { ...asked, told: await this.#tell(view, snapshot.blocks, schema) }
        const options = { worker, scratchByteLength: getScratchByteLength }
        const done = await parts.pool.runToEnd<GetResult | null>(job, options)
        try {
          isAnswered = done.result !== null
          if (done.result !== null) answerCallers(parts, callers, done.result)
          else if (this.#told.view === view) this.#told.jobCount = 0
        } finally {
          done.release()
        }
      }
    } finally {
      snapshot.release()
    }
  }

  /** What a job tells of the table; null when enough jobs did that every worker should know it. */
  async #tell(view: string, blocks: readonly LiveBlock[], schema: KvSchema): Promise<ToldView | null> {
    const { parts, table } = this
    const told = this.#told.view === view ? this.#told : { view, jobCount: 0 }
    if (told.jobCount >= toldJobsPerWorker * parts.pool.statistics().workerCount) return null
    const { fields, key, sortingKey } = schema
    const sources = await table.blocks.sources(blocks)
    const isKept =
      sources.every(({ values }) => values === null) &&
      sources.reduce((sum, { dead }) => sum + (dead instanceof Uint8Array ? dead.length : 0), 0) <=
        keptDeadByteLengthMax
    if (isKept) told.jobCount++
    return { sources: sendSources(sources), schema: { fields, key, sortingKey }, isKept }
  }
}

/** Those of a group that a worker is given now: all that are its own, or its share of those that are anybody's. */
function takeCallers(group: WaitingGroup, worker: number, freeWorkerCount: number): Waiting[] {
  const { waiting } = group
  const isOwn = ({ home }: Waiting): boolean => home === null || home === worker
  // All in one job would keep one worker busy, and all callers would come again at the same time.
  const anyNameCount = waiting.reduce((sum, { names, home }) => (home === null ? sum + names.length : sum), 0)
  const share = anyNameCount === 0 ? namesOfJobMax : Math.ceil(anyNameCount / freeWorkerCount)
  const nameCountMax = Math.min(namesOfJobMax, Math.max(namesOfJobMin, share))
  const callers: Waiting[] = []
  const others: Waiting[] = []
  let nameCount = 0
  waiting.forEach((caller) => {
    const isTaken = isOwn(caller) && (callers.length === 0 || nameCount + caller.names.length <= nameCountMax)
    if (isTaken) nameCount += caller.names.length
    ;(isTaken ? callers : others).push(caller)
  })
  group.waiting = others
  return callers
}

/** The names in one text: a message carries that, and a list of lengths, faster than many texts. */
function joinedNames(names: readonly string[]): Pick<GetJob, 'names' | 'nameLengths'> {
  const joined = names.join('')
  // Half a surrogate pair is no text of an item's name, and would join what stands beside it.
  const isPlain = !/[\ud800-\udfff]/.test(joined)
  const whole = isPlain ? names : names.map((name) => Buffer.from(name).toString())
  return { names: isPlain ? joined : whole.join(''), nameLengths: Uint32Array.from(whole, (name) => name.length) }
}

function answerCallers(
  { kernels }: BackendParts,
  callers: readonly Waiting[],
  { rowCounts, frame, messages }: GetResult,
): void {
  const all = frame === null ? null : takeFrame(kernels, frame)
  let start = 0
  callers.forEach((caller, i) => {
    const rowCount = rowCounts[i]!
    const message = messages[i] ?? null
    if (rowCount === 0) caller.resolve(noItems)
    else if (message !== null)
      caller.resolve(kernels.u8.slice(message.byteOffset, message.byteOffset + message.byteLength))
    else caller.resolve(rowCount === all!.length ? all : all!.slice(start, start + rowCount))
    start += rowCount
  })
}

/** No frame without rows is ever sent. */
const noItems: ExecuteAnswer = null

// ---- count and aggregate --------------------------------------------------------------------------------------------

const aggregatorNames = ['count', 'sum', 'min', 'max', 'avg'] as const
type AggregatorName = (typeof aggregatorNames)[number]

interface AggregateRequest {
  readonly aggregators: readonly string[]
  readonly columns: readonly string[]
  readonly args: CommandArguments
  readonly options: ExecuteOptions
}

async function aggregate(
  parts: BackendParts,
  table: KvTable,
  folder: string,
  { aggregators, columns, args, options }: AggregateRequest,
): Promise<PlainFrame> {
  const names = aggregators.map((name) => {
    const known = aggregatorNames.find((candidate) => candidate === name.trim().toLowerCase())
    if (known === undefined)
      throw invalid(`aggregator '${shortened(name)}' is not one of ${aggregatorNames.join(', ')}`)
    return known
  })
  if (names.length === 0)
    throw invalid("the command 'aggregate' needs an argument 'aggregators', for example 'count,avg'")
  if (columns.length === 0 && names.some((name) => name !== 'count'))
    throw invalid(`aggregator '${names.find((name) => name !== 'count')}' needs an argument 'columns'`)
  const { schema } = table
  const filterText = textArgument(args, 'filter')
  const filter = filterText === '' ? null : filterOf(filterText)
  const expiredNs = expiryNs(schema.ttlMs, parts.nowMs())
  const { common, blocks, release } = await tableSources(parts, table)
  try {
    const isPlain = filter === null && expiredNs === null && folder === ''
    if (isPlain && columns.length === 0) return countFrame(livingCount(blocks))
    const wanted = {
      sum: names.includes('sum') || names.includes('avg'),
      extremes: names.includes('min') || names.includes('max'),
    }
    const results = await Promise.all(
      shareOut(blocks, parts.pool.statistics().workerCount).map(async ({ start, end }) => {
        const job: AggregateJob = {
          ...common,
          sources: sendSources(common.sources.slice(start, end)),
          kind: 'kv.aggregate',
          conditions: { filter, expiredNs, segments: null, excludedFolders: [] },
          areFoldersExact: !schema.foldersDrifted,
          columns,
          wanted,
          folder,
        }
        const done = await parts.pool.runToEnd<AggregateResult>(job, {
          scratchByteLength: aggregateScratchByteLength,
          ...(options.signal === undefined ? {} : { signal: options.signal }),
        })
        done.release()
        return done.result
      }),
    )
    const itemCount = results.reduce((sum, result) => sum + result.itemCount, 0)
    const isField = new Set(schema.fields.map(({ name }) => name))
    const totals = columns.map((name, i) => {
      const total = results.reduce((sum, result) => addTotals(sum, result.totals[i]!), noTotals)
      if (!total.isKnown && !isField.has(name))
        throw new FramesError('COLUMN_NOT_FOUND', `column '${shortened(name)}' doesn't exist`)
      return total
    })
    if (columns.length === 0) return countFrame(itemCount)
    return {
      columns: names.flatMap((aggregator) =>
        columns.map((column, i) => aggregateColumn(aggregator, column, totals[i]!)),
      ),
    }
  } finally {
    release()
  }
}

function countFrame(count: number): PlainFrame {
  return { columns: [{ name: 'count', dtype: 'int64', values: [BigInt(count)] }] }
}

function aggregateColumn(aggregator: AggregatorName, column: string, totals: ColumnTotals): PlainColumn {
  const name = `${aggregator}(${column})`
  if (aggregator === 'count') return { name, dtype: 'int64', values: [BigInt(totals.valueCount)] }
  const { numberCount, sum, min, max } = totals
  const none = Number.NaN
  const value = { sum: numberCount === 0 ? none : sum, min, max, avg: numberCount === 0 ? none : sum / numberCount }
  return { name, dtype: 'float64', values: [value[aggregator]] }
}

/** Stretches of blocks with about as many rows each: as many for each worker, so that none has to wait long for another. */
function shareOut(blocks: readonly LiveBlock[], workerCount: number): { start: number; end: number }[] {
  const total = blocks.reduce((sum, { rowCount }) => sum + rowCount, 0)
  const perPart = Math.max(partRowCountMin, Math.min(partRowCountMax, Math.ceil(total / (2 * workerCount))))
  const wantedCount = Math.ceil(total / perPart)
  const partCount = wantedCount <= workerCount ? wantedCount : Math.ceil(wantedCount / workerCount) * workerCount
  const shares: { start: number; end: number }[] = []
  let start = 0
  let rowCount = 0
  blocks.forEach((block, i) => {
    rowCount += block.rowCount
    // Where the rows so far are nearest to what this part and those before it should have.
    const wanted = ((shares.length + 1) * total) / partCount
    const next = blocks[i + 1]?.rowCount ?? 0
    if (i + 1 < blocks.length && rowCount + next / 2 < wanted) return
    shares.push({ start, end: i + 1 })
    start = i + 1
  })
  return shares
}

function livingCount(blocks: readonly LiveBlock[]): number {
  return blocks.reduce((sum, { rowCount, dead }) => sum + rowCount - (dead?.count ?? 0), 0)
}

// ---- stats and infer ------------------------------------------------------------------------------------------------

function tableStatistics({ blocks, schema }: KvTable): PlainFrame {
  let rowCount = 0
  let byteLength = 0
  for (const block of blocks.blocks) {
    rowCount += block.rowCount
    byteLength += block.byteLength
  }
  const items = livingCount(blocks.blocks)
  const int = (name: string, value: number): PlainColumn => ({ name, dtype: 'int64', values: [BigInt(value)] })
  return {
    columns: [
      int('items', items),
      int('dead_rows', rowCount - items),
      int('blocks', blocks.blocks.length),
      int('bytes', byteLength),
      int('committed_bytes', blocks.committedByteLength),
      int('merged_bytes', blocks.mergedByteLength),
      int('fields', schema.fields.length),
      { name: 'key', dtype: 'string', values: [schema.key] },
      { name: 'sorting_key', dtype: 'string', values: [schema.sortingKey] },
    ],
  }
}

/** Replaces the schema by what the first items show, in the table's turn. */
function infer(
  parts: BackendParts,
  table: KvTable,
  { key, itemCount }: { readonly key: string; readonly itemCount: number },
  options: ExecuteOptions,
): Promise<null> {
  return table.turn.run(async () => {
    const { schema: before, blocks } = table
    const { common, release } = await tableSources(parts, table)
    let samples: readonly PlainSample[]
    try {
      const job: SampleJob = {
        ...common,
        kind: 'kv.sample',
        itemCount,
        expiredNs: expiryNs(before.ttlMs, parts.nowMs()),
      }
      const done = await parts.pool.runToEnd<PlainSample[]>(job, {
        scratchByteLength: aggregateScratchByteLength,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      })
      done.release()
      samples = done.result
    } finally {
      release()
    }
    const items = samples.map(({ name, attributes }) => ({ name, attributes: new Map(attributes) }))
    const schema: KvSchema = { ...before, ...inferSchema(items, key) }
    await blocks.commitRows(await blocks.stageRows([]), { schema: encodeSchema(schema) })
    return null
  })
}
