// Bytes of a socket in, frames out. Payloads are parts of the chunks they came in; only what is cut between two chunks is
// put together, and DATA is passed on piece by piece.
import { errorCode, Http2Error } from './errors.js'
import { flag, frameType, headByteLength, preface, uint32At } from './frames.js'

/** Takes frames. What it throws ends the reading. */
export interface FrameSink {
  /** The head of a frame that is not DATA: how many bytes of its payload are wanted. They come by `frame`. */
  head(type: number, flags: number, streamId: number, byteLength: number): number
  frame(type: number, flags: number, streamId: number, payload: Buffer): void
  /** The head of a DATA frame; byteLength counts its padding. */
  dataHead(flags: number, streamId: number, byteLength: number): void
  /** A piece of it, without padding. */
  dataPiece(piece: Buffer): void
  /** It has come to its end. */
  dataEnd(flags: number): void
}

const noBytes = Buffer.alloc(0)

enum Place {
  preface,
  head,
  /** A payload that is wanted, or is skipped. */
  payload,
  padLength,
  data,
  padding,
}

export class FrameReader {
  readonly #sink: FrameSink
  #place: Place
  #isStopped = false
  /** A head, or the preface, that has come in part. */
  readonly #partial = Buffer.alloc(headByteLength)
  #partialByteLength = 0
  #type = 0
  #flags = 0
  #streamId = 0
  /** Of the payload that has not come yet; for DATA without its padding. */
  #restByteLength = 0
  #paddingByteLength = 0
  /** A payload that comes in pieces. */
  #payload: Buffer = noBytes
  #payloadByteLength = 0

  /** hasPreface: the bytes begin with a client's preface. */
  constructor(sink: FrameSink, hasPreface: boolean) {
    this.#sink = sink
    this.#place = hasPreface ? Place.preface : Place.head
  }

  /** Nothing is read any more, the rest of a chunk neither. */
  stop(): void {
    this.#isStopped = true
    this.#payload = noBytes
  }

  /** Throws Http2Error, and what the sink throws. */
  read(chunk: Buffer): void {
    let at = 0
    while (at < chunk.byteLength && !this.#isStopped) {
      switch (this.#place) {
        case Place.head:
          at = this.#readHead(chunk, at)
          break
        case Place.payload:
          at = this.#readPayload(chunk, at)
          break
        case Place.data:
          at = this.#readData(chunk, at)
          break
        case Place.padLength:
          this.#takePadLength(chunk[at++])
          break
        case Place.padding:
          at = this.#skipPadding(chunk, at)
          break
        case Place.preface:
          at = this.#readPreface(chunk, at)
      }
    }
  }

  #readPreface(chunk: Buffer, start: number): number {
    const end = Math.min(chunk.byteLength, start + preface.byteLength - this.#partialByteLength)
    for (let at = start; at < end; at++) {
      if (chunk[at] !== preface[this.#partialByteLength++]) {
        throw new Http2Error(errorCode.protocol, 'the connection does not begin as HTTP/2 does')
      }
    }
    if (this.#partialByteLength === preface.byteLength) {
      this.#partialByteLength = 0
      this.#place = Place.head
    }
    return end
  }

  #readHead(chunk: Buffer, start: number): number {
    if (this.#partialByteLength === 0 && start + headByteLength <= chunk.byteLength) {
      this.#takeHead(chunk, start)
      return start + headByteLength
    }
    const end = Math.min(chunk.byteLength, start + headByteLength - this.#partialByteLength)
    this.#partialByteLength += chunk.copy(this.#partial, this.#partialByteLength, start, end)
    if (this.#partialByteLength === headByteLength) {
      this.#partialByteLength = 0
      this.#takeHead(this.#partial, 0)
    }
    return end
  }

  #takeHead(source: Buffer, at: number): void {
    const byteLength = (source[at] << 16) | (source[at + 1] << 8) | source[at + 2]
    const type = source[at + 3]
    const flags = source[at + 4]
    const streamId = uint32At(source, at + 5) & 0x7fffffff
    this.#type = type
    this.#flags = flags
    this.#streamId = streamId
    this.#restByteLength = byteLength
    if (type === frameType.data) {
      this.#sink.dataHead(flags, streamId, byteLength)
      this.#paddingByteLength = 0
      if ((flags & flag.padded) !== 0) {
        if (byteLength === 0) throw new Http2Error(errorCode.frameSize, 'DATA has no room for its padding')
        this.#place = Place.padLength
      } else {
        this.#place = Place.data
        if (byteLength === 0) this.#endData()
      }
      return
    }
    const keptByteLength = this.#sink.head(type, flags, streamId, byteLength)
    this.#payload = noBytes
    this.#payloadByteLength = keptByteLength
    this.#place = Place.payload
    if (byteLength === 0) this.#endPayload(noBytes)
  }

  #readPayload(chunk: Buffer, start: number): number {
    const wanted = this.#payloadByteLength
    const end = Math.min(chunk.byteLength, start + this.#restByteLength)
    const isWhole = end - start === this.#restByteLength
    if (this.#payload === noBytes && isWhole) {
      this.#restByteLength = 0
      this.#endPayload(chunk.subarray(start, start + wanted))
      return end
    }
    // How much of it there is already: all but the rest, and never more than is wanted.
    if (this.#payload === noBytes && wanted > 0) {
      this.#payload = Buffer.allocUnsafe(wanted)
      this.#filledByteLength = 0
    }
    this.#filledByteLength += chunk.copy(this.#payload, this.#filledByteLength, start, end)
    this.#restByteLength -= end - start
    if (isWhole) this.#endPayload(this.#payload)
    return end
  }

  #filledByteLength = 0

  #endPayload(payload: Buffer): void {
    this.#place = Place.head
    this.#payload = noBytes
    this.#sink.frame(this.#type, this.#flags, this.#streamId, payload)
  }

  #takePadLength(padLength: number): void {
    // The byte itself is part of the payload.
    const rest = this.#restByteLength - 1 - padLength
    if (rest < 0) throw new Http2Error(errorCode.protocol, 'the padding of DATA is longer than the frame')
    this.#restByteLength = rest
    this.#paddingByteLength = padLength
    if (rest > 0) this.#place = Place.data
    else if (padLength > 0) this.#place = Place.padding
    else this.#endData()
  }

  #readData(chunk: Buffer, start: number): number {
    const end = Math.min(chunk.byteLength, start + this.#restByteLength)
    this.#restByteLength -= end - start
    if (this.#restByteLength === 0) this.#place = this.#paddingByteLength > 0 ? Place.padding : Place.head
    this.#sink.dataPiece(start === 0 && end === chunk.byteLength ? chunk : chunk.subarray(start, end))
    if (this.#place === Place.head && !this.#isStopped) this.#sink.dataEnd(this.#flags)
    return end
  }

  #skipPadding(chunk: Buffer, start: number): number {
    const end = Math.min(chunk.byteLength, start + this.#paddingByteLength)
    this.#paddingByteLength -= end - start
    if (this.#paddingByteLength === 0) this.#endData()
    return end
  }

  #endData(): void {
    this.#place = Place.head
    this.#sink.dataEnd(this.#flags)
  }
}
