// A scan as its message carries it: a list of numbers and texts. A dashboard's query is a job of 0.1 ms, and the names of
// fields, and the memory of typed arrays, take longer to write and to read than what they hold.
import type { BlockSource } from '../../blocks/reader.js'
import { receiveSources, type SentSources } from '../../blocks/sent-sources.js'
import type { WorkerAccess } from '../../stores/store.js'
import type { LabelView, ScanFields, ScanJob } from './jobs.js'
import type { NumberList, ScanPosition } from './scan-input.js'

/** What most scans have none of. */
interface ScanRest
  extends Pick<ScanFields, 'metricListOf' | 'metricLists' | 'rowCondition' | 'rowLabels' | 'position'> {
  readonly otherSources: readonly BlockSource[]
}

export type ScanParts = readonly [
  terms: string,
  /** null: there is no access. */
  driver: NonNullable<WorkerAccess>['driver'] | null,
  path: string,
  startMs: number,
  endMs: number,
  stepMs: number,
  rowCountMax: number,
  keptRowCount: number,
  storedByteLength: number,
  manySetsShare: number,
  labelsId: string,
  tablePtr: number,
  setCount: number,
  signaturesId: string,
  signaturesByteOffset: number,
  signaturesByteLength: number,
  sourceIds: SentSources['ids'],
  sourceNumbers: SentSources['numbers'],
  sets: NumberList,
  groupStarts: NumberList | null,
  /** null: it says nothing. */
  rest: ScanRest | null,
]

/** Label sets, and groups, that are sent in a plain list, at most. */
const listedCountMax = 64

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
  const { access, sources, groupStarts } = fields
  const parts: ScanParts = [
    fields.terms,
    access === null ? null : access.driver,
    access === null ? '' : access.path,
    fields.startMs,
    fields.endMs,
    fields.stepMs,
    rowCountMax,
    fields.keptRowCount,
    fields.storedByteLength,
    fields.manySetsShare,
    labels.id,
    labels.tablePtr,
    labels.setCount,
    labels.signaturesId,
    labels.signatures.byteOffset,
    labels.signatures.byteLength,
    sources.ids,
    sources.numbers,
    listed(fields.sets),
    groupStarts === null ? null : listed(groupStarts),
    restOf(fields, position),
  ]
  return { kind: 'tsdb.scan', parts }
}

function listed(numbers: NumberList): NumberList {
  if (numbers.length > listedCountMax) return numbers
  const list: number[] = []
  for (let i = 0; i < numbers.length; i++) list.push(numbers[i]!)
  return list
}

function restOf(fields: SentFields, position: ScanPosition | null): ScanRest | null {
  const { metricListOf, metricLists, rowCondition, rowLabels } = fields
  const otherSources = fields.sources.others
  const saysNothing =
    metricListOf === null &&
    metricLists.length === 0 &&
    rowCondition === null &&
    rowLabels.length === 0 &&
    position === null &&
    otherSources.length === 0
  if (saysNothing) return null
  return { metricListOf, metricLists, rowCondition, rowLabels, position, otherSources }
}

const none: readonly [] = []

export function receiveScan(parts: ScanParts): ScanFields {
  const driver = parts[1]
  const rest = parts[20]
  return {
    terms: parts[0],
    access: driver === null ? null : { driver, path: parts[2] },
    startMs: parts[3],
    endMs: parts[4],
    stepMs: parts[5],
    rowCountMax: parts[6],
    keptRowCount: parts[7],
    storedByteLength: parts[8],
    manySetsShare: parts[9],
    labels: {
      id: parts[10],
      tablePtr: parts[11],
      setCount: parts[12],
      signaturesId: parts[13],
      signatures: { byteOffset: parts[14], byteLength: parts[15] },
    },
    sources: receiveSources({ ids: parts[16], numbers: parts[17], others: rest === null ? none : rest.otherSources }),
    sets: parts[18],
    groupStarts: parts[19],
    metricListOf: rest === null ? null : rest.metricListOf,
    metricLists: rest === null ? none : rest.metricLists,
    rowCondition: rest === null ? null : rest.rowCondition,
    rowLabels: rest === null ? none : rest.rowLabels,
    position: rest === null ? null : rest.position,
  }
}
