// The configuration file: YAML (JSON is YAML), keys in any letter case, unknown keys ignored. Zero and empty count as
// "not set" for every value with a default.
import { join } from 'node:path'
import { parse } from 'yaml'
import { FramesError, parseDurationMs } from '../engine/index.js'

export type BackendType = 'kv' | 'stream' | 'csv' | 'tsdb'

export interface BackendConfig {
  readonly type: BackendType
  readonly name: string
  readonly workers: number
  readonly updateWorkersPerVN: number
  readonly v3ioGoWorkers: number
  readonly v3ioGoRequestChanLength: number
  readonly maxConnections: number
  readonly dialTimeoutSeconds: number
  readonly maxRecordsInferSchema: number
  readonly options: Readonly<Record<string, unknown>>
  /** csv only: the folder of the files. */
  readonly rootdir: string
}

export interface Config {
  readonly log: { readonly level: string }
  /** Rows of a read that sets no limit itself; 0: all. */
  readonly limit: number
  /** Seconds the end of a write may take. */
  readonly timeout: number
  readonly webApiEndpoint: string
  readonly container: string
  readonly username: string
  readonly password: string
  readonly sessionKey: string
  readonly workers: number
  readonly updateWorkersPerVN: number
  readonly querierCacheSize: number
  readonly tsdbMetricCacheSize: number
  readonly writeMonitoringLogsTimeoutSeconds: number
  readonly pendingLogsBatchSize: number
  readonly logsFolderPath: string
  readonly logsContainer: string
  readonly maxBytesInNginxRequest: number
  readonly historyFileDurationSpans: string
  readonly historyFileNum: number
  readonly disableHistory: boolean
  readonly disableProfiling: boolean
  /** What the version call answers. Clients compare it with their own up to the last dot, and warn when they differ. */
  readonly version: string
  readonly dataDir: string
  /** The engine's shared memory; 0: a quarter of the machine's, up to 1 GiB. */
  readonly memoryByteLength: number
  /** The engine's worker threads; 0: one a core, up to 8. `workers` is upstream's, and has no meaning here. */
  readonly workerThreadCount: number
  readonly backends: readonly BackendConfig[]
}

/** The published Python client is of the line 0.13: an answer of that line keeps it from warning. */
const clientLineVersion = 'v0.13.13'

/** The configuration cannot be used; the message is the one that start-up prints. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

type Settings = Readonly<Record<string, unknown>>

/** Reads one level of the file: by key in any letter case, with the type checked. */
class Reader {
  readonly #byKey = new Map<string, unknown>()
  readonly #where: string

  constructor(value: unknown, where: string) {
    this.#where = where
    if (value === null || value === undefined) return
    if (typeof value !== 'object' || Array.isArray(value)) throw unfit(where, 'a map', value)
    for (const [key, entry] of Object.entries(value)) this.#byKey.set(key.toLowerCase(), entry)
  }

  get(key: string): unknown {
    return this.#byKey.get(key.toLowerCase())
  }

  text(key: string, whenUnset = ''): string {
    const value = this.get(key)
    if (value === null || value === undefined || value === '') return whenUnset
    if (typeof value !== 'string') throw unfit(`${this.#where}${key}`, 'a string', value)
    return value
  }

  count(key: string, whenUnset = 0): number {
    const value = this.get(key)
    if (value === null || value === undefined || value === 0) return whenUnset
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw unfit(`${this.#where}${key}`, 'a whole number that is not negative', value)
    }
    return value
  }

  flag(key: string): boolean {
    const value = this.get(key)
    if (value === null || value === undefined) return false
    if (typeof value !== 'boolean') throw unfit(`${this.#where}${key}`, 'true or false', value)
    return value
  }
}

function unfit(where: string, expected: string, value: unknown): ConfigError {
  const shown = typeof value === 'object' ? (Array.isArray(value) ? 'a list' : 'a map') : JSON.stringify(value)
  return new ConfigError(`can't unmarshal config - ${where || 'the file'} must be ${expected}, not ${shown}`)
}

/** All four backends with their defaults: what is served without a configuration file. */
const defaultBackends: Settings = {
  backends: [{ type: 'tsdb' }, { type: 'kv' }, { type: 'stream' }, { type: 'csv' }],
}

/**
 * The effective configuration of a file's text; null: no file. Throws ConfigError with the text that start-up prints
 * after `error: `.
 */
