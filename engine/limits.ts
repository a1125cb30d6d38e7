// Every bound of the engine, with its reason. A limit that is met gives a typed error, never a crash.

export const KiB = 1024
export const MiB = 1024 * KiB

/** Rows of one frame: 128 MiB hold 14 Mi times, and a label column can claim 2^60 rows in ten bytes. */
export const frameRowCountMax = 16 * MiB
/** One message of the wire, both ways: what the published clients are built for. */
export const messageByteLengthMax = 128 * MiB
/** Columns of a table: wide tables work, a runaway one gets an error. */
export const tableColumnCountMax = 16_384
/** One cell: it must fit a job and a page. */
export const cellByteLengthMax = 16 * MiB
/** A column, metric or label name, and a label value: compared in memory and repeated in headers. */
export const nameByteLengthMax = 64 * KiB
/** A table path stands in a store key, and LMDB keys end at 1978 bytes. */
export const tablePathByteLengthMax = 1024

/** Rows, cells and encoded bytes of one block: what one job decodes at most. */
export const blockRowCountMax = 128 * KiB
export const blockCellCountMax = 4 * MiB
export const blockByteLengthMax = 16 * MiB
/** Rows of one page: its decoded column (32 KiB) stays in a core's first-level cache. */
export const pageRowCountMax = 4096
/** A stored value: large enough to be cheap to read, small enough to copy when one page is wanted. */
export const segmentByteLength = 256 * KiB

/** A commit smaller than both is one log value; a larger one becomes blocks at once. */
export const logCommitRowCountMax = 4096
export const logCommitByteLengthMax = 256 * KiB
/** A head is flushed into a run of blocks when it reaches either; replay stays under a second. */
export const headRowCountMax = 64 * KiB
export const headByteLengthMax = 8 * MiB

/** A message of a read: large enough to amortise a job, small enough that a slow reader holds little. */
export const readMessageByteLength = 1 * MiB

/** The text of a filter, condition, update or query: parsed on the main thread, in some 100 ms at most. */
export const expressionLengthMax = 1 * MiB
/** Parentheses and calls inside each other: each takes a dozen stack frames of the parser, 2 KiB (a stack has 984). */
export const expressionNestingMax = 200
/** Levels of an expression's tree: those who walk it recurse, and a level takes two or three stack frames. */
export const expressionHeightMax = 500
