// What a read asks for, from its request and the clock alone.
import { FramesError, shortened } from '../../errors.js'
import { parseFilter } from '../../expression/parse.js'
import type { Expression } from '../../expression/tree.js'
import type { ReadRequest } from '../../requests.js'
import { parseTimeMs, secondMs } from '../../time.js'

export type Seek =
  | { readonly kind: 'earliest' }
  | { readonly kind: 'latest' }
  | { readonly kind: 'sequence'; readonly sequence: number }
  | { readonly kind: 'time'; readonly fromMs: number }

/**
 * shard    null: all shards, in order of arrival
 * endMs    the last ms of arrival that is read; null: no bound
 * columns  names asked for; empty: all
 * limit    records; null: all
 * followMs how long to wait for new records at the end; null: not at all
 */
export interface ReadPlan {
  readonly seek: Seek
  readonly shard: string | null
  readonly endMs: number | null
  readonly columns: readonly string[]
  readonly messageLimit: number
  readonly limit: number | null
  readonly followMs: number | null
  readonly filter: Expression | null
}

/** Throws INVALID_ARGUMENT, MISSING_PARAMETER. */
export function planRead(request: ReadRequest, nowMs: number): ReadPlan {
  const seekText = request.seek ?? ''
  if (request.table === '' || seekText === '') throw missing()
  const shard = request.shardId === undefined || request.shardId === '' ? null : request.shardId
  return {
    seek: seekOf(request, seekText, nowMs),
    shard,
    endMs: request.end === undefined || request.end === '' ? null : parseTimeMs(request.end, nowMs),
    columns: request.columns ?? [],
    messageLimit: Math.min(Number(count('message_limit', request.messageLimit) ?? 0n), Number.MAX_SAFE_INTEGER),
    limit: countLimit(request),
    followMs: followMs(request),
    filter: request.filter === undefined || request.filter.trim() === '' ? null : parseFilter(request.filter),
  }
}

function missing(): FramesError {
  const what = 'missing essential parameters, need: table, seek, shard parameters'
  return new FramesError(
    'INVALID_ARGUMENT',
    `${what}: give a table and a seek ('earliest', 'latest', 'time' or 'sequence')`,
  )
}

function seekOf(request: ReadRequest, text: string, nowMs: number): Seek {
  switch (text.toLowerCase()) {
    case 'earliest':
      return { kind: 'earliest' }
    case 'latest':
    case 'late':
      return { kind: 'latest' }
    case 'seq':
    case 'sequence':
      // Sequence numbers begin at 1, so 0, which the wire cannot tell from nothing, is none.
      return { kind: 'sequence', sequence: Number(request.sequence ?? 0n) }
    case 'time': {
      if ((request.start ?? '') === '')
        throw new FramesError('INVALID_ARGUMENT', "Invalid time string - seek 'time' needs a start")
      const fromMs = parseTimeMs(request.start ?? '', nowMs)
      return { kind: 'time', fromMs: Math.floor(fromMs / secondMs) * secondMs }
    }
    default:
      throw new FramesError(
        'INVALID_ARGUMENT',
        `Stream seek type ${shortened(text)} is invalid, use 'earliest' | 'latest' | 'seq'/'sequence' | 'time'`,
      )
  }
}

function count(name: string, value: bigint | undefined): bigint | null {
  if (value === undefined || value === 0n) return null
  if (value < 0n) throw new FramesError('INVALID_ARGUMENT', `'${name}' must be a positive integer (got ${value})`)
  return value
}

function countLimit(request: ReadRequest): number | null {
  const limit = count('limit', request.limit)
  return limit === null ? null : Math.min(Number(limit), Number.MAX_SAFE_INTEGER)
}

function followMs({ followMs }: ReadRequest): number | null {
  if (followMs === undefined) return null
  if (!(followMs >= 0))
    throw new FramesError('INVALID_ARGUMENT', `'follow' must be a time of 0 or more (got ${followMs})`)
  return followMs
}

/** What a marker of this request must be given with. */
export function markerKey(request: ReadRequest): string {
  const { shardId, seek, sequence, start, end, columns, filter } = request
  return JSON.stringify([
    shardId ?? '',
    (seek ?? '').toLowerCase(),
    String(sequence ?? 0n),
    start ?? '',
    end ?? '',
    columns ?? [],
    filter ?? '',
  ])
}
