// What the world may do wrong: one code a case, its kind, and how to fix it. docs/errors.md is kept equal to this table.

export type ErrorKind =
  | 'invalid'
  | 'not-found'
  | 'already-exists'
  | 'precondition'
  | 'unauthenticated'
  | 'denied'
  | 'exhausted'
  | 'cancelled'
  | 'deadline'
  | 'unavailable'
  | 'internal'
  | 'data-loss'

export const errorCodes = {
  // Requests
  INVALID_ARGUMENT: { kind: 'invalid', fix: 'Correct the named parameter' },
  REFUSED_PARAMETER: { kind: 'invalid', fix: 'Leave the parameter out; this backend has no use for it' },
  MISSING_PARAMETER: { kind: 'invalid', fix: 'Give both a backend and a table' },
  MALFORMED_REQUEST: { kind: 'invalid', fix: 'Send the messages as proto/frames.proto describes them' },
  REQUEST_TOO_LARGE: { kind: 'exhausted', fix: 'Send a shorter request; only frames may be long' },
  UNKNOWN_SAVE_MODE: {
    kind: 'invalid',
    fix: 'Use createNewItemsOnly, updateItem, overwriteItem, overwriteTable or errorIfTableExists',
  },
  UNKNOWN_BACKEND: {
    kind: 'invalid',
    fix: 'Use the name of a configured backend; without a configuration: tsdb, kv or nosql, stream, csv',
  },
  // Frames
  MALFORMED_FRAME: { kind: 'invalid', fix: 'Send a complete pb.Frame as proto/frames.proto describes it' },
  FRAME_SHAPE: {
    kind: 'invalid',
    fix: 'Give every column and index of a frame the same number of rows, and null_values none or one map a row',
  },
  FRAME_TOO_LARGE: { kind: 'exhausted', fix: 'Split the frame, for example with max_rows_in_msg' },
  VALUE_TOO_LARGE: { kind: 'exhausted', fix: 'Store a shorter value, or several' },
  COLUMN_ACCESS: { kind: 'invalid', fix: 'Ask for rows and a type that the column has' },
  COLUMN_NOT_FOUND: { kind: 'not-found', fix: 'Use the name of a column that there is' },
  VALUE_TYPE: { kind: 'invalid', fix: 'Give values of the type of the column' },
  // Tables
  TABLE_NOT_FOUND: {
    kind: 'not-found',
    fix: 'Check its name and container, or make it: with create, or in kv and csv by writing to it',
  },
  NOT_A_TABLE: { kind: 'precondition', fix: 'Name one of the tables below it' },
  TABLE_EXISTS: {
    kind: 'already-exists',
    fix: 'Delete the table first, or say what happens to it: if_exists=IGNORE of create, another save_mode of write',
  },
  CREATE_NOT_NEEDED: { kind: 'precondition', fix: 'Leave create out; it is of use only with a schema' },
  SHARD_NOT_FOUND: { kind: 'not-found', fix: "Use a shard that the command 'describe' lists" },
  RECORD_NOT_FOUND: { kind: 'not-found', fix: "Seek a record that the shard holds: the command 'describe' tells them" },
  HISTORY_OFF: { kind: 'precondition', fix: 'Take disableHistory out of the configuration' },
  LABELS_TOO_LONG: { kind: 'exhausted', fix: 'Use fewer or shorter labels; long texts belong into a string metric' },
  TOO_MANY_COLUMNS: { kind: 'exhausted', fix: 'Spread the columns over several tables' },
  DUPLICATE_SAMPLE: {
    kind: 'invalid',
    fix: "Send each sample once, or create the table with duplicates 'last' or 'first'",
  },
  // Files of the csv backend
  CSV_SYNTAX: { kind: 'invalid', fix: 'Correct the file: comma, double quotes, UTF-8, as many fields in each line' },
  NO_ROOT_FOLDER: {
    kind: 'precondition',
    fix: 'Open the engine with a data folder, or give the csv backend a rootDir',
  },
  PATH_REFUSED: { kind: 'invalid', fix: 'Name a file below the root folder of the csv backend' },
  FILE_FAILED: { kind: 'precondition', fix: 'Check the file and its folder on the machine that framesd runs on' },
  FILE_CHANGED: { kind: 'precondition', fix: 'Read it again from the start' },
  // Resources
  MEMORY_BUDGET: { kind: 'exhausted', fix: 'Send smaller requests, or raise the memory budget' },
  ANSWER_UNREAD: { kind: 'exhausted', fix: 'Take the frames of a read as they come, or end it' },
  QUEUE_FULL: { kind: 'exhausted', fix: 'Send fewer requests at once and try again' },
  DISK_FULL: { kind: 'exhausted', fix: 'Free disk space; writes are accepted again as soon as there is room' },
  // Who may do what
  UNAUTHENTICATED: { kind: 'unauthenticated', fix: 'Give a user and password, or a token, that the server knows' },
  PERMISSION_DENIED: { kind: 'denied', fix: 'Ask for the right to do this, or use other credentials' },
  // Outcomes of a request
  PRECONDITION: { kind: 'precondition', fix: 'Bring about the state the request asks for, then try again' },
  SERVER_UNREACHABLE: { kind: 'unavailable', fix: 'Check the address, and that the server runs' },
  CANCELLED: { kind: 'cancelled', fix: 'The caller ended the request' },
  DEADLINE_EXCEEDED: { kind: 'deadline', fix: 'Ask for less, or allow more time' },
  SHUTTING_DOWN: { kind: 'unavailable', fix: 'Connect again in a moment' },
  WORKER_DIED: { kind: 'internal', fix: 'Try again; the worker has been replaced' },
  INTERNAL: { kind: 'internal', fix: 'Report this with the request number in the log' },
  // Storage
  VIEW_OUTDATED: { kind: 'internal', fix: 'Try again; the table changed meanwhile' },
  TABLE_REPLACED: { kind: 'internal', fix: 'Try again; the table was overwritten meanwhile' },
  COMMIT_CONFLICT: { kind: 'internal', fix: 'Try again; another writer changed the table first' },
  STORE_READ_ONLY: { kind: 'internal', fix: 'Restart framesd after checking the disk; a flush to disk failed' },
  STORE_FAILED: { kind: 'unavailable', fix: 'Restart framesd; whether the last writes are stored shows after that' },
  STORE_IN_USE: { kind: 'precondition', fix: 'Stop the other framesd process, or use another data folder' },
  STORE_FOLDER: { kind: 'precondition', fix: 'Name a folder that this user may make and write to' },
  DATA_DAMAGED: { kind: 'data-loss', fix: 'Restore the named block from a backup; other data stays readable' },
  FORMAT_VERSION: { kind: 'precondition', fix: 'Open this data folder with the version of framesd that wrote it' },
} as const satisfies Record<string, { kind: ErrorKind; fix: string }>

