import type { Engine, Frame } from '../../dist/engine/index.js'

export const backend: string
export function rowCountOf(stream: number, n: number): number
export function firstTimeNs(n: number): bigint
export function frameOf(timeNs: bigint): number
export function cellOf(stream: number, n: number, row: number): number
export function labelsOf(stream: number, n: number): { stream: string; epoch: string }
export function frameNumber(stream: number, n: number): Frame
export function wholeFrames(engine: Engine, table: string, stream: number, from: number): Promise<Set<number>>
