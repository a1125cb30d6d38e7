// The plain requests of the six verbs. The wire's names in camelCase; a field that is not given is absent.
import type { Value } from './frame/dtype.js'

export interface Session {
  readonly url?: string
  readonly container?: string
  readonly path?: string
  readonly user?: string
  readonly password?: string
  readonly token?: string
  readonly id?: string
}

export type IfExists = 'fail' | 'ignore'

export interface SchemaField {
  readonly name: string
  readonly doc?: string
  readonly default?: Value
  readonly type?: string
  readonly properties?: Readonly<Record<string, Value>>
}

export interface TableSchema {
  readonly type?: string
  readonly namespace?: string
  readonly name?: string
  readonly doc?: string
  readonly aliases?: readonly string[]
  readonly fields?: readonly SchemaField[]
  readonly key?: { readonly shardingKey?: readonly string[]; readonly sortingKey?: readonly string[] }
}

/** What every request says: which backend, which table, for whom. */
export interface TableRequest {
  readonly backend: string
  readonly table: string
  readonly session?: Session
}

export interface CreateRequest extends TableRequest {
  readonly schema?: TableSchema
  readonly ifExists?: IfExists
  readonly rate?: string
  readonly aggregates?: string
  readonly aggregationGranularity?: string
  readonly shards?: bigint
  readonly retentionHours?: bigint
}

/** The head of a write; frames follow through the session it opens. */
export interface WriteRequest extends TableRequest {
  readonly expression?: string
  readonly condition?: string
  readonly partitionKeys?: readonly string[]
  readonly saveMode?: string
  readonly more?: boolean
}

export interface ReadRequest extends TableRequest {
  readonly schema?: TableSchema
  readonly dataFormat?: string
  readonly rowLayout?: boolean
  readonly multiIndex?: boolean
  readonly query?: string
  readonly columns?: readonly string[]
  readonly filter?: string
  readonly groupBy?: string
  readonly limit?: bigint
  /** Rows of one frame at most; 0 or absent: cut by bytes. */
  readonly messageLimit?: bigint
  readonly marker?: string
  readonly segments?: readonly bigint[]
  readonly totalSegments?: bigint
  readonly shardingKeys?: readonly string[]
  readonly sortKeyRangeStart?: string
  readonly sortKeyRangeEnd?: string
  readonly start?: string
  readonly end?: string
  readonly step?: string
  readonly aggregators?: string
  readonly seek?: string
  readonly shardId?: string
  readonly sequence?: bigint
  readonly aggregationWindow?: string
  readonly resetIndex?: boolean
  /** stream: at the end, wait so long for new records before the read ends, each time anew. In ms. */
  readonly followMs?: number
}

export interface DeleteRequest extends TableRequest {
  readonly filter?: string
  readonly ifMissing?: IfExists
  readonly start?: string
  readonly end?: string
  readonly metrics?: readonly string[]
}

export interface ExecuteRequest extends TableRequest {
  readonly command: string
  /** Lists only in a program that embeds the engine: the wire has single values, and takes JSON text for a list. */
  readonly args?: Readonly<Record<string, Value | readonly Value[]>>
  readonly expression?: string
}

export interface HistoryRequest {
  readonly session?: Session
  readonly backend?: string
  readonly table?: string
  readonly user?: string
  readonly action?: string
  readonly minStartTime?: string
  readonly maxStartTime?: string
  readonly container?: string
  readonly minDuration?: bigint
  readonly maxDuration?: bigint
}

/** A request of one of the verbs that the history records. */
export type RecordedRequest =
  | { readonly action: 'read'; readonly request: ReadRequest }
  | { readonly action: 'write'; readonly request: WriteRequest }
  | { readonly action: 'create'; readonly request: CreateRequest }
  | { readonly action: 'delete'; readonly request: DeleteRequest }
  | { readonly action: 'execute'; readonly request: ExecuteRequest }

/** Who asks, where that is not the program that embeds the engine: what the history says of a call beside its request. */
export interface Caller {
  /** `grpc` or `http`. */
  readonly protocol: string
  readonly address: string
  /** Finds the call in the log. */
  readonly requestId: string
  /** Passwords and tokens that came with the call: masked wherever they turn up in its entry, and never kept. */
  readonly secrets: readonly string[]
}

/** What a write has stored: frames taken and rows in them; kv: how many of those a condition or the save mode refused. */
export interface WriteCounts {
  readonly frameCount: number
  readonly rowCount: number
  readonly skippedCount?: number
}
