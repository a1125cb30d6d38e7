// The jobs of kv's reads: their messages, and what a worker does with each.
import { assert } from '../../assert.js'
import type { BlockSource } from '../../blocks/reader.js'
import { BlockIo, type BlockReader } from '../../blocks/reader.js'
import { keptPagesOf } from '../../blocks/kept-pages.js'
import { receiveSources, type SentSources } from '../../blocks/sent-sources.js'
import { canFolderMatch } from '../../expression/skip.js'
import type { Expression } from '../../expression/tree.js'
import type { ColumnHead } from '../../frame/column-head.js'
import { Scratch } from '../../memory/scratch.js'
import type { JobHandler, WorkerContext } from '../../pool/context.js'
import type { Job } from '../../pool/job.js'
import type { WorkerAccess, WorkerReader } from '../../stores/store.js'
import type { AggregateInput, AggregateResult } from './aggregate.js'
import { aggregateItems } from './aggregate.js'
import { tableContents } from './contents.js'
import type { GetResult } from './get.js'
import { getItems } from './get.js'
import { compareKeys, compareTexts, foldersOf, type ItemKey, keyAfter } from './item-keys.js'
import { ItemCollector } from './item-collector.js'
import type { Conditions } from './match.js'
import { type ReadShape, readShape, shapeHeads, type TableContents } from './read-shape.js'
import type { NameRange } from './name-lookup.js'
import { type PlainSample, sampleItems } from './sample.js'
import type { ScanPosition, ScanResult } from './scan.js'
import { readersOf, scanItems } from './scan.js'
import { type KeyRange, planUnits, type ScanUnit } from './scan-units.js'
import type { KvSchema } from './schema.js'

/** What every job on a table is told. */
export interface TableJob extends Job {
  readonly partition: string
  readonly tableName: string
  readonly access: WorkerAccess
  readonly sources: readonly BlockSource[]
}

export interface PlanJob extends TableJob {
  readonly kind: 'kv.plan'
  readonly schema: Pick<KvSchema, 'fields' | 'key' | 'sortingKey'>
  readonly columns: readonly string[]
  readonly resetIndex: boolean
  /** Read for its folders only; null where folders say nothing. */
  readonly filter: Expression | null
  /** Names in each folder; null: all. */
  readonly nameRanges: readonly NameRange[] | null
  /** Names that the filter can hold for, in each folder; null: all. */
  readonly lookedUp: readonly NameRange[] | null
  /** The read goes on behind this item. */
  readonly after: ItemKey | null
}

export interface PlanResult {
  readonly shape: ReadShape
  readonly heads: readonly ColumnHead[]
  readonly units: readonly ScanUnit[]
  readonly excludedFolders: readonly string[]
}

export interface ScanJob extends TableJob {
  readonly kind: 'kv.scan'
  readonly units: readonly ScanUnit[]
  readonly position: ScanPosition | null
  readonly shape: ReadShape
  readonly conditions: Conditions
  readonly rowCountMax: number | null
  readonly messageRowCountMax: number
  readonly format: 'wire' | 'columns'
}

/** What is the same for all `get` jobs on one state of a table: said in full it takes as long as the look-up of many names. */
export interface ToldView {
  readonly sources: SentSources
  readonly schema: Pick<KvSchema, 'fields' | 'key' | 'sortingKey'>
  /** Whether the worker keeps the sources, so that later jobs need not tell them: they are places, and few bytes at most. */
  readonly isKept: boolean
}

export interface GetJob extends Job {
  readonly kind: 'kv.get'
  readonly partition: string
  readonly tableName: string
  readonly access: WorkerAccess
  /** Names this state of the table: what a worker finds out of it holds as long as the name is the same. */
  readonly view: string
  /** Null: the worker was told before, most likely. */
  readonly told: ToldView | null
  readonly columns: readonly string[]
  /** '': in all folders. */
  readonly folder: string
  readonly names: string
  readonly nameLengths: Uint32Array
  readonly callerStarts: Uint32Array
  readonly expiredNs: bigint | null
  readonly format: 'wire' | 'columns'
}

