// The public surface of the engine: `import { openEngine } from 'framesd'`.
export { Cancellation, type CancelSignal } from './cancellation.js'
export type {
  CallOptions,
  EngineApi,
  ReadEncodedOptions,
  ReadFormat,
  WireBatch,
  WriteResult,
  WriteSession,
} from './engine-api.js'
export { fromArrowTable, toArrowTable } from './codec/arrow.js'
export { ListedMessages, type WireMessages } from './frame/wire-messages.js'
export { frameMessage, messagePrefixByteLength, splitMessages } from './codec/message-stream.js'
export type { BackendOptions, EngineOptions, EngineStatistics, EngineWriteSession } from './engine.js'
export { Engine, openEngine } from './engine.js'
export type { HistoryOptions } from './history/history.js'
export { Mask } from './history/mask.js'
export type { ErrorCode, ErrorKind } from './errors.js'
export { errorCodes, FramesError } from './errors.js'
export type { SelectParts } from './expression/select-text.js'
export { parseSql } from './expression/select-text.js'
export {
  columnOfCells,
  dateOfTime,
  labelBuilder,
  labelColumn,
  nullColumn,
  sliceBuilder,
  sliceColumn,
  timeOfDate,
} from './frame/builder.js'
export type { ColumnBuffers, ColumnParts } from './frame/column.js'
export { Column } from './frame/column.js'
export type { DType, TimeValue, Value } from './frame/dtype.js'
export type { FrameParts, Row } from './frame/frame.js'
export { Frame, frameFromMap, frameFromRows, validateFrame } from './frame/frame.js'
export { rowsOf } from './frame/rows.js'
export { messageByteLengthMax } from './limits.js'
export { YoungMemory } from './memory/young-memory.js'
export type {
  Caller,
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  HistoryRequest,
  IfExists,
  ReadRequest,
  RecordedRequest,
  SchemaField,
  Session,
  TableRequest,
  TableSchema,
  WriteCounts,
  WriteRequest,
} from './requests.js'
export { sourceOf, type StepSource, Steps } from './steps.js'
export { parseDurationMs } from './time.js'
