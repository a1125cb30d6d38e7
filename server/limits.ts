// Every bound of the two transports, with its reason. Tests set smaller ones.
import { messageByteLengthMax } from '../engine/index.js'
import type { ReceiveBudget } from './receive-budget.js'
import type { SendBudget } from './send-budget.js'

const KiB = 1024
const MiB = 1024 * KiB
const minuteMs = 60_000

export interface ServerLimits {
  /** One frame or gRPC message, both ways: what the published clients are built for. */
  readonly messageByteLengthMax: number
  /** A request that is not a frame. Decoded it can take twenty times its bytes, so it has a bound of its own. */
  readonly controlByteLengthMax: number
  /** What all peers have sent and nobody has taken yet: four of the largest messages. Above it the largest is refused. */
  readonly receivedByteLengthMax: number
  /** Answers that have been sent and have not left: 128 messages. Above it, who has not read for longest is given up. */
  readonly sentByteLengthMax: number
  /** Nobody who reads at all takes longer over one message. */
  readonly unreadMsMin: number
  /** Compressed messages that are expanded at once: one takes twice the largest message meanwhile. */
  readonly expansionCountMax: number
  /** Buffers of gRPC messages that wait for the next message. */
  readonly messageBuffersByteLengthMax: number
  /** Connections of each transport; one that does nothing costs some 20 kB. */
  readonly connectionCountMax: number
  /** Calls at work on one HTTP/2 connection; clients queue what is beyond. */
  readonly sessionStreamCountMax: number
  /**
   * gRPC calls at work on all connections; one takes some 8 kB. Above it those connections are refused new ones that have more than their
   * part of it.
   */
  readonly callCountMax: number
  /** Calls a client may break off on one session: so many at once, so many a second in the long run (rapid reset). */
  readonly resetBurstMax: number
  readonly resetPerSecondMax: number
  /** Frames of a session that ask for work and bring nothing: pings, settings, window updates without answers. */
  readonly controlBurstMax: number
  readonly controlPerSecondMax: number
  /** The header list of one gRPC call. */
  readonly headerListByteLengthMax: number
  /** Receive windows of an HTTP/2 session while there are few of them, and its largest DATA frame. */
  readonly streamWindowByteLength: number
  readonly sessionWindowByteLength: number
  readonly dataFrameByteLengthMax: number
  /** From this many sessions on, new ones get the small window: unread bytes (sessions × window) stay near 256 MiB. */
  readonly wideSessionCountMax: number
  readonly smallWindowByteLength: number
  /** From connecting to the end of HTTP/2 settings, or of HTTP headers: who is slower holds the socket for nothing. */
  readonly handshakeMs: number
  /** A JSON body, and the head of a write, must have come within this. */
  readonly controlBodyMs: number
  /** Silence inside the body of a write. */
  readonly bodyIdleMs: number
  /** A call on which nothing moved in either direction: the peer has stopped reading, or is gone. */
  readonly stalledCallMs: number
  /** An idle connection is kept this long, and asked for a sign of life this often. */
  readonly connectionIdleMs: number
  readonly connectionAgeMs: number
  readonly keepaliveMs: number
  readonly keepaliveAnswerMs: number
  /** HTTP/1.1 connections without a request; clients pool them. */
  readonly httpKeepAliveMs: number
  readonly headerByteLengthMax: number
  /** Calls at work when the server is told to stop may take this long: whoever stops programs kills them after ten seconds. */
  readonly drainMs: number
}

/** The bounds that both transports share while they run. */
export interface Budgets {
  readonly received: ReceiveBudget
  readonly sent: SendBudget
}

export const defaultLimits: ServerLimits = {
  messageByteLengthMax,
  controlByteLengthMax: 8 * MiB,
  receivedByteLengthMax: 512 * MiB,
  sentByteLengthMax: 256 * MiB,
  unreadMsMin: 10_000,
  expansionCountMax: 2,
  messageBuffersByteLengthMax: 48 * MiB,
  connectionCountMax: 4096,
  sessionStreamCountMax: 256,
  callCountMax: 65_536,
  resetBurstMax: 500,
  resetPerSecondMax: 50,
  controlBurstMax: 10_000,
  controlPerSecondMax: 1000,
  headerListByteLengthMax: 64 * KiB,
  streamWindowByteLength: 8 * MiB,
  sessionWindowByteLength: 16 * MiB,
  dataFrameByteLengthMax: 1 * MiB,
  wideSessionCountMax: 16,
  smallWindowByteLength: 256 * KiB,
  handshakeMs: 20_000,
  controlBodyMs: 1 * minuteMs,
  bodyIdleMs: 5 * minuteMs,
  stalledCallMs: 30 * minuteMs,
  connectionIdleMs: 10 * minuteMs,
  connectionAgeMs: 240 * minuteMs,
  keepaliveMs: 1 * minuteMs,
  keepaliveAnswerMs: 20_000,
  httpKeepAliveMs: 75_000,
  headerByteLengthMax: 16 * KiB,
  drainMs: 7_000,
}
