import type { Batch } from '../dist/engine/stores/store.js'

export function numberedBatch(n: number): Batch
