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

export const usage = `Usage: framesd [flags]

  -config FILE     configuration (YAML or JSON); without one all four backends are served with their defaults
  -httpAddr ADDR   HTTP listen address (default 127.0.0.1:8080; ":8080" listens on all interfaces)
  -grpcAddr ADDR   gRPC listen address (default 127.0.0.1:8081)
  -dataDir DIR     where everything is kept (default framesd-data)
  -logLevel LEVEL  debug, info, warn or error (default: the configuration's)
  -help            print this and exit
  -version         print the version and exit

Flags take one or two dashes, "-flag value" or "-flag=value", and hyphens: --http-addr, --grpc-addr, --data-dir.
`

function plainName(name: string): string {
  return name.replaceAll('-', '').toLowerCase()
}

/** Throws FlagError for an unknown flag or a missing value. */
export function parseFlags(args: readonly string[]): Flags {
  const flags: { -readonly [Name in keyof Flags]: Flags[Name] } = {}
  for (let index = 0; index < args.length; index++) {
    const match = /^--?([A-Za-z][A-Za-z-]*)(?:=([\s\S]*))?$/.exec(args[index])
    if (match === null) throw new FlagError(`unexpected argument ${JSON.stringify(args[index])}`)
    const name = plainName(match[1])
    const valueFlag = withValue.find((flag) => plainName(flag) === name)
    const plainFlag = withoutValue.find((flag) => flag === name || flag[0] === match[1])
    if (valueFlag !== undefined) {
      const value = match[2] ?? args[++index]
      if (value === undefined) throw new FlagError(`flag needs an argument: -${match[1]}`)
      flags[valueFlag] = value
    } else if (plainFlag !== undefined) {
      flags[plainFlag] = true
    } else {
      throw new FlagError(`flag provided but not defined: -${match[1]}`)
    }
  }
  return flags
}