export interface AggregateJob extends Omit<TableJob, 'sources'> {
  readonly kind: 'kv.aggregate'
  readonly sources: SentSources
  readonly conditions: Conditions
  /** Whether folders tell what their items hold, so that the filter may exclude them. */
  readonly areFoldersExact: boolean
  readonly columns: readonly string[]
  readonly wanted: AggregateInput['wanted']
  /** Items of this folder only; '': all. */
  readonly folder: string
}

export interface SampleJob extends TableJob {
  readonly kind: 'kv.sample'
  readonly itemCount: number
  readonly expiredNs: bigint | null
}

// ---- what a worker does ----------------------------------------------------------------------------------------------

/** Rows of a unit: what a job can hold of overlapping runs before they are in order. */
const unitRowCountMax = 65_536
const unitRowCountMin = 1024
/** More ranges of names than this, in all folders, cost more than a scan that skips pages. */
const lookedUpRangeCountMax = 1024
const unitByteLengthMax = 2 * 1024 * 1024

export function storeReader(context: WorkerContext, access: WorkerAccess): WorkerReader | null {
  return access === null ? null : context.reader(access)
}

const plan: JobHandler<PlanJob, PlanResult> = (job, context) => {
  const scratch = new Scratch(job.scratch)
  const [cache, temporary] = scratch.split([0.6, 0.4]) as [Scratch, Scratch]
  const io = new BlockIo(context.kernels, cache, storeReader(context, job.access), job.partition, job.tableName)
  const readerOf = readersOf(io, job.sources)
  const { schema, columns, resetIndex, filter, lookedUp, after } = job
  const contents = tableContents(job.sources.length, readerOf, schema, temporary)
  const shape = readShape(schema, contents, { columns, resetIndex })
  const isFolderExcluded = (folder: string): boolean => filter !== null && !canFolderMatch(filter, folder)
  const folders = new Set<string>()
  const excluded = new Set<string>()
  for (let source = 0; source < job.sources.length; source++) {
    for (const { folder } of foldersOf(readerOf(source))) (isFolderExcluded(folder) ? excluded : folders).add(folder)
  }
  const areFew = lookedUp !== null && lookedUp.length * folders.size <= lookedUpRangeCountMax
  const nameRanges = job.nameRanges ?? (areFew ? lookedUp : null)
  const low = after === null ? null : keyAfter(after)
  const ranges: KeyRange[] =
    nameRanges === null
      ? [{ low, high: null }]
      : [...folders]
          .sort(compareTexts)
          .flatMap((folder) =>
            nameRanges.map((range) => ({ low: { folder, name: range.low }, high: { folder, name: range.high } })),
          )
  const unitRows = Math.max(unitRowCountMin, Math.floor(unitByteLengthMax / ItemCollector.rowByteLength(shape)))
  const units = planUnits(job.sources.length, readerOf, {
    ranges: ranges.flatMap((range) => clipped(range, low)),
    unitRowCountMax: Math.min(unitRowCountMax, unitRows),
    isFolderExcluded,
  })
  return { shape, heads: shapeHeads(shape), units, excludedFolders: [...excluded] }
}

/** What of a range is at `low` or behind it. */
function clipped(range: KeyRange, low: ItemKey | null): KeyRange[] {
  if (low === null || (range.low !== null && compareKeys(range.low, low) >= 0)) return [range]
  if (range.high !== null && compareKeys(range.high, low) <= 0) return []
  return [{ low, high: range.high }]
}

const scan: JobHandler<ScanJob, ScanResult> = (job, context) =>
  scanItems(context.kernels, new Scratch(job.scratch), storeReader(context, job.access), {
    ...job,
    isCancelled: () => context.isCancelled(job),
  })

interface View {
  readonly contents: TableContents
  readonly folders: readonly string[]
  readonly schema: ToldView['schema']
  /** Null where they are told with each job. */
  readonly sources: readonly BlockSource[] | null
  /** By the columns asked for. */
  readonly shapes: Map<string, ReadShape>
}