export function readConfig(fileText: string | null): Config {
  let parsed: unknown
  try {
    parsed = fileText === null ? defaultBackends : parse(fileText)
  } catch (error) {
    throw new ConfigError(`can't unmarshal config - ${error instanceof Error ? error.message : String(error)}`)
  }
  const top = new Reader(parsed, '')
  const workers = top.count('workers')
  const updateWorkersPerVN = top.count('updateWorkersPerVN', 8)
  const backends = top.get('backends') ?? []
  if (!Array.isArray(backends)) throw unfit('backends', 'a list', backends)
  return {
    log: { level: new Reader(top.get('log'), 'log.').text('level') },
    limit: top.count('limit'),
    timeout: top.count('timeout', 300),
    webApiEndpoint: top.text('webApiEndpoint'),
    container: top.text('container'),
    username: top.text('username'),
    password: top.text('password'),
    sessionKey: top.text('sessionKey'),
    workers,
    updateWorkersPerVN,
    querierCacheSize: top.count('querierCacheSize'),
    tsdbMetricCacheSize: top.count('tsdbMetricCacheSize'),
    writeMonitoringLogsTimeoutSeconds: top.count('writeMonitoringLogsTimeoutSeconds', 10),
    pendingLogsBatchSize: top.count('pendingLogsBatchSize', 100),
    logsFolderPath: top.text('logsFolderPath', '/monitoring/frames'),
    logsContainer: top.text('logsContainer', 'users'),
    maxBytesInNginxRequest: top.count('maxBytesInNginxRequest', 5_242_880),
    historyFileDurationSpans: top.text('historyFileDurationSpans', '24h'),
    historyFileNum: top.count('historyFileNum', 7),
    disableHistory: top.flag('disableHistory'),
    disableProfiling: top.flag('disableProfiling'),
    version: top.text('version', clientLineVersion),
    dataDir: top.text('dataDir', 'framesd-data'),
    memoryByteLength: top.count('memoryByteLength'),
    workerThreadCount: top.count('workerThreadCount'),
    backends: readBackends(backends, workers, updateWorkersPerVN),
  }
}

const createServerFailed = "can't create HTTP server -"

function readBackends(entries: readonly unknown[], workers: number, updateWorkersPerVN: number): BackendConfig[] {
  if (entries.length === 0) throw new ConfigError(`${createServerFailed} bad configuration: no backends`)
  const names = new Set<string>()
  return entries.map((entry, index) => {
    const reader = new Reader(entry, `backends[${index}].`)
    const typeText = reader.text('type')
    const name = reader.text('name', typeText)
    if (typeText === '') {
      throw new ConfigError(`${createServerFailed} bad configuration: backend "${name}" missing type`)
    }
    if (names.has(name)) {
      throw new ConfigError(`${createServerFailed} bad configuration: backend ${index} - duplicate name "${name}"`)
    }
    names.add(name)
    const type = typeText.toLowerCase()
    if (!isBackendType(type)) {
      const unknown = `can't create API: can't create backends: unknown backend - "${typeText}"`
      throw new ConfigError(`${createServerFailed} ${unknown}`)
    }
    const v3ioGoWorkers = reader.count('v3ioGoWorkers', name === 'csv' || name === 'stream' ? 256 : 1024)
    const options = reader.get('options') ?? {}
    if (typeof options !== 'object' || Array.isArray(options))
      throw unfit(`backends[${index}].options`, 'a map', options)
    return {
      type,
      name,
      workers: reader.count('workers', workers),
      updateWorkersPerVN: reader.count('updateWorkersPerVN', updateWorkersPerVN),
      v3ioGoWorkers,
      v3ioGoRequestChanLength: reader.count('v3ioGoRequestChanLength', v3ioGoWorkers * 256),
      maxConnections: reader.count('maxConnections', 10_000),
      dialTimeoutSeconds: reader.count('dialTimeoutSeconds', 10),
      maxRecordsInferSchema: reader.count('maxRecordsInferSchema', 10),
      options: { ...options },
      rootdir: reader.text('rootdir'),
    }
  })
}

function isBackendType(type: string): type is BackendType {
  return type === 'kv' || type === 'stream' || type === 'csv' || type === 'tsdb'
}

/** How long entries of the history are kept: so many spans of time. Throws ConfigError. */
export function historyRetentionMs({ historyFileDurationSpans, historyFileNum }: Config): number {
  try {
    return parseDurationMs(historyFileDurationSpans) * historyFileNum
  } catch (error) {
    if (!(error instanceof FramesError)) throw error
    throw new ConfigError(`bad configuration: historyFileDurationSpans: ${error.what}`)
  }
}

/** The folder of a csv backend's files. */
export function csvRootOf(backend: BackendConfig, dataDir: string): string {
  return backend.rootdir === '' ? join(dataDir, 'csv') : backend.rootdir
}

const masked = '*****'
const secretName = /pass|secret|token|key|credential/i

/** The effective configuration as `/_/config` answers it: no secret is shown, nor a password inside a URL. */
export function shownConfig(config: Config): Settings {
  return {
    ...config,
    webApiEndpoint: config.webApiEndpoint.replace(/\/\/[^/@]*@/, `//${masked}@`),
    password: config.password && masked,
    sessionKey: config.sessionKey && masked,
    backends: config.backends.map((backend) => ({ ...backend, options: maskSecrets(backend.options) })),
  }
}

function maskSecrets(options: Settings): Settings {
  const shown = Object.entries(options).map(([name, value]): [string, unknown] => {
    if (secretName.test(name)) return [name, masked]
    const isMap = typeof value === 'object' && value !== null && !Array.isArray(value)
    return [name, isMap ? maskSecrets({ ...value }) : value]
  })
  return Object.fromEntries(shown)
}
