// What a scan is told and what it answers: messages between the two halves of a read.
import type { BlockSource } from '../../blocks/reader.js'
import type { Expression } from '../../expression/tree.js'
import type { FrameSlice } from '../../frame/column-slice.js'
import type { Labels } from './label-tail.js'
import type { ReadPlan } from './plan.js'
import type { Signature } from './signature.js'

/** Few numbers come in a plain list: a typed array has memory of its own, which takes longer to make than a list. */
export type NumberList = Uint32Array | readonly number[]

/** A row limit that is none, in each job of a read. */
export const rowCountNone = 2 ** 52

/** One label set to read. */
export interface ScanSet {
  readonly set: number
  readonly signature: Signature
}

/** A metric's last value in the bucket of this time. By name: the metrics of a set may be others when a read goes on. */
export type Carry = readonly [metric: string, value: number, timeMs: number]

/** Where a scan goes on: the place of the set or group in the list, and the first time that was not sent. */
export interface ScanPosition {
  readonly index: number
  readonly fromNs: bigint
  /** rate: of each metric that has one, the last bucket before `fromNs` with samples. */
  readonly carry: readonly Carry[]
  /** Reads in the order of time; null: others. */
  readonly ordered: OrderedPosition | null
}

/**
 * threshold  the time of the last row that the limit takes, and how many rows of just that time it still takes; null: all
 * toNs       newest first: rows of the unit from here on are sent; null: none is
 * spanNs     how long the spans were at last
 */
export interface OrderedPosition {
  readonly threshold: { readonly timeNs: bigint; readonly tieCount: number } | null
  readonly toNs: bigint | null
  readonly spanNs: bigint | null
}

export interface ScanInput {
  readonly sources: readonly BlockSource[]
  readonly partition: string
  readonly tableName: string
  readonly newestWins: boolean
  readonly plan: ReadPlan
  /** The label sets to read, in the order of their messages. */
  readonly sets: NumberList
  readonly setCount: number
  /** Of the job's scratch, for answering many sets together; 0: none of its own. */
  readonly manySetsShare: number
  readonly setAt: (index: number) => ScanSet
  readonly signatureOf: (set: number) => Signature
  /** Group i is sets starts[i] to before starts[i + 1]; null: each set is by itself. */
  readonly groupStarts: NumberList | null
  /** Names the table's label sets; see labelTail. */
  readonly labelsId: string
  readonly labelsOf: (set: number) => Labels
  readonly position: ScanPosition | null
  /** Rows that it does not let through do not count; null: all count. */
  readonly rowCondition: Expression | null
  /** The labels that it names. */
  readonly rowLabels: readonly string[]
  /** Rows that may still be sent; the scan stops behind the last of them. rowCountNone: as many as there are. */
  readonly rowCountMax: number
  /** Metrics of a set that the filter lets through; null: all. */
  readonly metricsAt: (index: number) => ReadonlySet<string> | null
  readonly format: 'wire' | 'columns'
  readonly isCancelled: () => boolean
}

/** Columns of one message. */
export interface ScanFrame {
  readonly rowCount: number
  /** Buffers in the job's scratch. */
  readonly frame: FrameSlice
}

/** What a scan has made. Encoded messages are told by numbers: as objects they take longer to travel than to make. */
export interface ScanResult {
  /**
   * Rows, byte offset and byte length of each encoded message, which has its prefix in front of it (frame/wire-messages.ts), in the
   * order of their places: a list of few, or an array of many. null: columns are wanted.
   */
  readonly wire: NumberList | null
  readonly frames: readonly ScanFrame[]
  readonly next: ScanPosition | null
}

/** A result of a few encoded messages that end the read travels as nothing but their places. */
export type ScanAnswer = ScanResult | readonly number[]

export function shortAnswer(result: ScanResult): ScanAnswer {
  const { wire, next } = result
  return wire === null || next !== null || !isList(wire) ? result : wire
}

function isList(numbers: NumberList): numbers is readonly number[] {
  return Array.isArray(numbers)
}

export function scanResult(
  answer: ScanAnswer,
): Pick<ScanResult, 'frames' | 'next'> & { wire: ArrayLike<number> | null } {
  return isShort(answer) ? { wire: answer, frames: [], next: null } : answer
}

function isShort(answer: ScanAnswer): answer is readonly number[] {
  return Array.isArray(answer)
}
