// The plain requests of the six verbs. The wire's names in camelCase; a field that is not given is absent.
//
// Times are texts: RFC 3339 ('2024-06-01T12:00:00Z'), relative ('now-7d'), or milliseconds since 1970. Durations are a number and a
// unit ('30s', '5m', '1h', '7d'). A backend refuses what it has no use for (REFUSED_PARAMETER).
import type { Value } from './frame/dtype.js'

/** For whom. User, password and token are not checked; the history keeps the user, and never a secret. */
export interface Session {
  readonly url?: string
  /** The name space of the table. */
  readonly container?: string
  readonly path?: string
  readonly user?: string
  readonly password?: string
  readonly token?: string
  readonly id?: string
}

/** What happens to a table that is there already, or is missing: an error (the default), or nothing. */
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
  /** `tsdb`, `kv` (also `nosql`), `stream`, `csv`, or another name of the configuration. */
  readonly backend: string
  /** A path such as `weather/oslo`; csv: the name of a file. */
  readonly table: string
  readonly session?: Session
}

export interface CreateRequest extends TableRequest {
  readonly schema?: TableSchema
  readonly ifExists?: IfExists
  /** tsdb, needed: how often a series has a sample at most, '1/s', '12/m'. Samples may come more often. */
  readonly rate?: string
  /** tsdb: functions whose answers are kept ready, 'count,avg,max', in stretches of aggregationGranularity, '1h'. */
  readonly aggregates?: string
  readonly aggregationGranularity?: string
  /** stream: parts whose records are in order, 1 unless given. */
  readonly shards?: bigint
  /** stream: records that are older are gone, 24 unless given. */
  readonly retentionHours?: bigint
}

/** The head of a write; frames follow through the session it opens. */
export interface WriteRequest extends TableRequest {
  /** kv: what each row does to its item, '{age} > age' and 'visits = visits + {visits}' with columns in braces (docs/expressions.md). */
  readonly expression?: string
  readonly condition?: string
  /** kv: columns whose values are the item's folder. */
  readonly partitionKeys?: readonly string[]
  /**
   * kv: createNewItemsOnly passes over items that are there; updateItem changes their attributes; overwriteItem replaces
   * them; overwriteTable replaces the table at once; errorIfTableExists, unless given.
   */
  readonly saveMode?: string
  /** stream, csv: more frames will follow. */
  readonly more?: boolean
}

export interface ReadRequest extends TableRequest {
  readonly schema?: TableSchema
  /** Over HTTP: 'arrow' answers in Arrow, rowLayout in JSON rows, if the request accepts it (docs/formats.md). */
  readonly dataFormat?: string
  readonly rowLayout?: boolean
  /** tsdb: labels are index columns beside the time. */
  readonly multiIndex?: boolean
  /** tsdb: a SELECT, instead of table, columns, aggregators, filter and groupBy. */
  readonly query?: string
  /** Value columns; all unless given. */
  readonly columns?: readonly string[]
  /** tsdb: of labels, "host == 'ant'"; kv and stream: of attributes (docs/expressions.md); csv: no effect. */
  readonly filter?: string
  /** tsdb, beside aggregators: labels with commas between them; 'time' pools all series. */
  readonly groupBy?: string
  /** Rows of the whole answer. Where it ends one early, the label `next_marker` of the last frame is the marker that goes on. */
  readonly limit?: bigint
  /** Rows of one frame at most; 0 or absent: cut by bytes. */
  readonly messageLimit?: bigint
  readonly marker?: string
  /** kv: only these of totalSegments parts, counted from 0: together they are the table. */
  readonly segments?: readonly bigint[]
  readonly totalSegments?: bigint
  /** kv: items of these keys, and of them those whose sorting key is in the range. */
  readonly shardingKeys?: readonly string[]
  readonly sortKeyRangeStart?: string
  readonly sortKeyRangeEnd?: string
  /** tsdb: an hour before the end unless given. stream: where seek 'time' begins. */
  readonly start?: string
  /** tsdb, stream: now unless given. */
  readonly end?: string
  /** tsdb: '5m': beside aggregators the length of a bucket, without them the distance of the points that series are sampled at. */
  readonly step?: string
  /** tsdb: functions with commas between them: count, sum, sqr, min, max, last, avg, rate, stddev, stdvar; `sum_all` is across series. */
  readonly aggregators?: string
  /** stream, needed: 'earliest', 'latest', 'time' (beside start), 'sequence' (beside sequence and shardId). */
  readonly seek?: string
  /** stream: one shard; all unless given. */
  readonly shardId?: string
  readonly sequence?: bigint
  /** tsdb: how far back from its end a bucket looks, instead of over its step. */
  readonly aggregationWindow?: string
  /** kv: keys are ordinary columns. */
  readonly resetIndex?: boolean
  /** stream: at the end, wait so long for new records before the read ends, each time anew. In ms. */
  readonly followMs?: number
}

export interface DeleteRequest extends TableRequest {
  /** tsdb: of label sets; kv: of items. Without any of these fields the table goes. */
  readonly filter?: string
  readonly ifMissing?: IfExists
  /** tsdb: samples of a range; start is the beginning of all times where only end is given, end is now. */
  readonly start?: string
  readonly end?: string
  /** tsdb: of these metrics only. */
  readonly metrics?: readonly string[]
}

export interface ExecuteRequest extends TableRequest {
  /** A wrong one is answered with the list of those that the backend has. */
  readonly command: string
  /**
   * Lists only in a program that embeds the engine: the wire has single values, and takes JSON text for a list.
   * tsdb: `series`, `labels` and `label_values` take `filter`, `limit` and `offset` (of rows), `label_values` needs `label`; the others take none.
   */
  readonly args?: Readonly<Record<string, Value | readonly Value[]>>
  readonly expression?: string
}

/** Texts are compared whole; all of what is given must hold. */
export interface HistoryRequest {
  readonly session?: Session
  readonly backend?: string
  readonly table?: string
  readonly user?: string
  /** `create`, `write`, `read`, `delete`, `execute`. */
  readonly action?: string
  readonly minStartTime?: string
  readonly maxStartTime?: string
  readonly container?: string
  /** In whole milliseconds. */
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
