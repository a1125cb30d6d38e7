// A server over a fake engine, on free loopback ports, with its log in memory.
import { Writable } from 'node:stream'
import { readConfig } from '../dist/server/config.js'
import type { ServerLimits } from '../dist/server/limits.js'
import { openLog } from '../dist/server/log.js'
import { type RunningServer, startServer } from '../dist/server/start.js'
import { FakeEngine } from './fake-engine.js'

export interface Fixture extends RunningServer {
  readonly engine: FakeEngine
  /** What the server has logged, one line of JSON each. */
  readonly logged: string[]
}

const loopback = { host: '127.0.0.1', port: 0 }

export async function startFixture(
  options: { config?: string | null; limits?: Partial<ServerLimits> } = {},
): Promise<Fixture> {
  const engine = new FakeEngine()
  const logged: string[] = []
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      logged.push(chunk.toString())
      done()
    },
  })
  const server = await startServer({
    engine,
    config: readConfig(options.config ?? null),
    log: openLog('debug', sink),
    httpAddress: loopback,
    grpcAddress: loopback,
    limits: { drainMs: 200, ...options.limits },
  })
  return { ...server, engine, logged }
}
