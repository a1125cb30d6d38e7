// What a tsdb table is created with: its rate and what follows from it, pre-aggregates, policies. Names of metrics and
// labels, which every write must keep to, are here too.
import { FramesError, shortened } from '../../errors.js'
import { nameByteLengthMax } from '../../limits.js'
import type { CreateRequest } from '../../requests.js'
import { dayMs, hourMs, numberParseDetail, parseDurationMs, parseInt64 } from '../../time.js'

export type RawAggregate = 'count' | 'sum' | 'sqr' | 'max' | 'min' | 'last'

/** Which of two samples of one series and time stays: the newest, the oldest, or neither (the write is refused). */
export type DuplicatePolicy = 'last' | 'first' | 'error'

/**
 * rate                      as the caller wrote it, for example `1/s`
 * chunkHours                from the rate; shown by `stats` only
 * partitionIntervalMs       from the rate; partitions are epoch-aligned and clamp the bounds of a query
 * aggregates                raw aggregates asked for, in a fixed order; empty for none
 * aggregationGranularityMs  length of a pre-aggregation interval
 */
export interface TsdbSchema {
  readonly rate: string
  readonly chunkHours: number
  readonly partitionIntervalMs: number
  readonly aggregates: readonly RawAggregate[]
  readonly aggregationGranularityMs: number
  readonly duplicates: DuplicatePolicy
  /** Samples may be erased when they are older; 0: never. */
  readonly ttlMs: number
}

const sampleByteLength = 8
const chunkSampleCountMax = 4000
const partitionByteLengthMax = 1_700_000
const granularityCountMax = 130_000

/** Checks a create request. Throws INVALID_ARGUMENT with the texts that callers know. */
export function createSchema(request: CreateRequest, defaultTtlMs = 0): TsdbSchema {
  const rate = request.rate ?? ''
  if (rate === '') {
    throw invalid("Must specify 'rate' attribute to specify maximum sample rate, e.g. '1/m'")
  }
  const { chunkHours, partitionHours } = intervalsOfRate(rate)
  const partitionIntervalMs = partitionHours * hourMs
  const aggregates = parseAggregates(request.aggregates ?? '')
  const aggregationGranularityMs = parseGranularity(request.aggregationGranularity ?? '')
  if (aggregates.length > 0 && Math.floor(partitionIntervalMs / aggregationGranularityMs) > granularityCountMax) {
    throw invalidSchema(
      "the size of the aggregation-granularity interval isn't sufficiently larger than the specified ingestion rate. " +
        'Try increasing the granularity to get the expected pre-aggregation performance impact',
    )
  }
  const duplicates = duplicatePolicy(request)
  const ttlMs = timeToLive(request) ?? defaultTtlMs
  return { rate, chunkHours, partitionIntervalMs, aggregates, aggregationGranularityMs, duplicates, ttlMs }
}

function intervalsOfRate(rate: string): { chunkHours: number; partitionHours: number } {
  const samplesPerHour = parseRate(rate)
  if (samplesPerHour > BigInt(chunkSampleCountMax)) {
    throw invalidSchema(
      `Failed to calculate the chunk interval.: the samples ingestion rate (${samplesPerHour}/h) is too high`,
    )
  }
  const chunkHours = Math.floor(chunkSampleCountMax / Number(samplesPerHour))
  const chunkByteLength = chunkHours * Number(samplesPerHour) * sampleByteLength
  // Chunks of a partition: the largest multiple of 24 that stays below the limit.
  const chunkCount = Math.floor((Math.ceil(partitionByteLengthMax / chunkByteLength) - 1) / 24) * 24
  return { chunkHours, partitionHours: chunkCount * chunkHours }
}

const perHour: Readonly<Record<string, bigint>> = { s: 3600n, m: 60n, h: 1n }

const rateFormat = 'Invalid samples ingestion rate. The rate must be of the format "[0-9]+/[smh]". For example, "12/m"'

