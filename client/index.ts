// The client of framesd: the engine's verbs, over gRPC or HTTP: `import { connect } from 'framesd/client'`.
import type { Client, ClientOptions } from './client.js'
import { connectGrpc } from './grpc.js'
import { connectHttp } from './http.js'

export type { CallOptions, Client, ClientOptions, FrameSource } from './client.js'
export { FrameCodec } from './frame-codec.js'
export { frameMessage, splitMessages } from '../engine/codec/message-stream.js'
export type { WriteResult } from '../engine/engine-api.js'
import { FramesError } from '../engine/errors.js'
import { checkOptions, type OptionTypes } from '../engine/options.js'
import type { Session } from '../engine/requests.js'

export { type ErrorCode, type ErrorKind, FramesError } from '../engine/errors.js'
export {
  columnOfCells,
  dateOfTime,
  labelBuilder,
  labelColumn,
  nullColumn,
  sliceBuilder,
  sliceColumn,
  timeOfDate,
} from '../engine/frame/builder.js'
export { Column } from '../engine/frame/column.js'
export type { ColumnBuffers, ColumnParts } from '../engine/frame/column.js'
export type { DType, TimeValue, Value } from '../engine/frame/dtype.js'
export { Frame, frameFromMap, frameFromRows, validateFrame } from '../engine/frame/frame.js'
export type { FrameParts, Row } from '../engine/frame/frame.js'
export { rowsOf } from '../engine/frame/rows.js'
export type * from '../engine/requests.js'

const optionTypes: OptionTypes<ClientOptions> = { session: 'object', messageByteLengthMax: 'number' }
const sessionTypes: OptionTypes<Session> = {
  url: 'string',
  container: 'string',
  path: 'string',
  user: 'string',
  password: 'string',
  token: 'string',
  id: 'string',
}

/**
 * A client for the server at an address: `grpc://host:port` or `host:port` for gRPC, `http://host:port` or `https://...`
 * for HTTP. Connects on the first call. Throws INVALID_ARGUMENT for an address that is none of these, and for
 * options of other names or types.
 */
export function connect(address: string, options: ClientOptions = {}): Client {
  checkOptions('a client', options, optionTypes)
  if (options.session) checkOptions('the session of a client', options.session, sessionTypes)
  if (/^https?:\/\//.test(address)) {
    if (!URL.canParse(address)) throw new FramesError('INVALID_ARGUMENT', `address ${address} is no URL`)
    return connectHttp(new URL(address), options)
  }
  const socketAddress = address.replace(/^grpc:\/\//, '').replace(/\/+$/, '')
  if (socketAddress === '') throw new FramesError('INVALID_ARGUMENT', 'empty address')
  if (socketAddress.includes('://')) {
    throw new FramesError('INVALID_ARGUMENT', `address ${address} has a scheme other than grpc, http and https`)
  }
  return connectGrpc(socketAddress, options)
}
