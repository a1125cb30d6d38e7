// A read at work, main-thread half: a plan, then jobs over parts of the table whose messages leave in order.
import type { CancelSignal } from '../../cancellation.js'
import type { TableName } from '../../blocks/catalog.js'
import type { LiveBlock } from '../../blocks/live-block.js'
import type { BlockSource } from '../../blocks/reader.js'
import { appendMarker } from '../../codec/labels.js'
import { FramesError, shortened } from '../../errors.js'
import { filterOf } from '../../expression/cache.js'
import type { FrameSlice } from '../../frame/column-slice.js'
import { MiB } from '../../limits.js'
import type { JobResult } from '../../pool/pool.js'
import type { ReadRequest } from '../../requests.js'
import type { BackendParts, ReadMessage, ReadOptions } from '../backend.js'
import { refuseReadParameters } from '../refused-parameters.js'
import type { ItemKey } from './item-keys.js'
import { keyRanges, namesOfFilter, withoutOtherKeys } from './name-lookup.js'
import { encodeMarker, parseMarker } from './marker.js'
import type { Conditions } from './match.js'
import type { PlanJob, PlanResult, ScanJob } from './read-jobs.js'
import type { TableContents } from './read-shape.js'
import { readShape } from './read-shape.js'
import type { ScanPosition, ScanResult } from './scan.js'
import type { ScanUnit } from './scan-units.js'
import type { KvTable } from './table.js'

export const scanScratchByteLength = 16 * MiB
const planScratchByteLength = 8 * MiB
/** Parts of a parallel read have this many rows at first; more where little of them matches. */
const partRowCountMin = 131_072
const noContents: TableContents = { attributes: [], isKeyText: false, isSortingKeyText: false }
/** Beyond this number of segments nobody divides a table. */
const totalSegmentsMax = 65_536
const nsPerMs = 1_000_000n

/** The error of a read of what has no schema; `requested`: the table as the client wrote it. */
export function missingSchema({ container, path }: TableName, requested: string): FramesError {
  const shown = requested.endsWith('/') ? `${path}/` : path
  return new FramesError(
    'TABLE_NOT_FOUND',
    `Failed to find a schema for table "/${container}/${shown}"; ` +
      "use the `execute` 'infer' command to infer the schema and generate a schema file.",
  )
}

/**
 * The items of a table, in the order of (folder, name). The table is the caller's until the generator has ended.
 * Throws INVALID_ARGUMENT, REFUSED_PARAMETER, COLUMN_NOT_FOUND, TABLE_NOT_FOUND where there is no schema.
 */
export async function* readItems(
  parts: BackendParts,
  table: KvTable,
  request: ReadRequest,
  format: 'wire' | 'columns',
  options: ReadOptions,
): AsyncGenerator<ReadMessage> {
  refuseReadParameters(request, 'kv')
  const { schema } = table
  if (schema.key === '') throw missingSchema(table.name, request.table)
  const filterText = request.filter ?? ''
  const asked = filterText === '' ? null : filterOf(filterText)
  const limit = request.limit !== undefined && request.limit > 0n ? Number(request.limit) : null
  const messageRowCountMax = countOf('message_limit', request.messageLimit)
  if (request.limit !== undefined && request.limit < 0n) throw invalid(`limit is ${request.limit}`)
  const markerOf = markerText(request)
  const after = (request.marker ?? '') === '' ? null : parseMarker(request.marker!, markerOf)
  const shardingKeys = request.shardingKeys ?? []
  const nameRanges =
    shardingKeys.length === 0
      ? null
      : keyRanges(
          shardingKeys,
          schema.sortingKey !== '',
          request.sortKeyRangeStart ?? '',
          request.sortKeyRangeEnd ?? '',
        )
  const filter = shardingKeys.length === 0 ? asked : withoutOtherKeys(asked, shardingKeys, schema)
  const segments = segmentsOf(request)
  const expiredNs = expiryNs(schema.ttlMs, parts.nowMs())
  const signal = options.signal ?? null

  const snapshot = table.blocks.acquire()
  try {
    if (snapshot.blocks.length === 0) {
      // For its errors: a column that nobody has is one without items, too.
      readShape(schema, noContents, { columns: request.columns ?? [], resetIndex: false })
      return
    }
    const common = {
      partition: table.blocks.partition,
      tableName: table.blocks.name,
      access: parts.store.workerAccess,
      sources: await table.blocks.sources(snapshot.blocks),
    }
    const planJob: PlanJob = {
      ...common,
      kind: 'kv.plan',
      schema: { fields: schema.fields, key: schema.key, sortingKey: schema.sortingKey },
      columns: request.columns ?? [],
      resetIndex: request.resetIndex ?? false,
      filter: schema.foldersDrifted ? null : filter,
      nameRanges,
      lookedUp: asked === null ? null : namesOfFilter(asked),
      after,
    }
    const planned = await parts.pool.runToEnd<PlanResult>(planJob, {
      scratchByteLength: planScratchByteLength,
      ...(signal === null ? {} : { signal }),
    })
    planned.release()
    const { shape, units, excludedFolders, heads } = planned.result
    if (units.length === 0) return
    if (options.describe === true) yield { rowCount: 0, bytes: null, frame: null, columns: heads }
    const conditions: Conditions = { filter, expiredNs, segments, excludedFolders }
    const job: Omit<ScanJob, 'units' | 'position' | 'rowCountMax'> = {
      ...common,
      kind: 'kv.scan',
      shape,
      conditions,
      messageRowCountMax,
      format,
    }
    const scanner = new Scanner(parts, job, signal)
    if (limit === null) yield* allMessages(scanner, units, parts.pool.statistics().workerCount)
    else yield* limitedMessages(scanner, units, limit, (last) => encodeMarker(last, markerOf))
  } finally {
    snapshot.release()
  }
}

