// The log: pino on stdout, one line a request. No line ever carries a password or a token; names of tables are fine.
import { type DestinationStream, type Logger, pino } from 'pino'

export type Log = Logger

const levels: Readonly<Record<string, string>> = {
  debug: 'debug',
  info: 'info',
  warn: 'warn',
  error: 'error',
  dpanic: 'fatal',
  panic: 'fatal',
  fatal: 'fatal',
}

/** Lines that a reader of stdout may leave waiting, in bytes; what comes after is dropped rather than held. */
const waitingByteLengthMax = 16 * 1024 * 1024

/** Lines wait so long, or until there are so many bytes of them, and leave together. */
const gatherMs = 50
const gatheredByteLength = 32 * 1024
const handedOnLength = gatheredByteLength / 4

/** Opens the log. A level that is none of the known ones, also "", means debug. */
export function openLog(level: string, destination?: DestinationStream): Log {
  return pino(
    { name: 'v3io-frames', level: levels[level.toLowerCase()] ?? 'debug' },
    destination ?? new GatheredLines(),
  )
}

/**
 * Lines on stdout. Written one by one, each wakes a thread of the pool and then the main thread, between the answer of a
 * call and its end. A process that ends by itself writes all of them; one that is killed loses what gathered since.
 */
class GatheredLines implements DestinationStream {
  readonly #output = pino.destination({
    dest: 1,
    sync: false,
    minLength: gatheredByteLength,
    maxWrite: 2 * gatheredByteLength,
    maxLength: waitingByteLengthMax,
  })
  /** Handed on together: pino's stream counts the bytes of whatever it is given, and lengthens one text each time. */
  #lines: string[] = []
  #length = 0
  #timer: NodeJS.Timeout | null = null
  readonly #onTime = (): void => {
    this.#timer = null
    this.#handOn()
    this.#output.flush()
  }

  constructor() {
    // Before pino writes what its stream has.
    process.prependListener('beforeExit', () => this.#handOn())
    process.prependListener('exit', () => this.#handOn())
  }

  write(line: string): void {
    this.#lines.push(line)
    this.#length += line.length
    if (this.#length >= handedOnLength) this.#handOn()
    this.#timer ??= setTimeout(this.#onTime, gatherMs).unref()
  }

  #handOn(): void {
    if (this.#lines.length === 0) return
    const text = this.#lines.join('')
    this.#lines = []
    this.#length = 0
    this.#output.write(text)
  }

  flush(onFlushed?: (error?: Error) => void): void {
    this.#handOn()
    this.#output.flush(onFlushed)
  }

  flushSync(): void {
    this.#handOn()
    this.#output.flushSync()
  }
}
