// Blocks as jobs are told of them.
import { MiB } from '../limits.js'
import type { LiveBlock } from './live-block.js'
import { toSource } from './live-block.js'
import { dataKey, headKey, packedKey } from './keys.js'
import type { BlockSource } from './reader.js'
import type { TableContext } from './table-context.js'
import type { VerifyJob } from './verify.js'

const verifyScratchByteLength = 4 * MiB

/** What jobs need to find blocks: at once, but where values of a store that workers cannot read are fetched here. */
export function sourcesOf(context: TableContext, blocks: readonly LiveBlock[]): BlockSource[] | Promise<BlockSource[]> {
  const { store, partition } = context
  if (store.workerAccess !== null) return blocks.map((block) => toSource(block, null))
  return Promise.all(
    blocks.map(async (block) => {
      if (block.memory !== null) return toSource(block, null)
      const keys = [block.isPacked ? packedKey(block.id) : headKey(block.id)]
      if (!block.isPacked) for (let i = 0; i < block.segmentCount; i++) keys.push(dataKey(block.id, i))
      const values = await store.read(partition, keys)
      // An absent value stays absent in the message: the reader names what is missing.
      return toSource(block, values as Uint8Array[])
    }),
  )
}

/** What is wrong with a block of a snapshot that the caller holds, a line each; none when all of it can be read. */
export async function verifyBlock(context: TableContext, block: LiveBlock): Promise<string[]> {
  const { store, pool, partition, name } = context
  const [source] = await sourcesOf(context, [block])
  const job: VerifyJob = {
    kind: 'blocks.verify',
    partition,
    tableName: name,
    access: store.workerAccess,
    source: source!,
  }
  const done = await pool.runToEnd<string[]>(job, { scratchByteLength: verifyScratchByteLength })
  done.release()
  return done.result
}