/** Samples per hour of a rate such as `12/m`; at least 1. */
function parseRate(rate: string): bigint {
  const prefix = `Invalid samples ingestion rate (${shortened(rate)}).`
  const format = `${prefix}: ${rateFormat}`
  if (rate.length < 3 || rate.at(-2) !== '/') throw invalidSchema(format)
  const countText = rate.slice(0, -2)
  const count = parseInt64(countText)
  if (typeof count === 'string') throw invalidSchema(`${format}: ${numberParseDetail(countText, count)}`)
  if (count <= 0n) {
    throw invalidSchema(
      `${prefix}: invalid samples ingestion rate (${count}). The rate cannot have a negative number of samples`,
    )
  }
  const factor = perHour[rate.slice(-1)]
  if (factor === undefined) throw invalidSchema(format)
  return count * factor
}

/** In the order in which a schema lists them. */
const rawAggregates: readonly RawAggregate[] = ['count', 'sum', 'sqr', 'max', 'min', 'last']

const neededRawAggregates: ReadonlyMap<string, readonly RawAggregate[]> = new Map<string, readonly RawAggregate[]>([
  ['count', ['count']],
  ['sum', ['sum']],
  ['sqr', ['sqr']],
  ['min', ['min']],
  ['max', ['max']],
  ['last', ['last']],
  ['avg', ['count', 'sum']],
  ['rate', ['last']],
  ['stddev', ['count', 'sum', 'sqr']],
  ['stdvar', ['count', 'sum', 'sqr']],
  ['*', rawAggregates],
])

function parseAggregates(list: string): readonly RawAggregate[] {
  const needed = new Set<RawAggregate>()
  for (const entry of list.split(',')) {
    const name = entry.replaceAll(' ', '')
    if (name === '') continue
    const raw = neededRawAggregates.get(name)
    if (raw === undefined) {
      throw invalidSchema(
        `Failed to parse aggregates list '${shortened(list)}'.: ` + `invalid aggragate type: ${shortened(name)}`,
      )
    }
    needed.add('count')
    for (const aggregate of raw) needed.add(aggregate)
  }
  return rawAggregates.filter((aggregate) => needed.has(aggregate))
}

function parseGranularity(text: string): number {
  if (text === '') return hourMs
  let granularityMs: number
  try {
    granularityMs = parseDurationMs(text)
  } catch (error) {
    if (!(error instanceof FramesError)) throw error
    const where = `Failed to parse aggregation granularity '${shortened(text)}'.`
    throw error.prefixed(`failed to create a TSDB schema: ${where}`)
  }
  const fitsDay = granularityMs > 0 && (dayMs % granularityMs === 0 || granularityMs % dayMs === 0)
  if (!fitsDay) {
    throw invalidSchema(
      'the aggregation granularity should be a divisor or a dividend of 1 day. Examples: "10m"; "30m"; "2h"',
    )
  }
  return granularityMs
}

/** Clients can send the policy only as a property of some schema field. */
function duplicatePolicy(request: CreateRequest): DuplicatePolicy {
  let policy: DuplicatePolicy | undefined
  for (const field of request.schema?.fields ?? []) {
    const value = field.properties?.['duplicates']
    if (value === undefined) continue
    if (value !== 'last' && value !== 'first' && value !== 'error') {
      const shown = typeof value === 'string' ? `'${shortened(value)}'` : `a ${typeof value}`
      throw invalidSchema(`property 'duplicates' must be 'last', 'first' or 'error', not ${shown}`)
    }
    if (policy !== undefined && policy !== value) {
      throw invalidSchema(`property 'duplicates' is given as '${policy}' and as '${value}'`)
    }
    policy = value
  }
  return policy ?? 'last'
}

/** A duration, as a property of some schema field; '0' keeps samples for ever, whatever the server's default is. */
function timeToLive(request: CreateRequest): number | null {
  let ttlMs: number | null = null
  for (const field of request.schema?.fields ?? []) {
    const value = field.properties?.['ttl']
    // An empty text is the same as none, as for the other parameters.
    if (value === undefined || value === '') continue
    if (typeof value !== 'string') throw invalidSchema(`property 'ttl' must be a duration such as '30d'`)
    let parsedMs: number
    try {
      parsedMs = parseDurationMs(value)
    } catch (error) {
      throw error instanceof FramesError ? error.prefixed("failed to create a TSDB schema: property 'ttl'") : error
    }
    if (ttlMs !== null && ttlMs !== parsedMs) throw invalidSchema(`property 'ttl' is given twice`)
    ttlMs = parsedMs
  }
  return ttlMs
}

