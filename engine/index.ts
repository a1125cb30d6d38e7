// SEAM of branch `server`, to be replaced by the real surface of the engine: the types the server works with, and an
// engine that is not there yet.
import type { EngineApi } from './engine-api.js'
import { FramesError } from './errors.js'

export { frameMessage, messagePrefixByteLength, splitMessages } from './codec/message-stream.js'
export * from './engine-api.js'
export * from './errors.js'
export type { Value } from './frame/dtype.js'
export * from './requests.js'
export { messageByteLengthMax } from './limits.js'

export interface EngineOptions {
  readonly dataDir: string
  readonly backends: readonly { readonly name: string; readonly type: string; readonly rootDir?: string }[]
}

export async function openEngine(options: EngineOptions): Promise<EngineApi> {
  throw new FramesError('NOT_IN_THIS_VERSION', `no engine can open '${options.dataDir}' yet`)
}