/** What this worker knows of tables as they stood lately, least recently used first. */
const views = new Map<string, View>()
const viewCountMax = 64
const shapeCountMax = 64

function newView(
  { schema, isKept }: ToldView,
  sources: readonly BlockSource[],
  readerOf: (source: number) => BlockReader,
  temporary: Scratch,
): View {
  const folders = new Set<string>()
  for (let source = 0; source < sources.length; source++)
    for (const { folder } of foldersOf(readerOf(source))) folders.add(folder)
  return {
    contents: tableContents(sources.length, readerOf, schema, temporary),
    folders: [...folders].sort(compareTexts),
    schema,
    sources: isKept ? sources : null,
    shapes: new Map(),
  }
}

function shapeOf({ contents, schema, shapes }: View, columns: readonly string[]): ReadShape {
  const key = columns.length === 0 ? '' : JSON.stringify(columns)
  let shape = shapes.get(key)
  if (shape === undefined) {
    shape = readShape(schema, contents, { columns, resetIndex: false })
    if (shapes.size < shapeCountMax) shapes.set(key, shape)
  }
  return shape
}

/** Null: this worker has to be told of the view. */
const get: JobHandler<GetJob, GetResult | null> = (job, context) => {
  const { told } = job
  const known = views.get(job.view)
  const sources = known?.sources ?? (told === null ? null : receiveSources(told.sources))
  if (sources === null) return null
  const { kernels } = context
  const [cache, output, temporary] = new Scratch(job.scratch).split([0.5, 0.2, 0.3]) as [Scratch, Scratch, Scratch]
  const store = storeReader(context, job.access)
  const io = new BlockIo(kernels, cache, store, job.partition, job.tableName, keptPagesOf(context, job))
  let view = known
  if (view === undefined) {
    assert(told !== null, 'a worker is told of views that it does not know')
    view = newView(told, sources, readersOf(io, sources), temporary)
  }
  views.delete(job.view)
  views.set(job.view, view)
  for (const oldest of views.keys()) {
    if (views.size <= viewCountMax) break
    views.delete(oldest)
  }
  return getItems(kernels, io, output, temporary, {
    ...job,
    sources,
    folders: job.folder === '' ? view.folders : [job.folder],
    contents: view.contents,
    shape: shapeOf(view, job.columns),
  })
}

const aggregate: JobHandler<AggregateJob, AggregateResult> = (job, context) => {
  const { kernels } = context
  const [cache, temporary] = new Scratch(job.scratch).split([0.4, 0.6]) as [Scratch, Scratch]
  const io = new BlockIo(kernels, cache, storeReader(context, job.access), job.partition, job.tableName)
  const sources = receiveSources(job.sources)
  const readerOf = readersOf(io, sources)
  const { filter } = job.conditions
  const isExcluded = (folder: string): boolean =>
    job.areFoldersExact && filter !== null && !canFolderMatch(filter, folder)
  const excluded = new Set<string>()
  for (let source = 0; source < sources.length; source++) {
    for (const { folder } of foldersOf(readerOf(source)))
      if (isExcluded(folder) || (job.folder !== '' && folder !== job.folder)) excluded.add(folder)
  }
  return aggregateItems(kernels, temporary, {
    ...job,
    sourceCount: sources.length,
    readerOf,
    conditions: { ...job.conditions, excludedFolders: [...excluded] },
    isCancelled: () => context.isCancelled(job),
  })
}

const sample: JobHandler<SampleJob, PlainSample[]> = (job, context) => {
  const [cache, temporary] = new Scratch(job.scratch).split([0.5, 0.5]) as [Scratch, Scratch]
  const io = new BlockIo(context.kernels, cache, storeReader(context, job.access), job.partition, job.tableName)
  return sampleItems(context.kernels, temporary, {
    ...job,
    sourceCount: job.sources.length,
    readerOf: readersOf(io, job.sources),
  })
}

export const kvReadHandlers = {
  'kv.get': get,
  'kv.aggregate': aggregate,
  'kv.sample': sample,
  'kv.plan': plan,
  'kv.scan': scan,
}
