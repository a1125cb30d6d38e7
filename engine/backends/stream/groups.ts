// Consumer groups: how far each has read each shard.
import { createHash } from 'node:crypto'
import { pack, unpack } from 'msgpackr'
import type { BlockTable } from '../../blocks/table.js'
import { FramesError } from '../../errors.js'
import { consumerGroupCountMax } from '../../limits.js'
import { Turn } from '../turn.js'

/** Bytes of a group's name. */
const groupNameByteLengthMax = 1024

/** A stored group: its name, then shard and sequence by turns. */
type Stored = [group: string, ...positions: number[]]

export class ConsumerGroups {
  readonly #turn = new Turn()

  private constructor(
    readonly blocks: BlockTable,
    readonly positions: Map<string, ReadonlyMap<number, number>>,
    /** Some stored group could not be read: which one is not known. */
    private isDamaged: boolean,
  ) {}

  static async load(blocks: BlockTable, report: (message: string, error: unknown) => void): Promise<ConsumerGroups> {
    const positions = new Map<string, ReadonlyMap<number, number>>()
    let isDamaged = false
    for await (const payload of blocks.notes()) {
      if (payload === null) {
        report(`the positions of a consumer group of table '${blocks.name}' are damaged`, null)
        isDamaged = true
        continue
      }
      const [group, ...numbers] = unpack(payload) as Stored
      const shards = new Map<number, number>()
      for (let i = 0; i + 1 < numbers.length; i += 2) shards.set(numbers[i]!, numbers[i + 1]!)
      positions.set(group, shards)
    }
    return new ConsumerGroups(blocks, positions, isDamaged)
  }

  /** The last sequence number that a group has committed, by shard. Throws DATA_DAMAGED when that is not known. */
  of(group: string): ReadonlyMap<number, number> {
    const positions = this.positions.get(group)
    if (positions === undefined && this.isDamaged) {
      const what = `the positions of group '${group}' may be among those of table '${this.blocks.name}' that are damaged`
      throw new FramesError('DATA_DAMAGED', what)
    }
    return positions ?? new Map()
  }

  /** Resolves when the position is durable. */
  commit(group: string, shard: number, sequence: number): Promise<void> {
    return this.#turn.run(async () => {
      if (group === '' || Buffer.byteLength(group) > groupNameByteLengthMax) {
        const what = `a group's name has 1 to ${groupNameByteLengthMax} bytes`
        throw new FramesError('INVALID_ARGUMENT', what)
      }
      const known = this.positions.get(group)
      if (known === undefined && this.positions.size >= consumerGroupCountMax) {
        const what = `the stream has ${this.positions.size} consumer groups already`
        throw new FramesError('MEMORY_BUDGET', what)
      }
      const positions = new Map(known).set(shard, sequence)
      const stored: Stored = [group, ...[...positions].flat()]
      const hash = createHash('sha256').update(group).digest()
      await this.blocks.commitNote(hash.readBigUInt64BE(0), hash.readBigUInt64BE(8), pack(stored))
      this.positions.set(group, positions)
    })
  }
}
