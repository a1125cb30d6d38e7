// The command line: flags with one or two dashes, as `-flag value` or `-flag=value`, in the published spelling
// (httpAddr) or with hyphens (http-addr).

export interface Flags {
  readonly config?: string
  readonly httpAddr?: string
  readonly grpcAddr?: string
  readonly dataDir?: string
  readonly logLevel?: string
  readonly help?: true
  readonly version?: true
}

export class FlagError extends Error {
  override readonly name = 'FlagError'
}

const withValue = ['config', 'httpAddr', 'grpcAddr', 'dataDir', 'logLevel'] as const
const withoutValue = ['help', 'version'] as const

const logLevels = ['debug', 'info', 'warn', 'error']

export const usage = `Usage: framesd [flags]

Serves time series, key-value tables, streams and CSV files over gRPC and HTTP, until it gets SIGINT (Ctrl-C) or SIGTERM.

  --http-addr ADDR   HTTP listen address (default 127.0.0.1:8080; ":8080" listens on all interfaces)
  --grpc-addr ADDR   gRPC listen address (default 127.0.0.1:8081)
  --data-dir DIR     where everything is kept, made when missing (default framesd-data in the current folder)
  --config FILE      configuration (YAML or JSON); without one all four backends are served with their defaults
  --log-level LEVEL  debug, info, warn or error (default: the configuration's, else debug: a line a request)
  --help             print this and exit
  --version          print the version and exit

A flag takes one or two dashes, "--flag value" or "--flag=value", and is also known as -httpAddr, -grpcAddr, -dataDir.
There is no login: who reaches the ports may read and write everything. What the configuration may say, and how to back up,
watch and upgrade a server: docs/operations.md.
`

const seeHelp = 'framesd --help lists the flags'

function plainName(name: string): string {
  return name.replaceAll('-', '').toLowerCase()
}

/** Throws FlagError for an unknown flag, a missing value and a log level that there is not. */
export function parseFlags(args: readonly string[]): Flags {
  const flags: { -readonly [Name in keyof Flags]: Flags[Name] } = {}
  for (let index = 0; index < args.length; index++) {
    const match = /^--?([A-Za-z][A-Za-z-]*)(?:=([\s\S]*))?$/.exec(args[index])
    if (match === null) throw new FlagError(`unexpected argument ${JSON.stringify(args[index])}; ${seeHelp}`)
    const name = plainName(match[1])
    const valueFlag = withValue.find((flag) => plainName(flag) === name)
    const plainFlag = withoutValue.find((flag) => flag === name || flag[0] === match[1])
    if (valueFlag !== undefined) {
      const value = match[2] ?? args[++index]
      if (value === undefined) throw new FlagError(`flag needs an argument: -${match[1]}; ${seeHelp}`)
      if (valueFlag === 'logLevel' && !logLevels.includes(value.toLowerCase())) {
        throw new FlagError(`-${match[1]} is ${logLevels.join(', ')}, not ${JSON.stringify(value)}`)
      }
      flags[valueFlag] = value
    } else if (plainFlag !== undefined) {
      flags[plainFlag] = true
    } else {
      throw new FlagError(`flag provided but not defined: -${match[1]}; ${seeHelp}`)
    }
  }
  return flags
}
