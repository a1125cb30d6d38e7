#!/usr/bin/env node
// The program: command line, start, stop on a signal.
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { type EngineApi, FramesError, openEngine } from '../engine/index.js'
import { AddressError, parseAddress } from './address.js'
import { type Config, ConfigError, csvRootOf, historyRetentionMs, readConfig } from './config.js'
import { FlagError, type Flags, parseFlags, usage } from './flags.js'
import { type Log, openLog } from './log.js'
import { StartError, startServer } from './start.js'

/** Listening beyond this machine is a decision: without an address given, the server is reached from here only. */
const defaultHttpAddress = '127.0.0.1:8080'
const defaultGrpcAddress = '127.0.0.1:8081'

/** A server runs for months: its code may take longer to compile. Each is measured (docs/measurements.md). */
const v8Flags = [
  // V8 throws the code of functions away that were not called between some of its collections, and compiles them again:
  // with bursts of messages, the collections come several times a second.
  '--no-flush-bytecode',
  // A call goes through hundreds of functions of a microsecond. V8 joins 920 bytes of them into one, and sees four shapes of
  // objects at a place before it looks fields up by name; here both bounds are the main thread's cost of a small query.
  '--max-inlined-bytecode-size-cumulative=4000',
  '--max-valid-polymorphic-map-count=8',
]

const packageUrl = new URL('../../package.json', import.meta.url)
const programVersion: string = JSON.parse(readFileSync(packageUrl, 'utf8')).version

async function main(args: readonly string[]): Promise<void> {
  const flags = parseFlags(args)
  if (flags.help) {
    process.stdout.write(usage)
    return
  }
  process.stdout.write(`framesd version ${programVersion}\n`)
  if (flags.version) return

  for (const flag of v8Flags) setFlagsFromString(flag)
  const config = readConfigFile(flags)
  const log = openLog(flags.logLevel ?? config.log.level)
  const httpAddress = parseListenAddress('HTTP', flags.httpAddr ?? defaultHttpAddress)
  const grpcAddress = parseListenAddress('gRPC', flags.grpcAddr ?? defaultGrpcAddress)
  const engine = await openConfiguredEngine(config, log)
  const server = await startServer({ engine, config, log, httpAddress, grpcAddress }).catch(async (error: unknown) => {
    await engine.close()
    throw error
  })

  const stop = (exitStatus: number) => {
    server.stop().then(
      () => log.flush(() => process.exit(exitStatus)),
      (error: unknown) => fatal(error),
    )
  }
  const onSignal = (signal: NodeJS.Signals) => {
    log.info({ signal }, 'stopping')
    stop(0)
  }
  process.once('SIGTERM', onSignal)
  process.once('SIGINT', onSignal)
  // A promise that nobody waited for concerns one piece of work. An exception that nobody caught leaves state that
  // nobody knows: what is at work may finish, then the process ends.
  process.on('unhandledRejection', (error) => log.error({ err: error }, 'defect: unhandled rejection'))
  process.once('uncaughtException', (error) => {
    log.fatal({ err: error }, 'defect: uncaught exception, stopping')
    stop(1)
  })
  process.stdout.write(`data folder ${resolve(config.dataDir)}\n`)
  // Last: whoever waits for this line may send a signal at once.
  process.stdout.write(`server running on http=${server.httpShown}, grpc=${server.grpcShown}\n`)
}

/** Opens the engine for the configured backends. Throws StartError. */
async function openConfiguredEngine(config: Config, log: Log): Promise<EngineApi> {
  try {
    return await openEngine({
      dataDir: config.dataDir,
      container: config.container,
      ...(config.memoryByteLength === 0 ? {} : { memoryByteLength: config.memoryByteLength }),
      ...(config.workerThreadCount === 0 ? {} : { workerCount: config.workerThreadCount }),
      backends: config.backends.map((backend) => ({
        name: backend.name,
        type: backend.type,
        ...(backend.type === 'csv' ? { rootDir: csvRootOf(backend, config.dataDir) } : {}),
        // Upstream reads one more than it is told.
        ...(backend.type === 'kv' ? { inferItemCount: backend.maxRecordsInferSchema + 1 } : {}),
        ...(backend.type === 'tsdb' && 'ttl' in backend.options ? { ttl: String(backend.options['ttl']) } : {}),
      })),
      history: config.disableHistory ? false : { retentionMs: historyRetentionMs(config) },
      report: (message, error) => log.error({ err: error ?? undefined }, message),
    })
  } catch (error) {
    if (!(error instanceof FramesError)) throw error
    throw new StartError(`can't create HTTP server - can't create API: ${error.message}`, { cause: error })
  }
}

function readConfigFile(flags: Flags): Config {
  let text: string | null = null
  if (flags.config !== undefined) {
    try {
      text = readFileSync(flags.config, 'utf8')
    } catch (error) {
      throw new ConfigError(`can't read config - ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  const config = readConfig(text)
  return flags.dataDir === undefined ? config : { ...config, dataDir: flags.dataDir }
}

function parseListenAddress(transport: 'HTTP' | 'gRPC', text: string) {
  try {
    return parseAddress(text)
  } catch (error) {
    if (error instanceof AddressError) throw new StartError(`can't start ${transport} server - ${error.message}`)
    throw error
  }
}

/** Ends the program: what the user can mend as one line, a defect of ours with its trace. */
function fatal(error: unknown): never {
  const isExpected = error instanceof ConfigError || error instanceof StartError || error instanceof FlagError
  const text = error instanceof Error ? (isExpected ? error.message : (error.stack ?? error.message)) : String(error)
  process.stderr.write(`error: ${text}\n`)
  process.exit(1)
}

main(process.argv.slice(2)).catch(fatal)
