// The SETTINGS frame: what a peer tells, checked, and what we tell (RFC 9113, section 6.5).
import { errorCode, Http2Error } from './errors.js'
import {
  frameByteLengthMax,
  frameByteLengthMin,
  frameType,
  headByteLength,
  initialWindowByteLength,
  putHead,
  putUint32,
  setting,
  uint32At,
  windowByteLengthMax,
} from './frames.js'
import type { ConnectionOptions } from './owners.js'

const settingByteLength = 6

/** Calls `take` for each setting of a payload. Throws Http2Error for one that may not be. */
export function readSettings(
  payload: Buffer,
  role: ConnectionOptions['role'],
  take: (name: number, value: number) => void,
): void {
  for (let at = 0; at + settingByteLength <= payload.byteLength; at += settingByteLength) {
    const name = (payload[at] << 8) | payload[at + 1]
    const value = uint32At(payload, at + 2)
    if (name === setting.streamWindow && value > windowByteLengthMax) {
      throw new Http2Error(errorCode.flowControl, `INITIAL_WINDOW_SIZE is ${value}`)
    }
    if (name === setting.frameSizeMax && (value < frameByteLengthMin || value > frameByteLengthMax)) {
      throw new Http2Error(errorCode.protocol, `MAX_FRAME_SIZE is ${value}`)
    }
    // A server never takes pushes.
    if (name === setting.enablePush && value > (role === 'server' ? 1 : 0)) {
      throw new Http2Error(errorCode.protocol, `ENABLE_PUSH is ${value}`)
    }
    take(name, value)
  }
}

/** All that we say first: our settings, and the window of the connection. */
export function greeting(options: ConnectionOptions): Buffer {
  const settings: [number, number][] = [
    [setting.streamWindow, options.streamWindowByteLength],
    [setting.frameSizeMax, options.dataFrameByteLengthMax],
    [setting.headerListSizeMax, options.headerListByteLengthMax],
    options.role === 'server' ? [setting.streamCountMax, options.streamCountMax] : [setting.enablePush, 0],
  ]
  const windowByteLength = options.sessionWindowByteLength - initialWindowByteLength
  const settingsByteLength = settings.length * settingByteLength
  const bytes = Buffer.alloc(headByteLength + settingsByteLength + (windowByteLength > 0 ? headByteLength + 4 : 0))
  let at = putHead(bytes, 0, settingsByteLength, frameType.settings, 0, 0)
  for (const [name, value] of settings) {
    bytes[at] = name >>> 8
    bytes[at + 1] = name
    at = putUint32(bytes, at + 2, value)
  }
  if (windowByteLength > 0) {
    putUint32(bytes, putHead(bytes, at, 4, frameType.windowUpdate, 0, 0), windowByteLength)
  }
  return bytes
}
