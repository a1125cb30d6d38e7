// A running server: both transports over one engine, from start to stop.
import { type EngineApi, YoungMemory } from '../engine/index.js'
import { type ListenAddress, shownAddress } from './address.js'
import type { Config } from './config.js'
import { startGrpcServer } from './grpc.js'
import { startHttpServer } from './http.js'
import { defaultLimits, type ServerLimits } from './limits.js'
import type { Log } from './log.js'
import { ReceiveBudget } from './receive-budget.js'
import { SendBudget } from './send-budget.js'
import { Verbs } from './verbs.js'

export interface ServerOptions {
  readonly engine: EngineApi
  readonly config: Config
  readonly log: Log
  readonly httpAddress: ListenAddress
  readonly grpcAddress: ListenAddress
  readonly limits?: Partial<ServerLimits>
}

export interface RunningServer {
  readonly httpPort: number
  readonly grpcPort: number
  /** The addresses as start-up prints them. */
  readonly httpShown: string
  readonly grpcShown: string
  /** Takes no more calls, lets those at work finish within a bounded time, then closes the engine. */
  stop(): Promise<void>
}

/** Start-up failed; the message is the one that is printed after `error: `. */
export class StartError extends Error {
  override readonly name = 'StartError'
}

/** Starts both transports. Throws StartError when an address cannot be had; nothing is left open then. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { engine, config, log, httpAddress, grpcAddress } = options
  const limits = { ...defaultLimits, ...options.limits }
  const verbs = new Verbs(engine, config, log)
  const young = new YoungMemory()
  const received = new ReceiveBudget(limits.receivedByteLengthMax, (byteLength) => young.add(byteLength))
  const budgets = { received, sent: new SendBudget(limits.sentByteLengthMax, limits.unreadMsMin) }
  // HTTP comes last: scripts wait until its port answers, and then call over gRPC.
  const grpc = await started('gRPC', '--grpc-addr', startGrpcServer(verbs, grpcAddress, limits, budgets, log))
  const startingHttp = startHttpServer(verbs, httpAddress, limits, budgets, log)
  const http = await started('HTTP', '--http-addr', startingHttp).catch((error: unknown) => {
    grpc.close()
    throw error
  })
  let stopping: Promise<void> | null = null

  async function stop(): Promise<void> {
    http.stopAccepting()
    grpc.stopAccepting()
    await verbs.drain(limits.drainMs)
    // What has just been answered is still on its way out of this process.
    await new Promise((resolve) => setTimeout(resolve, flushMs))
    http.close()
    grpc.close()
    await engine.close()
  }

  return {
    httpPort: http.port,
    grpcPort: grpc.port,
    httpShown: shownAddress(httpAddress, http.port),
    grpcShown: shownAddress(grpcAddress, grpc.port),
    stop: () => (stopping ??= stop()),
  }
}

/** The last bytes of the last answers need this long to leave. */
const flushMs = 50

/** What a newcomer can do about an address that cannot be had. */
const listenFixes: Readonly<Record<string, (flag: string) => string>> = {
  EADDRINUSE: (flag) => `. Stop the program that listens there, or give another address with ${flag}`,
  EACCES: (flag) => `. Ports below 1024 need rights of their own: give another with ${flag}`,
  EADDRNOTAVAIL: (flag) => `. Give an address of this machine with ${flag}, or ":port" for all of them`,
}

async function started<T>(transport: 'HTTP' | 'gRPC', flag: string, starting: Promise<T>): Promise<T> {
  try {
    return await starting
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    const fix = listenFixes[code]?.(flag) ?? ''
    throw new StartError(`can't start ${transport} server - ${reason}${fix}`, { cause: error })
  }
}
