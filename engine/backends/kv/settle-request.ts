// What a settle job is asked, and what it answers.
import type { PreparedBlock } from '../../blocks/merge-rule.js'
import type { SentKills } from '../../blocks/sent-kills.js'
import type { ErrorMessage } from '../../errors.js'
import { conditionOf, updateOf } from '../../expression/cache.js'
import type { Expression, UpdateAction } from '../../expression/tree.js'
import type { AssignedCell, AssignedColumn } from './assigned-cells.js'
import type { FrameInput } from '../frame-input.js'
import type { KvSchema } from './schema.js'

export type SaveMode = 'errorIfTableExists' | 'overwriteTable' | 'updateItem' | 'overwriteItem' | 'createNewItemsOnly'

/** What a write does with each of its rows. */
export interface WriteRule {
  readonly saveMode: SaveMode
  /** Rows for which it is false are skipped; null: none. */
  readonly condition: Expression | null
  /** Applied to the item instead of the row's cells; null: the cells are. */
  readonly actions: readonly UpdateAction[] | null
  readonly partitionKeys: readonly string[]
}

/** A rule as a job is told it: its expressions are texts ('': none), which a worker parses and compiles once. */
export interface SentRule {
  readonly saveMode: SaveMode
  readonly condition: string
  readonly expression: string
  /** Whether the expressions may have placeholders. */
  readonly isTemplate: boolean
  readonly partitionKeys: readonly string[]
}

/** A frame of a write, or one item that `execute update` changes. */
export type Write =
  | { readonly kind: 'frame'; readonly input: FrameInput; readonly rowStart: bigint }
  | {
      readonly kind: 'item'
      readonly folder: string
      readonly name: string
      /** What it is assigned; null: its rule's expression says it. Items of one rule have the same attributes and types. */
      readonly cells: readonly AssignedCell[] | null
    }

/**
 * Writes as a job is told them: a frame, or single items that follow one another by one rule.
 *
 * session  writes of one session fail together, from the first that fails on; each item has its own: the first has this
 *          number, the others those behind it
 */
export type SettleWrite =
  | (Extract<Write, { kind: 'frame' }> & { readonly session: number; readonly rule: number })
  | {
      readonly kind: 'items'
      readonly names: readonly string[]
      /** Null: all of them stand at the root. */
      readonly folders: readonly string[] | null
      /** What they are assigned, where their rule has no expression. */
      readonly assigned: readonly AssignedColumn[]
      readonly session: number
      readonly rule: number
    }

export interface SettleRequest {
  readonly schema: KvSchema
  readonly rules: readonly WriteRule[]
  /** In the order in which they take effect. */
  readonly writes: readonly SettleWrite[]
  /** Times of what changes. */
  readonly nowNs: bigint
}

/** Of a frame or an item. error: nothing of it is stored; abandoned: an earlier write of its session failed. */
export interface SettledWrite {
  readonly rowCount: number
  readonly skippedCount: number
  readonly error: ErrorMessage | null
  readonly isAbandoned: boolean
}

/** writes: of each frame and item. schema: null when it is unchanged. */
export interface SettleResult {
  readonly writes: readonly SettledWrite[]
  readonly blocks: readonly PreparedBlock[]
  readonly kills: SentKills
  readonly schema: KvSchema | null
}

/** What a rule means. The same texts give the same trees. Throws what is wrong with them. */
export function ruleOf({ saveMode, condition, expression, isTemplate, partitionKeys }: SentRule): WriteRule {
  const options = { template: isTemplate }
  return {
    saveMode,
    condition: condition === '' ? null : conditionOf(condition, options),
    actions: expression === '' ? null : updateOf(expression, options),
    partitionKeys,
  }
}
