#!/usr/bin/env node
// The program: command line, start, stop on a signal.
import { readFileSync } from 'node:fs'
import { openEngine } from '../engine/index.js'
import { AddressError, parseAddress } from './address.js'
import { type Config, ConfigError, csvRootOf, readConfig } from './config.js'
import { FlagError, type Flags, parseFlags, usage } from './flags.js'
import { openLog } from './log.js'
import { StartError, startServer } from './start.js'

/** Listening beyond this machine is a decision: without an address given, the server is reached from here only. */
const defaultHttpAddress = '127.0.0.1:8080'
const defaultGrpcAddress = '127.0.0.1:8081'

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

  const config = readConfigFile(flags)
  const log = openLog(flags.logLevel ?? config.log.level)
  const httpAddress = parseListenAddress('HTTP', flags.httpAddr ?? defaultHttpAddress)
  const grpcAddress = parseListenAddress('gRPC', flags.grpcAddr ?? defaultGrpcAddress)
  const engine = await openEngine({
    dataDir: config.dataDir,
    report: (message, error) => log.error({ err: error ?? undefined }, message),
    backends: config.backends.map((backend) => ({
      name: backend.name,
      type: backend.type,
      ...(backend.type === 'csv' ? { rootDir: csvRootOf(backend, config.dataDir) } : {}),
    })),
  })
  const server = await startServer({ engine, config, log, httpAddress, grpcAddress })
  process.stdout.write(`server running on http=${server.httpShown}, grpc=${server.grpcShown}\n`)

  const stop = (signal: NodeJS.Signals) => {
    log.info({ signal }, 'stopping')
    server.stop().then(
      () => log.flush(() => process.exit(0)),
      (error: unknown) => fatal(error),
    )
  }
  process.once('SIGTERM', stop)
  process.once('SIGINT', stop)
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
