// How entries stand in blocks: one column for each of their fields, rows in the order in which the requests ended.
import type { Extent, LiveBlock } from '../blocks/live-block.js'
import { FramesError } from '../errors.js'
import type { DType } from '../frame/dtype.js'

/** 2: texts of what was set may stand in ownData. Version 1 had only texts in data, which are read as they are. */
const schemaVersion = 2

export interface StoredColumn {
  readonly name: string
  readonly dtype: DType
}

/** startTime: ns since 1970; durationNs; rowCount and byteLength are missing where they are not known. */
export const numberColumns = [
  { name: 'startTime', dtype: 'time' },
  { name: 'durationNs', dtype: 'int64' },
  { name: 'rowCount', dtype: 'int64' },
  { name: 'byteLength', dtype: 'int64' },
] as const satisfies readonly StoredColumn[]

/**
 * data: JSON of an object, what of the request was set, its texts or their places in ownData; missing for nothing. ownData: JSON of texts with commas between
 * them, for the numbers in data: what changes from request to request stands by itself, so that all else is stored once.
 */
export const textColumns = [
  'userName',
  'backendName',
  'tableName',
  'action',
  'container',
  'data',
  'ownData',
  'error',
  'protocol',
  'clientAddress',
  'requestId',
] as const

export const storedColumns: readonly StoredColumn[] = [
  ...numberColumns,
  ...textColumns.map((name) => ({ name, dtype: 'string' as const })),
]

export function encodeSchema(): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ version: schemaVersion }))
}

/** Throws FORMAT_VERSION for the history of a newer framesd, DATA_DAMAGED for what is no schema. */
export function checkSchema(bytes: Uint8Array): void {
  let stored: unknown
  try {
    stored = JSON.parse(new TextDecoder().decode(bytes))
  } catch (cause) {
    throw new FramesError('DATA_DAMAGED', 'the stored schema of the history is not JSON', { cause })
  }
  const version = typeof stored === 'object' && stored !== null && 'version' in stored ? stored.version : undefined
  if (version !== 1 && version !== schemaVersion)
    throw new FramesError('FORMAT_VERSION', `the history has version ${String(version)}, not ${schemaVersion}`)
}

/** What was set of a request, by its names. */
export function decodeData(data: string | null, ownData: string | null): Readonly<Record<string, string>> {
  if (data === null) return {}
  const shared = JSON.parse(data) as Readonly<Record<string, string | number>>
  const own = JSON.parse(`[${ownData ?? ''}]`) as readonly string[]
  return Object.fromEntries(
    Object.entries(shared).map(([name, text]) => [name, typeof text === 'number' ? own[text]! : text]),
  )
}

/** What is known of a block without reading it. Sequence numbers count the entries of a history, from 1. */
export interface HistoryExtent {
  readonly firstSequence: number
  /** Bytes of text of its rows. */
  readonly textByteLength: number
  readonly startMsMin: number
  readonly startMsMax: number
}

export function encodeExtent({ firstSequence, textByteLength, startMsMin, startMsMax }: HistoryExtent): Extent {
  return [firstSequence, textByteLength, startMsMin, startMsMax]
}

export function decodeExtent(extent: Extent): HistoryExtent {
  const [firstSequence, textByteLength, startMsMin, startMsMax] = extent as [number, number, number, number]
  return { firstSequence, textByteLength, startMsMin, startMsMax }
}

/** Blocks in the order of their entries; those that nothing is known of come first. */
export function inSequence(blocks: readonly LiveBlock[]): LiveBlock[] {
  const firstOf = ({ extent }: LiveBlock): number => (extent === null ? -1 : decodeExtent(extent).firstSequence)
  return [...blocks].sort((a, b) => firstOf(a) - firstOf(b))
}
