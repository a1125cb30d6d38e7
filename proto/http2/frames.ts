// The frames of HTTP/2 as bytes (RFC 9113, sections 4 and 6).
//
//   byte 0      3      4       5           9
//        length  type   flags   stream id   payload
//        u24     u8     u8      u31

/** All that a client sends first (section 3.4). */
export const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')
export const headByteLength = 9

export const frameType = {
  data: 0x0,
  headers: 0x1,
  priority: 0x2,
  resetStream: 0x3,
  settings: 0x4,
  pushPromise: 0x5,
  ping: 0x6,
  goAway: 0x7,
  windowUpdate: 0x8,
  continuation: 0x9,
} as const

export const flag = {
  /** Of DATA and HEADERS. */
  endStream: 0x1,
  /** Of SETTINGS and PING: the same bit. */
  acknowledged: 0x1,
  endHeaders: 0x4,
  padded: 0x8,
  priority: 0x20,
} as const

export const setting = {
  headerTableSize: 0x1,
  enablePush: 0x2,
  streamCountMax: 0x3,
  streamWindow: 0x4,
  frameSizeMax: 0x5,
  headerListSizeMax: 0x6,
} as const

/** What holds before a peer tells its settings. */
export const initialWindowByteLength = 65_535
export const frameByteLengthMin = 16_384
export const frameByteLengthMax = 2 ** 24 - 1
export const initialHeaderTableByteLength = 4096
export const windowByteLengthMax = 2 ** 31 - 1
export const streamIdMax = 2 ** 31 - 1

/** Writes the head of a frame; returns where its payload begins. */
export function putHead(
  target: Buffer,
  at: number,
  byteLength: number,
  type: number,
  flags: number,
  streamId: number,
): number {
  target[at] = byteLength >>> 16
  target[at + 1] = byteLength >>> 8
  target[at + 2] = byteLength
  target[at + 3] = type
  target[at + 4] = flags
  return putUint32(target, at + 5, streamId)
}

/** Writes four bytes, the highest first; returns the place behind them. */
export function putUint32(target: Buffer, at: number, value: number): number {
  target[at] = value >>> 24
  target[at + 1] = value >>> 16
  target[at + 2] = value >>> 8
  target[at + 3] = value
  return at + 4
}

/** Bounds are the caller's. */
export function uint32At(source: Buffer, at: number): number {
  return ((source[at] << 24) | (source[at + 1] << 16) | (source[at + 2] << 8) | source[at + 3]) >>> 0
}
