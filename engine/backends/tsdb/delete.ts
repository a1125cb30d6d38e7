// Deletes of a part of a table, main-thread half: what is meant, and which blocks are written anew.
import type { LiveBlock } from '../../blocks/live-block.js'
import { FramesError } from '../../errors.js'
import { parseFilter } from '../../expression/parse.js'
import type { Expression } from '../../expression/tree.js'
import type { DeleteRequest } from '../../requests.js'
import { hourMs, parseTimeMs, secondMs } from '../../time.js'
import type { BackendParts } from '../backend.js'
import { toNs } from './bounds.js'
import { askedDigests } from './digests.js'
import { decodeExtent } from './directory.js'
import type { Erasure } from './erase.js'
import type { EraseJob } from './jobs.js'
import type { Selection } from './select.js'
import type { OpenTable } from './tsdb.js'

/** Samples to delete: [startMs, endMs], both inclusive, of the series that both filter and metrics name; null: of all. */
export interface DeletePlan {
  readonly startMs: number
  readonly endMs: number
  readonly filter: Expression | null
  readonly filterText: string
  readonly metrics: readonly string[] | null
}

/**
 * Null when the whole table is meant: none of its parts is named. Without a start everything up to the end goes, without
 * an end everything until now, without both the last hour. Throws INVALID_ARGUMENT.
 */
export function planDelete(request: DeleteRequest, nowMs: number): DeletePlan | null {
  const { start = '', end = '', filter = '' } = request
  const metrics = request.metrics === undefined || request.metrics.length === 0 ? null : request.metrics
  const filterText = filter.trim()
  if (start === '' && end === '' && filterText === '' && metrics === null) return null
  const nowSecondMs = Math.floor(nowMs / secondMs) * secondMs
  const endMs = end === '' ? nowSecondMs : parsed('end', end, nowMs)
  const startMs = start !== '' ? parsed('start', start, nowMs) : end === '' ? nowSecondMs - hourMs : 0
  return { startMs, endMs, filter: filterText === '' ? null : parseFilter(filterText), filterText, metrics }
}

function parsed(name: string, text: string, nowMs: number): number {
  try {
    return parseTimeMs(text, nowMs)
  } catch (error) {
    throw error instanceof FramesError ? error.prefixed(`failed to parse ${name} time`) : error
  }
}

/** All samples before a time. */
export function expired(beforeMs: number): DeletePlan {
  return { startMs: Number.MIN_SAFE_INTEGER, endMs: beforeMs - 1, filter: null, filterText: '', metrics: null }
}

/** Of all series. */
export function erasureOf({ startMs, endMs, metrics }: Pick<DeletePlan, 'startMs' | 'endMs' | 'metrics'>): Erasure {
  return { startNs: toNs(startMs), endNs: toNs(endMs + 1), sets: null, lists: null, metricLists: [], metrics }
}

/** `selection`: the label sets that the filter names; null: all. Throws DATA_DAMAGED, CANCELLED; then nothing is deleted. */
export async function deleteSamples(
  parts: BackendParts,
  table: OpenTable,
  plan: DeletePlan,
  selection: Selection | null,
): Promise<void> {
  const { blocks, labels, schema } = table
  if (plan.startMs > plan.endMs || selection?.sets.length === 0) return
  const erasure: Erasure = { ...erasureOf(plan), ...ascending(selection) }
  const isOfAllSeries = selection === null && plan.metrics === null
  await blocks.rewrite(
    (live) => {
      const touched = live.filter((block) => touches(block, plan, erasure))
      const isWhole = (block: LiveBlock): boolean => isOfAllSeries && isWithin(block, plan)
      return { dropped: touched.filter(isWhole), rewritten: touched.filter((block) => !isWhole(block)) }
    },
    (sources, position, isAgain) => {
      const { view, setSignatures, release } = isAgain ? labels.acquireFixed() : labels.acquire()
      const job: EraseJob = {
        kind: 'tsdb.erase',
        partition: blocks.partition,
        tableName: blocks.name,
        access: parts.store.workerAccess,
        sources,
        end: null,
        position: position as EraseJob['position'],
        labels: view,
        setSignatures,
        partitionIntervalMs: schema.partitionIntervalMs,
        asked: askedDigests(schema),
        newestWins: schema.duplicates !== 'first',
        erasure,
      }
      return { job, release }
    },
  )
}

/** Whether a block may have samples that go; one of unknown contents may. */
function touches({ extent }: LiveBlock, { startMs, endMs }: DeletePlan, { sets }: Erasure): boolean {
  if (extent === null) return true
  const { timeMinMs, timeMaxMs, setMin, setMax } = decodeExtent(extent)
  if (timeMaxMs < startMs || timeMinMs > endMs) return false
  return sets === null || (sets[0]! <= setMax && sets[sets.length - 1]! >= setMin)
}

function isWithin({ extent }: LiveBlock, { startMs, endMs }: DeletePlan): boolean {
  if (extent === null) return false
  const { timeMinMs, timeMaxMs } = decodeExtent(extent)
  return startMs <= timeMinMs && timeMaxMs <= endMs
}

/** The sets in the order of their numbers, as blocks have them. */
function ascending(selection: Selection | null): Pick<Erasure, 'sets' | 'lists' | 'metricLists'> {
  if (selection === null) return { sets: null, lists: null, metricLists: [] }
  const { sets, metricListOf, metricLists } = selection
  if (metricListOf === null) return { sets: sets.slice().sort(), lists: null, metricLists }
  // Set and list in one number, so that they are sorted together.
  const pairs = Float64Array.from(sets, (set, i) => set * metricLists.length + metricListOf[i]!).sort()
  return {
    sets: Uint32Array.from(pairs, (pair) => Math.floor(pair / metricLists.length)),
    lists: Uint32Array.from(pairs, (pair) => pair % metricLists.length),
    metricLists,
  }
}
