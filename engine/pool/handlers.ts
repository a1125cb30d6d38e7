// Every kind of job and the function that carries it out: the one place where backends' worker halves come together.
import { kvHandlers } from '../backends/kv/jobs.js'
import { kvMergeHandlers } from '../backends/kv/merge-jobs.js'
import { kvReadHandlers } from '../backends/kv/read-jobs.js'
import { csvHandlers } from '../backends/csv/jobs.js'
import { streamHandlers } from '../backends/stream/jobs.js'
import { tsdbHandlers } from '../backends/tsdb/jobs.js'
import { blockHandlers } from '../blocks/verify.js'
import { frameHandlers } from '../codec/jobs.js'
import { historyHandlers } from '../history/jobs.js'
import type { JobHandler } from './context.js'
import { diagnosticHandlers } from './diagnostics.js'

export { forgetAllBlocks, forgetBlock } from '../blocks/reader.js'

// A handler takes the jobs of its own kind only, and the kind is what finds it: `never` says that to the compiler.
type HandlerTable = Readonly<Record<string, JobHandler<never>>>

const handlers: HandlerTable = {
  ...frameHandlers,
  ...blockHandlers,
  ...tsdbHandlers,
  ...kvHandlers,
  ...kvMergeHandlers,
  ...kvReadHandlers,
  ...csvHandlers,
  ...streamHandlers,
  ...historyHandlers,
}

/** The handlers by kind; those that test the pool itself only when `diagnostics` is set. */
export function handlerTable(diagnostics: boolean): ReadonlyMap<string, JobHandler> {
  const table: HandlerTable = diagnostics ? { ...handlers, ...diagnosticHandlers } : handlers
  return new Map(Object.entries(table)) as ReadonlyMap<string, JobHandler<never>> as ReadonlyMap<string, JobHandler>
}