export type ErrorCode = keyof typeof errorCodes

/** An error the caller can act on. `message` starts with what was wrong and ends with how to fix it. */
export class FramesError extends Error {
  override readonly name = 'FramesError'
  readonly code: ErrorCode
  /** The message without its last sentence, which says how to fix it. */
  readonly what: string

  constructor(code: ErrorCode, what: string, options?: { cause?: unknown }) {
    super(`${what}${/[.?!]$/.test(what) ? '' : '.'} ${errorCodes[code].fix}.`, options)
    this.code = code
    this.what = what
  }

  get kind(): ErrorKind {
    return errorCodes[this.code].kind
  }

  /** The same error with `prefix: ` before its message, as each layer that passes it on names itself. */
  prefixed(prefix: string): FramesError {
    return new FramesError(this.code, `${prefix}: ${this.what}`, { cause: this })
  }
}

/** A caller's text as it stands in a message: cut where it gets long, so that the message stays readable. */
export function shortened(text: string): string {
  return text.length <= 300 ? text : `${text.slice(0, 300)}…`
}

/** The form in which an error crosses a thread boundary. */
export interface ErrorMessage {
  readonly code: ErrorCode
  readonly what: string
}

export function toErrorMessage(error: FramesError): ErrorMessage {
  return { code: error.code, what: error.what }
}

export function fromErrorMessage({ code, what }: ErrorMessage): FramesError {
  return new FramesError(code, what)
}
