// A scan as its message carries it: numbers in one array, and texts. A dashboard's query is a job of 0.1 ms, and names of
// fields take longer to write and to read than what they name.
import { receiveSources, type SentSources } from '../../blocks/sent-sources.js'
import type { BlockSource } from '../../blocks/reader.js'
import type { WorkerAccess } from '../../stores/store.js'
import type { LabelView, ScanFields, ScanJob } from './jobs.js'
import type { ScanPosition } from './scan-input.js'

/** What most scans have none of, and what may be large. */
interface ScanRest
  extends Pick<ScanFields, 'groupStarts' | 'metricListOf' | 'metricLists' | 'rowCondition' | 'rowLabels' | 'position'> {
  /** Blocks that are not among the numbers; see SentSources. */
  readonly others: readonly BlockSource[]
  /** null: they are among the numbers. */
  readonly sets: Uint32Array | null
}

export type ScanParts = readonly [
  numbers: Float64Array,
  terms: string,
  /** null: there is no access. */
  driver: NonNullable<WorkerAccess>['driver'] | null,
  path: string,
  labelsId: string,
  signaturesId: string,
  /** null: it says nothing. */
  rest: ScanRest | null,
]

/** Fields that are numbers, then how many numbers of sources and of label sets follow. */
const fieldCount = 13
/** As numbers they take twice the room. */
const setCountMax = 64

/** What changes from job to job of a read. */
export interface ScanStart {
  readonly labels: LabelView
  readonly rowCountMax: number
  readonly position: ScanPosition | null
}

/** What is the same in all of them. */
export interface SentFields extends Omit<ScanFields, keyof ScanStart | 'sources'> {
  readonly sources: SentSources
}

export function sendScan(fields: SentFields, { labels, rowCountMax, position }: ScanStart): ScanJob {
  const { sets, access, groupStarts, metricListOf, metricLists, rowCondition, rowLabels } = fields
  const { numbers: ofSources, others } = fields.sources
  const setCount = sets.length <= setCountMax ? sets.length : 0
  const numbers = new Float64Array(fieldCount + ofSources.length + setCount)
  numbers[0] = fields.startMs
  numbers[1] = fields.endMs
  numbers[2] = fields.stepMs
  numbers[3] = rowCountMax
  numbers[4] = fields.keptRowCount
  numbers[5] = fields.storedByteLength
  numbers[6] = fields.manySetsShare
  numbers[7] = labels.tablePtr
  numbers[8] = labels.setCount
  numbers[9] = labels.signatures.byteOffset
  numbers[10] = labels.signatures.byteLength
  numbers[11] = ofSources.length
  numbers[12] = setCount
  numbers.set(ofSources, fieldCount)
  const setsAt = fieldCount + ofSources.length
  for (let i = 0; i < setCount; i++) numbers[setsAt + i] = sets[i]!
  const isPlain =
    setCount === sets.length &&
    others.length === 0 &&
    groupStarts === null &&
    metricListOf === null &&
    metricLists.length === 0 &&
    rowCondition === null &&
    rowLabels.length === 0 &&
    position === null
  const rest: ScanRest | null = isPlain
    ? null
    : {
        others,
        sets: setCount === sets.length ? null : sets,
        groupStarts,
        metricListOf,
        metricLists,
        rowCondition,
        rowLabels,
        position,
      }
  const parts: ScanParts = [
    numbers,
    fields.terms,
    access === null ? null : access.driver,
    access === null ? '' : access.path,
    labels.id,
    labels.signaturesId,
    rest,
  ]
  return { kind: 'tsdb.scan', parts }
}

const none: readonly [] = []

export function receiveScan([numbers, terms, driver, path, labelsId, signaturesId, rest]: ScanParts): ScanFields {
  const setsAt = fieldCount + numbers[11]!
  const sources = { numbers: numbers.subarray(fieldCount, setsAt), others: rest === null ? none : rest.others }
  return {
    terms,
    startMs: numbers[0]!,
    endMs: numbers[1]!,
    stepMs: numbers[2]!,
    rowCountMax: numbers[3]!,
    keptRowCount: numbers[4]!,
    storedByteLength: numbers[5]!,
    manySetsShare: numbers[6]!,
    access: driver === null ? null : { driver, path },
    labels: {
      id: labelsId,
      tablePtr: numbers[7]!,
      setCount: numbers[8]!,
      signaturesId,
      signatures: { byteOffset: numbers[9]!, byteLength: numbers[10]! },
    },
    sources: receiveSources(sources),
    sets: rest?.sets ?? Uint32Array.from(numbers.subarray(setsAt, setsAt + numbers[12]!)),
    groupStarts: rest === null ? null : rest.groupStarts,
    metricListOf: rest === null ? null : rest.metricListOf,
    metricLists: rest === null ? none : rest.metricLists,
    rowCondition: rest === null ? null : rest.rowCondition,
    rowLabels: rest === null ? none : rest.rowLabels,
    position: rest === null ? null : rest.position,
  }
}
