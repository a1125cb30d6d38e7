// Samples older than their table allows go in the background: with merges, and by deletes now and then.
import type { TsdbSchema } from './schema.js'

/** Blocks hold old and new samples, so they are written anew only when so large a part of the time to live has passed. */
const shareOfTtl = 1 / 16

/** Samples before this time have expired; null: none ever does. */
export function expiryMs({ ttlMs }: TsdbSchema, nowMs: number): number | null {
  return ttlMs === 0 ? null : nowMs - ttlMs
}

/** Whether a table whose oldest sample is of this time is worth a delete. */
export function isDue(schema: TsdbSchema, oldestMs: number, nowMs: number): boolean {
  const expiredMs = expiryMs(schema, nowMs)
  return expiredMs !== null && oldestMs < expiredMs - schema.ttlMs * shareOfTtl
}