/** Items last written at this time or before are expired. */
export function expiryNs(ttlMs: number | null, nowMs: number): bigint | null {
  return ttlMs === null ? null : BigInt(Math.floor(nowMs) - ttlMs) * nsPerMs
}

/** What must be the same for a marker to fit. */
function markerText(request: ReadRequest): string {
  const { columns, filter, resetIndex, shardingKeys, sortKeyRangeStart, sortKeyRangeEnd, segments } = request
  return JSON.stringify([
    request.table,
    columns ?? [],
    filter ?? '',
    resetIndex ?? false,
    shardingKeys ?? [],
    sortKeyRangeStart ?? '',
    sortKeyRangeEnd ?? '',
    (segments ?? []).map(String),
    String(request.totalSegments ?? 0),
  ])
}

function segmentsOf({ segments = [], totalSegments = 0n }: ReadRequest): Conditions['segments'] {
  if (totalSegments < 0n || totalSegments > BigInt(totalSegmentsMax))
    throw invalid(`total_segments is ${totalSegments}; a table has at most ${totalSegmentsMax} segments`)
  if (segments.length === 0 || totalSegments === 0n) return null
  for (const segment of segments) {
    if (segment < 0n || segment >= totalSegments)
      throw invalid(`segment ${segment} is not one of the ${totalSegments} segments, which are counted from 0`)
  }
  return { total: Number(totalSegments), wanted: segments.map(Number) }
}

function countOf(name: string, count: bigint | undefined): number {
  if (count === undefined) return 0
  if (count < 0n) throw invalid(`${name} is ${count}`)
  return Number(count)
}

function invalid(what: string): FramesError {
  return new FramesError('INVALID_ARGUMENT', shortened(what))
}

/** What a job has made; its columns are valid until it is released. */
interface ScanStep extends Omit<ScanResult, 'messages'> {
  readonly messages: readonly ReadMessage[]
  release(): void
}

/** Sends scan jobs over some of the units. */
class Scanner {
  constructor(
    readonly parts: BackendParts,
    readonly job: Omit<ScanJob, 'units' | 'position' | 'rowCountMax'>,
    readonly signal: CancelSignal | null,
  ) {}

  async run(units: readonly ScanUnit[], position: ScanPosition | null, rowCountMax: number | null): Promise<ScanStep> {
    const { signal } = this
    if (this.job.format === 'columns') await this.parts.outgoing.roomForColumns(signal)
    const job: ScanJob = { ...this.job, units, position, rowCountMax }
    const done = await this.parts.pool.runToEnd<ScanResult>(job, {
      scratchByteLength: scanScratchByteLength,
      ...(signal === null ? {} : { signal }),
    })
    return this.#step(done)
  }

  /**
   * Finished bytes are copied out as soon as their job has ended, and its scratch is free: a few readers that stop reading
   * would hold all memory of the arenas otherwise, and nobody else could read. Columns: see OutgoingMessages.
   */
  #step(done: JobResult<ScanResult>): ScanStep {
    const { outgoing, kernels } = this.parts
    const { u8 } = kernels
    const { messages: made, ...result } = done.result
    if (made.some(({ frame }) => frame !== null)) {
      const { messages, release } = outgoing.takeColumns(done, made)
      return { ...result, messages, release }
    }
    const messages = made.map(({ rowCount, bytes, frame }): ReadMessage => {
      if (bytes === null) return { rowCount, bytes, frame }
      return { rowCount, bytes: u8.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength), frame }
    })
    done.release()
    return { ...result, messages, release: () => undefined }
  }
}

/** Cuts the units into parts of about a given number of rows. */
class UnitParts {
  #next = 0
  rowCountLeft: number

  constructor(readonly units: readonly ScanUnit[]) {
    this.rowCountLeft = units.reduce((sum, { rowCount }) => sum + rowCount, 0)
  }

