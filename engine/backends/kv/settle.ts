import { noKills } from '../../blocks/sent-kills.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { findStored, numberItems, singles } from './batch-items.js'
import type { ItemReader } from './item-reader.js'
import type { OpenWrite } from './open-writes.js'
import { abandoned, failed, prepareWrites } from './open-writes.js'
import type { SettledWrite, SettleRequest, SettleResult } from './settle-request.js'
import type { Failure } from './settlement.js'
import { Settlement } from './settlement.js'

/**
 * front: what is returned stands there, and what a round needs; back: the other end of the same memory, for what stays
 * until the end. reader: null when the table has no rows. Throws ScratchFull, DATA_DAMAGED; what is wrong with a write is its own result.
 */
export function settleWrites(
  kernels: Kernels,
  front: Scratch,
  back: Scratch,
  request: SettleRequest,
  reader: ItemReader | null,
  blockIds: readonly bigint[],
  throwIfCancelled: () => void,
): SettleResult {
  const results: SettledWrite[] = []
  const { writes, schema } = prepareWrites(kernels, back, request, results)
  const changed = schema === request.schema ? null : schema
  const rowCount = writes.reduce((sum, { rows }) => sum + rows.rowCount, 0)
  if (rowCount === 0) return { writes: results, blocks: [], kills: noKills, schema: changed }
  throwIfCancelled()

  const items = numberItems(kernels, back, writes, rowCount)
  const stored = findStored(kernels, back, items, reader)
  const frontMark = front.mark()
  let backMark = back.mark()
  let left: readonly OpenWrite[] = writes
  for (;;) {
    throwIfCancelled()
    const settlement = new Settlement(kernels, front, back, request, items, stored, reader)
    const failures = settlement.settle(left, results)
    if (failures.length === 0) {
      const { blocks, kills } = settlement.finish(blockIds)
      return { writes: results, blocks, kills, schema: changed }
    }
    front.release(frontMark)
    back.release(backMark)
    if (failures.some(({ write }) => write.sessions !== null))
      left = left.flatMap((write) => singles(kernels, back, write))
    else left = withoutFailed(kernels, front, left, failures, items.count, results)
    // What is made of the writes here stays.
    backMark = back.mark()
  }
}

/**
 * The writes that are left when those that failed are taken out, and what later writes of their sessions had done. A
 * failure may come from what another write did that failed, too: only one whose item none of those had touched is final.
 */
function withoutFailed(
  kernels: Kernels,
  work: Scratch,
  writes: readonly OpenWrite[],
  failures: readonly Failure[],
  itemCount: number,
  results: SettledWrite[],
): OpenWrite[] {
  const { call, u8 } = kernels
  const mark = work.mark()
  const touchedPtr = work.allocate(Math.ceil(itemCount / 8))
  u8.fill(0, touchedPtr, touchedPtr + Math.ceil(itemCount / 8))
  const failedSessions = new Map<number, number>()
  for (const { write, error, item } of [...failures].sort((a, b) => a.write.number - b.write.number)) {
    const isFinal = ((u8[touchedPtr + (item >> 3)]! >> (item & 7)) & 1) === 0
    if (isFinal && !failedSessions.has(write.session)) {
      failedSessions.set(write.session, write.number)
      results[write.number] = failed(error)
    }
    call.markItems(write.rowsPlace!.itemsPtr, write.rows.rowCount, touchedPtr)
  }
  work.release(mark)
  return writes.filter(({ session, number }) => {
    const failedNumber = failedSessions.get(session)
    if (failedNumber === undefined || number < failedNumber) return true
    if (number > failedNumber) results[number] = abandoned
    return false
  })
}