const schemaVersion = 1

/** The stored form: JSON with a version. */
export function encodeSchema(schema: TsdbSchema): string {
  return JSON.stringify({ version: schemaVersion, ...schema })
}

/** Throws FORMAT_VERSION for a schema of a newer framesd, DATA_DAMAGED for what is no schema. */
export function decodeSchema(text: string): TsdbSchema {
  let stored: unknown
  try {
    stored = JSON.parse(text)
  } catch (cause) {
    throw new FramesError('DATA_DAMAGED', 'a stored tsdb schema is not JSON', { cause })
  }
  if (typeof stored !== 'object' || stored === null) throw damaged('schema')
  const { version, rate, chunkHours, partitionIntervalMs, aggregates, aggregationGranularityMs, duplicates, ttlMs } =
    stored as Readonly<Record<string, unknown>>
  if (version !== schemaVersion) {
    throw new FramesError('FORMAT_VERSION', `a tsdb schema has version ${String(version)}, not ${schemaVersion}`)
  }
  if (typeof rate !== 'string') throw damaged('rate')
  if (!isPositiveInteger(chunkHours)) throw damaged('chunkHours')
  if (!isPositiveInteger(partitionIntervalMs)) throw damaged('partitionIntervalMs')
  if (!isPositiveInteger(aggregationGranularityMs)) throw damaged('aggregationGranularityMs')
  if (!Array.isArray(aggregates) || !aggregates.every((name) => rawAggregates.includes(name))) {
    throw damaged('aggregates')
  }
  if (duplicates !== 'last' && duplicates !== 'first' && duplicates !== 'error') throw damaged('duplicates')
  // Tables from before there was one keep their samples.
  if (ttlMs !== undefined && ttlMs !== 0 && !isPositiveInteger(ttlMs)) throw damaged('ttlMs')
  return {
    rate,
    chunkHours,
    partitionIntervalMs,
    aggregates,
    aggregationGranularityMs,
    duplicates,
    ttlMs: ttlMs === undefined ? 0 : (ttlMs as number),
  }
}

function isPositiveInteger(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0
}

function damaged(part: string): FramesError {
  return new FramesError('DATA_DAMAGED', `a stored tsdb schema has no valid ${part}`)
}

/** Returns the name as it is stored: without surrounding blanks. Throws INVALID_ARGUMENT. */
export function validateMetricName(name: string): string {
  const trimmed = name.trim()
  if (trimmed === '') throw invalid('metric name should not be empty')
  if (trimmed.length > nameByteLengthMax) throw tooLong('metric')
  if (!/^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(trimmed)) {
    throw invalid(
      `metric name contains illegal characters. Name '${shortened(trimmed)}' should conform to ` +
        "'^[a-zA-Z_:]([a-zA-Z0-9_:])*$'",
    )
  }
  return trimmed
}

/** `_name` is the metric in filters; the others are the platform's own attributes of a series. */
const reservedLabelNames: ReadonlySet<string> = new Set(['_name', '_lset', '_enc', '_maxtime'])

/**
 * Throws INVALID_ARGUMENT. `__name__` passes: it stands for the metric's name, and the caller takes it out before.
 */
export function validateLabelName(name: string): void {
  if (name === '') throw invalid('label name should not be empty')
  if (name.length > nameByteLengthMax) throw tooLong('label')
  if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name)) {
    throw invalid(
      `label name contains illegal characters. Label name '${shortened(name)}' should conform to ` +
        "'^[a-zA-Z_]([a-zA-Z0-9_])*$'",
    )
  }
  if (reservedLabelNames.has(name)) throw invalid(`label name '${name}' is reserved`)
}

function tooLong(what: 'metric' | 'label'): FramesError {
  return invalid(`${what} name is longer than ${nameByteLengthMax} bytes`)
}

function invalidSchema(what: string): FramesError {
  return invalid(`failed to create a TSDB schema: ${what}`)
}

function invalid(what: string): FramesError {
  return new FramesError('INVALID_ARGUMENT', what)
}