  take(rowCount: number): readonly ScanUnit[] | null {
    if (this.#next >= this.units.length) return null
    const start = this.#next
    let taken = 0
    while (this.#next < this.units.length && (taken === 0 || taken + this.units[this.#next]!.rowCount <= rowCount)) {
      taken += this.units[this.#next]!.rowCount
      this.#next++
    }
    this.rowCountLeft -= taken
    return this.units.slice(start, this.#next)
  }
}

/** A part of the table at work: one job after the other until it is through. */
interface PartAtWork {
  readonly units: readonly ScanUnit[]
  step: Promise<ScanStep>
}

/** Some parts are read at once; their messages leave in order. */
async function* allMessages(
  scanner: Scanner,
  units: readonly ScanUnit[],
  workerCount: number,
): AsyncGenerator<ReadMessage> {
  const rest = new UnitParts(units)
  const partRowCountMax = Math.max(partRowCountMin, Math.ceil(rest.rowCountLeft / (2 * workerCount)))
  let partRowCount = partRowCountMin
  const atWork: PartAtWork[] = []
  const start = (part: readonly ScanUnit[], position: ScanPosition | null): Promise<ScanStep> => {
    const step = scanner.run(part, position, null)
    // Looked at when its turn comes; a failure must not count as unhandled before.
    step.catch(() => undefined)
    return step
  }
  const fill = (): void => {
    while (atWork.length <= workerCount) {
      const part = rest.take(partRowCount)
      if (part === null) return
      atWork.push({ units: part, step: start(part, null) })
      // Somebody who does not take the first messages shall hold no more than these.
      if (atWork.length >= workerCount && !isTaken) return
    }
  }
  let isTaken = false
  try {
    for (;;) {
      fill()
      const first = atWork[0]
      if (first === undefined) return
      const step = await first.step
      const { next, scannedRowCount } = step
      if (next !== null) {
        first.step = start(first.units, next)
        partRowCount = Math.max(unitRowsOf(units), Math.min(partRowCount, scannedRowCount))
      } else {
        atWork.shift()
        // Little came of it: larger parts make fewer, fuller frames.
        const byteLength = messageByteLength(step.messages)
        if (byteLength < MiB / 2) partRowCount = Math.min(partRowCountMax, partRowCount * 2)
      }
      fill()
      try {
        for (const message of step.messages) {
          yield message
          isTaken = true
        }
      } finally {
        step.release()
      }
    }
  } finally {
    await Promise.all(
      atWork.map(async ({ step }) => {
        const made = await step.catch(() => null)
        made?.release()
      }),
    )
  }
}

function unitRowsOf(units: readonly ScanUnit[]): number {
  return units[0]?.rowCount ?? 1
}

function messageByteLength(messages: readonly ReadMessage[]): number {
  return messages.reduce((sum, { rowCount, bytes, frame }) => {
    if (bytes !== null) return sum + bytes.length
    return sum + (frame === null ? 0 : 8 * rowCount * (frame.columns.length + frame.indices.length))
  }, 0)
}

/** One job after the other, until the limit; a message is held back until it is known whether it is the last. */
async function* limitedMessages(
  scanner: Scanner,
  units: readonly ScanUnit[],
  limit: number,
  markerOf: (last: ItemKey) => string,
): AsyncGenerator<ReadMessage> {
  let left = limit
  let position: ScanPosition | null = null
  for (;;) {
    const step: ScanStep = await scanner.run(units, position, left)
    try {
      for (const { rowCount } of step.messages) left -= rowCount
      let { isLimited } = step
      // The limit came with the end of a job: whether there is another row, the next one tells.
      for (let next = step.next; left === 0 && !isLimited && next !== null; ) {
        const probe: ScanStep = await scanner.run(units, next, 0)
        probe.release()
        isLimited = probe.isLimited
        next = probe.next
      }
      const last = step.messages.length - 1
      for (let i = 0; i <= last; i++) {
        const message = step.messages[i]!
        yield isLimited && i === last ? withMarker(message, markerOf(step.lastKey!)) : message
      }
      if (left === 0 || step.next === null) return
      position = step.next
    } finally {
      step.release()
    }
  }
}

function withMarker({ rowCount, bytes, frame }: ReadMessage, marker: string): ReadMessage {
  const labelled: FrameSlice | null =
    frame === null ? null : { ...frame, labels: [...frame.labels, { name: 'next_marker', value: marker }] }
  return { rowCount, bytes: bytes === null ? null : appendMarker(bytes, marker), frame: labelled }
}

/** What jobs on a table's present state are told; give the snapshot back. */
export async function tableSources(
  parts: BackendParts,
  table: KvTable,
): Promise<{ common: TableCommon; version: number; blocks: readonly LiveBlock[]; release: () => void }> {
  const snapshot = table.blocks.acquire()
  try {
    const sources = await table.blocks.sources(snapshot.blocks)
    return {
      common: {
        partition: table.blocks.partition,
        tableName: table.blocks.name,
        access: parts.store.workerAccess,
        sources,
      },
      version: snapshot.version,
      blocks: snapshot.blocks,
      release: () => snapshot.release(),
    }
  } catch (error) {
    snapshot.release()
    throw error
  }
}

export interface TableCommon {
  readonly partition: string
  readonly tableName: string
  readonly access: BackendParts['store']['workerAccess']
  readonly sources: readonly BlockSource[]
}
