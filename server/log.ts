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

/** Opens the log. A level that is none of the known ones, also "", means debug. */
export function openLog(level: string, destination?: DestinationStream): Log {
  const target = destination ?? pino.destination({ dest: 1, sync: false, maxLength: waitingByteLengthMax })
  return pino({ name: 'v3io-frames', level: levels[level.toLowerCase()] ?? 'debug' }, target)
}
