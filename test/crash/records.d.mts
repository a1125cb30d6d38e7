import type { Engine } from '../../dist/engine/index.js'

export const stream: { readonly backend: 'stream'; readonly table: string }
export const group: string
export function wholeFrames(engine: Engine, writerCount: number): Promise<number[]>
