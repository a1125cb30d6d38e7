// The commands of `execute`, main-thread half.
import { FramesError, shortened } from '../../errors.js'
import { parseFilter } from '../../expression/parse.js'
import type { PlainColumn, PlainFrame } from '../../frame/plain.js'
import { listingRowCountMax } from '../../limits.js'
import type { ExecuteRequest } from '../../requests.js'
import type { BackendParts, CallOptions } from '../backend.js'
import { deleteSamples, expired } from './delete.js'
import { decodeExtent } from './directory.js'
import type { CountJob, ListJob } from './jobs.js'
import { type Listing, listingByteLength } from './label-listing.js'
import { withLabels } from './read.js'
import { expiryMs } from './retention.js'
import type { OpenTable } from './tsdb.js'

/**
 * compact, flush  nothing comes back
 * stats           one row about the table
 * series, labels, label_values
 *                 the table's labels; arguments `filter`, `limit` and `offset` (of rows), and `label` for label_values
 */
export const commands = ['compact', 'flush', 'labels', 'label_values', 'series', 'stats'] as const
export type Command = (typeof commands)[number]

const argumentsOf: Readonly<Record<Command, readonly string[]>> = {
  compact: [],
  flush: [],
  labels: ['filter', 'limit', 'offset'],
  label_values: ['label', 'filter', 'limit', 'offset'],
  series: ['filter', 'limit', 'offset'],
  stats: [],
}

/** Throws INVALID_ARGUMENT for another command, and for an argument that the command has not: a misspelt one would do nothing. */
export function parseCommand({ command: name, args }: Pick<ExecuteRequest, 'command' | 'args'>): Command {
  const command = commands.find((known) => known === name)
  if (command === undefined) {
    throw new FramesError(
      'INVALID_ARGUMENT',
      `TSDB backend doesn't support the 'execute' command '${shortened(name)}'; it has ${commands.join(', ')}`,
    )
  }
  const names = argumentsOf[command]
  const unknown = Object.keys(args ?? {}).find((argument) => !names.includes(argument))
  if (unknown === undefined) return command
  const has = names.length === 0 ? 'none' : names.join(', ')
  throw new FramesError('INVALID_ARGUMENT', `'${command}' has no argument '${shortened(unknown)}'; it has ${has}`)
}

/** Throws INVALID_ARGUMENT, CANCELLED, and what reading throws. */
export async function executeCommand(
  parts: BackendParts,
  table: OpenTable,
  command: Command,
  request: ExecuteRequest,
  options: CallOptions,
): Promise<PlainFrame | null> {
  switch (command) {
    case 'flush':
      await table.blocks.flush()
      return null
    case 'compact': {
      const expiredMs = expiryMs(table.schema, parts.nowMs())
      if (expiredMs !== null) await deleteSamples(parts, table, expired(expiredMs), null)
      await table.blocks.compact()
      await table.blocks.erased()
      await parts.shrinkStore()
      return null
    }
    case 'stats':
      return statistics(parts, table, options)
    case 'series':
    case 'labels':
      return list(parts, table, { kind: command }, request, options)
    case 'label_values': {
      const label = request.args?.['label']
      if (typeof label !== 'string' || label === '')
        throw new FramesError('INVALID_ARGUMENT', "label_values needs the argument 'label', a label's name")
      return list(parts, table, { kind: 'labelValues', label }, request, options)
    }
  }
}

async function list(
  parts: BackendParts,
  table: OpenTable,
  listing: Listing,
  { args, expression }: ExecuteRequest,
  { signal }: CallOptions,
): Promise<PlainFrame> {
  const filterText = args?.['filter'] ?? expression ?? ''
  if (typeof filterText !== 'string')
    throw new FramesError('INVALID_ARGUMENT', "the argument 'filter' must be a string")
  const filter = filterText.trim() === '' ? null : parseFilter(filterText)
  const limit = rowCountOf(args?.['limit'], 'limit') ?? listingRowCountMax
  const offset = rowCountOf(args?.['offset'], 'offset') ?? 0
  const done = await withLabels(table, (labels) => {
    const job: ListJob = {
      kind: 'tsdb.list',
      labels,
      listing,
      filter,
      offset,
      limit: Math.min(limit, listingRowCountMax),
    }
    return parts.pool.runToEnd<PlainFrame>(job, {
      scratchByteLength: listingByteLength(listing.kind === 'series' ? 0 : labels.setCount),
      ...(signal === undefined ? {} : { signal }),
    })
  })
  done.release()
  return done.result
}

function rowCountOf(value: unknown, name: string): number | null {
  if (value === undefined) return null
  const count = typeof value === 'bigint' || typeof value === 'number' ? Number(value) : Number.NaN
  if (!Number.isSafeInteger(count) || count < 0)
    throw new FramesError('INVALID_ARGUMENT', `the argument '${name}' must be a number of rows`)
  return count
}

const countScratchByteLength = 4 * 1024 * 1024

async function statistics(parts: BackendParts, table: OpenTable, { signal }: CallOptions): Promise<PlainFrame> {
  const { blocks, labels, schema } = table
  const snapshot = blocks.acquire()
  try {
    let rowCount = 0
    let byteLength = 0
    let timeMinMs = Infinity
    let timeMaxMs = -Infinity
    for (const block of snapshot.blocks) {
      rowCount += block.rowCount
      byteLength += block.byteLength
      if (block.extent === null) continue
      const extent = decodeExtent(block.extent)
      timeMinMs = Math.min(timeMinMs, extent.timeMinMs)
      timeMaxMs = Math.max(timeMaxMs, extent.timeMaxMs)
    }
    const sources = await blocks.sources(snapshot.blocks)
    const counted = await withLabels(table, (view) => {
      const job: CountJob = {
        kind: 'tsdb.count',
        partition: blocks.partition,
        tableName: blocks.name,
        access: parts.store.workerAccess,
        sources,
        labels: view,
      }
      return parts.pool.runToEnd<{ sampleCount: number; seriesCount: number }>(job, {
        scratchByteLength: countScratchByteLength,
        ...(signal === undefined ? {} : { signal }),
      })
    })
    counted.release()
    const { sampleCount, seriesCount } = counted.result
    const isEmpty = timeMinMs > timeMaxMs
    const int = (name: string, value: number): PlainColumn => ({ name, dtype: 'int64', values: [BigInt(value)] })
    const time = (name: string, timeMs: number): PlainColumn => {
      return { name, dtype: 'time', values: [isEmpty ? null : BigInt(timeMs) * 1_000_000n] }
    }
    return {
      columns: [
        int('label_sets', labels.setCount),
        int('metrics', labels.metrics().size),
        int('series', seriesCount),
        int('rows', rowCount),
        // Of duplicates that are not merged yet, each counts.
        int('samples', sampleCount),
        int('blocks', snapshot.blocks.length),
        int('bytes', byteLength),
        { name: 'bytes_per_sample', dtype: 'float64', values: [sampleCount === 0 ? 0 : byteLength / sampleCount] },
        int('committed_bytes', blocks.committedByteLength),
        int('merged_bytes', blocks.mergedByteLength),
        time('first_time', timeMinMs),
        time('last_time', timeMaxMs),
        { name: 'rate', dtype: 'string', values: [schema.rate] },
      ],
    }
  } finally {
    snapshot.release()
  }
}
