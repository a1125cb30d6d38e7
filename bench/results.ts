// What a run of all benches has found.
import type { Machine, MachineLimits } from './machine.js'
import type { BenchRow } from './rows.js'

/** One number, beside what it should be and what bounds it. */
export interface Result {
  readonly group:
    | 'load'
    | 'size'
    | 'memory'
    | 'query'
    | 'tsbs'
    | 'raw read'
    | 'ingest'
    | 'scale'
    | 'kernel'
    | 'kv load'
    | 'kv scan'
    | 'kv point'
    | 'kv memory'
    | 'stream'
    | 'history'
  readonly name: string
  readonly value: number
  readonly unit: string
  /** All runs, in order; `value` is their median (memory: their maximum). */
  readonly runs: readonly number[]
  /** What it should be, and whether it is; null where nothing is set. */
  readonly target: { readonly text: string; readonly isMet: boolean } | null
  /** What the machine could do, or what else it is to be held against. */
  readonly beside: string
  /** Of the answer; the same for every engine that was asked. */
  readonly checksum: string
}

/** How numbers came about: sizes, runs, writes in flight, versions. */
export type Settings = Readonly<Record<string, string | number>>

/** Takes each result as soon as it is known: a run that is ended early has lost nothing. */
export type Found = (...results: readonly Result[]) => void

export interface Report {
  readonly startedAt: string
  readonly machine: Machine
  readonly limits: MachineLimits
  readonly settings: Settings
  readonly results: readonly Result[]
  readonly kernels: readonly BenchRow[]
}

export function atLeast(value: number, least: number, text: string): NonNullable<Result['target']> {
  return { text: `≥ ${text}`, isMet: value >= least }
}

export function atMost(value: number, most: number, text: string): NonNullable<Result['target']> {
  return { text: `≤ ${text}`, isMet: value <= most }
}
