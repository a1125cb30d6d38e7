// Every bound of the engine, with its reason. A limit that is met gives a typed error, never a crash.

export const KiB = 1024
export const MiB = 1024 * KiB

/** Rows of one frame: 128 MiB hold 14 Mi times, and a label column can claim 2^60 rows in ten bytes. */
export const frameRowCountMax = 16 * MiB
/** One message of the wire, both ways: what the published clients are built for. */
export const messageByteLengthMax = 128 * MiB
/** Columns of a table: wide tables work, a runaway one gets an error. */
export const tableColumnCountMax = 16_384
/** A column, metric or label name, and a label value: compared in memory and repeated in headers. */
export const nameByteLengthMax = 64 * KiB
/** One cell: it is compressed and read whole, in the memory of one job. */
export const cellByteLengthMax = 16 * MiB
/** Labels of a frame: a handful in practice; each record of a message costs an object to read. */
export const frameLabelCountMax = 4096
/** All names, labels and the error text of one frame: they become JavaScript strings, and a worker's heap is small. */
export const frameNamesByteLengthMax = 16 * MiB
/** A table path stands in a store key, and LMDB keys end at 1978 bytes. */
export const tablePathByteLengthMax = 1024

/** A key of a store without its partition's name: LMDB takes 1978 bytes with it. */
export const storeKeyByteLengthMax = 1900

/** Rows, cells and encoded bytes of one block: what one job decodes at most. */
export const blockRowCountMax = 128 * KiB
export const blockCellCountMax = 4 * MiB
export const blockByteLengthMax = 16 * MiB
/** Rows of one page: its decoded column (32 KiB) stays in a core's first-level cache. */
export const pageRowCountMax = 4096
/** The same of item blocks: a look-up decodes a page of names for the sake of one. */
export const kvPageRowCountMax = 1024
/**
 * A stored value of pages: small enough to be copied for the sake of one page, large enough that few are needed.
 * 24 bytes less than whole pages of LMDB, so that a value fills its pages.
 */
export const segmentByteLength = 64 * KiB - 24

/** A commit smaller than both is one log value; a larger one becomes blocks at once. */
export const logCommitRowCountMax = 4096
export const logCommitByteLengthMax = 256 * KiB

/** Step points of a read that interpolates, and so may have a row at each: seven years of seconds. */
export const stepPointCountMax = 256 * MiB

/** Value columns of an answer: all functions of all metrics of the widest table. Each is a head in every message. */
export const readColumnCountMax = 10 * tableColumnCountMax

/** Rows of a LIMIT by time: their times are compared with each other. */
export const orderedRowCountMax = 1_000_000

/** Rows of a listing of series or labels: they are plain values on their way. */
export const listingRowCountMax = 100_000

/** A message of a read: large enough to amortise a job, small enough that a slow reader holds little. */
export const readMessageByteLength = 1 * MiB
/** A job that reads a stream ends when its messages have this many bytes. */
export const streamJobByteLength = 2 * readMessageByteLength

/** What one job of a read makes before it ends: there are a few for each worker and reader, and each costs 0.2 ms by itself. */
export const readJobByteLength = 2 * readMessageByteLength

/** One record of a CSV file: a quote that is never closed must not pull the whole file into memory. */
export const csvRecordByteLengthMax = 32 * MiB
/** Cells that the csv command `ping` answers with: they are plain values of the main thread. */
export const csvPingCellCountMax = 1 * MiB

/** The shared memory by default: this part of the machine's memory, and no more than the maximum (pointers stay small). */
export const memoryShareOfMachine = 1 / 4
export const memoryByteLengthDefaultMax = 1024 * MiB
/** Below 4 GiB, because a kernel's pointer has 32 bits; above 2 GiB pointers from kernels would need `>>> 0`. */
export const memoryByteLengthMax = 2048 * MiB
/** The part of the arenas that only jobs may use: without it, frames that wait for a job could fill all there is. */
export const arenaShareOfJobs = 1 / 4
/** Callers that wait for memory of one region: each is a request that holds a socket; more are told to come back. */
export const arenaWaiterCountMax = 1024
/** Nobody waits for memory longer: what holds it for so long is stuck, perhaps waiting for memory itself. */
export const arenaWaitMsMax = 30_000

/** Workers by default: one a core, and no more, because beyond that jobs wait for the main thread. */
export const workerCountDefaultMax = 8

/** Each worker thread takes some 30 MB and its part of the shared memory; thousands of them end a machine. */
export const workerCountMax = 256
/**
 * A worker's own heap; columns are in the shared memory, so a heap this large is a mistake, and ends one worker. But V8
 * ends the whole process when a single object is too large for a heap that is almost full (seen: arrays and maps of tens
 * of MiB): what grows with the data never stands in a JavaScript array or map of a worker, but in its scratch.
 */
export const workerHeapByteLengthMax = 512 * MiB
/**
 * Of it, what was made lately: three halves of the young generation, as V8 counts. Unset, each worker's grows to twice as much,
 * and collections of it are no cheaper.
 */
export const workerYoungByteLengthMax = 24 * MiB
/** Jobs that wait for a worker. They hold no memory of the arenas, only their message. */
export const jobQueueCountMax = 4096
/** Times that a job is sent again because its scratch was too small; each time it gets at least twice as much. */
export const jobRetryCountMax = 16
/** A job that ignores its cancellation for so long is stuck; its worker is ended. Jobs test for it once a page. */
export const jobCancelMsMax = 30_000
/** Workers that cannot be started are tried again after 50 ms, then twice as long each time, up to this. */
export const workerStartRetryMsMax = 5_000
/** Failed starts in a row, with no worker left, after which those who wait are told. */
export const workerStartFailureCountMax = 3
/** How long running jobs have to end when the pool closes, before they are cancelled; a second later they are ended. */
export const poolCloseGraceMs = 5_000
/** The text of a filter, condition, update or query: parsed on the main thread, in some 100 ms at most. */
export const expressionLengthMax = 1 * MiB
/** Parentheses and calls inside each other: each takes a dozen stack frames of the parser, 2 KiB (a stack has 984). */
export const expressionNestingMax = 200
/** Levels of an expression's tree: those who walk it recurse, and a level takes two or three stack frames. */
export const expressionHeightMax = 500
/** A text or a blob that an expression makes: `a = a + a` in a long update would double it without end. */
export const expressionValueByteLengthMax = 4 * MiB
/** Instructions of a compiled regular expression: each is looked at for every character of the text. */
export const regexpInstructionCountMax = 1024
/** Instructions times characters of one search, some 100 ms. */
export const regexpStepCountMax = 20_000_000

/** Decoded pages of stored blocks, while a write looks for duplicates in them. */
export const duplicateCheckByteLength = 8 * MiB

/** All labels of one series: they are compared in memory, and every frame of an answer repeats them. */
export const labelSetByteLengthMax = 1 * MiB

/** Shards of a stream: each commit names those it has records for, and a merge of all shards keeps a place in each. */
export const streamShardCountMax = 1024
/** Data of one record that is put as text: fits a job. */
export const recordByteLengthMax = 16 * MiB
/** Consumer groups of a stream, whose positions are kept in memory. */
export const consumerGroupCountMax = 1024
