import { describe, expect, test } from 'vitest'
import { AddressError, parseAddress, shownAddress } from '../dist/server/address.js'
import { readAuthorization } from '../dist/server/auth.js'
import { ConfigError, csvRootOf, readConfig, shownConfig } from '../dist/server/config.js'
import { FlagError, parseFlags } from '../dist/server/flags.js'

function refusal(text: string): string {
  try {
    readConfig(text)
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
  return 'accepted'
}

describe('the configuration file', () => {
  test('without one, all four backends are served with their defaults', () => {
    const config = readConfig(null)
    expect(config.backends.map(({ type, name }) => [type, name])).toEqual([
      ['tsdb', 'tsdb'],
      ['kv', 'kv'],
      ['stream', 'stream'],
      ['csv', 'csv'],
    ])
    expect(config).toMatchObject({
      log: { level: '' },
      limit: 0,
      timeout: 300,
      updateWorkersPerVN: 8,
      writeMonitoringLogsTimeoutSeconds: 10,
      pendingLogsBatchSize: 100,
      logsFolderPath: '/monitoring/frames',
      logsContainer: 'users',
      maxBytesInNginxRequest: 5_242_880,
      historyFileDurationSpans: '24h',
      historyFileNum: 7,
      disableHistory: false,
      disableProfiling: false,
      version: 'v0.13.13',
      dataDir: 'framesd-data',
      memoryByteLength: 0,
      workerThreadCount: 0,
    })
  })

  test('the documented example is read', () => {
    const text =
      '{log: {level: info}, container: bigdata, backends: [{type: kv}, {type: stream}, {type: csv, rootdir: /mnt/csvroot}]}'
    const config = readConfig(text)
    expect(config).toMatchObject({ log: { level: 'info' }, container: 'bigdata' })
    expect(config.backends.map((backend) => backend.v3ioGoWorkers)).toEqual([1024, 256, 256])
    expect(csvRootOf(config.backends[2], 'data')).toBe('/mnt/csvroot')
    expect(config.backends[0]).toEqual({
      type: 'kv',
      name: 'kv',
      workers: 0,
      updateWorkersPerVN: 8,
      v3ioGoWorkers: 1024,
      v3ioGoRequestChanLength: 262_144,
      maxConnections: 10_000,
      dialTimeoutSeconds: 10,
      maxRecordsInferSchema: 10,
      options: {},
      rootdir: '',
    })
  })

  test('keys match in any letter case, and unknown keys are ignored', () => {
    const config = readConfig('{CONTAINER: a, webapiendpoint: b, nothing: 1, BackEnds: [{TYPE: CSV, rootDir: /r}]}')
    expect(config).toMatchObject({ container: 'a', webApiEndpoint: 'b' })
    expect(config.backends[0]).toMatchObject({ type: 'csv', name: 'CSV', rootdir: '/r' })
  })

  test('zero, empty and null count as not set', () => {
    const text =
      '{timeout: 0, logsFolderPath: "", historyFileNum: null, updateWorkersPerVN: 3, workers: 5, backends: [{type: kv, workers: 0, updateWorkersPerVN: 4}]}'
    const config = readConfig(text)
    expect(config).toMatchObject({ timeout: 300, logsFolderPath: '/monitoring/frames', historyFileNum: 7 })
    expect(config.backends[0]).toMatchObject({ workers: 5, updateWorkersPerVN: 4 })
  })

  test('csv files are in the data folder unless the configuration says otherwise', () => {
    const [csv] = readConfig('{backends: [{type: csv}]}').backends
    expect(csvRootOf(csv, '/data')).toBe('/data/csv')
  })

  test('what cannot be served is refused with the published text', () => {
    const server = "can't create HTTP server -"
    expect(refusal('{}')).toBe(`${server} bad configuration: no backends`)
    expect(refusal('')).toBe(`${server} bad configuration: no backends`)
    expect(refusal('{backends: [{name: x}]}')).toBe(`${server} bad configuration: backend "x" missing type`)
    expect(refusal('{backends: [{type: kv}, {type: csv, name: kv}]}')).toBe(
      `${server} bad configuration: backend 1 - duplicate name "kv"`,
    )
    expect(refusal('{backends: [{type: sql}]}')).toBe(
      `${server} can't create API: can't create backends: unknown backend - "sql"`,
    )
  })

  test('what cannot be read is refused and says where', () => {
    expect(refusal('{backends: [')).toMatch(/^can't unmarshal config - /)
    expect(refusal('[1]')).toMatch(/^can't unmarshal config - the file must be a map, not a list/)
    expect(refusal('{limit: many}')).toMatch(/^can't unmarshal config - limit must be a whole number.*not "many"/)
    expect(refusal('{limit: -1}')).toMatch(/limit must be a whole number/)
    expect(refusal('{container: 5}')).toMatch(/container must be a string, not 5/)
    expect(refusal('{backends: {}}')).toMatch(/backends must be a list, not a map/)
    expect(refusal('{backends: [{type: kv, workers: x}]}')).toMatch(/backends\[0\]\.workers must be/)
    expect(refusal('{disableHistory: 1}')).toMatch(/disableHistory must be true or false/)
  })

  test('aliases cannot grow the file without bound', () => {
    const lines = ['a0: &a0 [x,x,x,x,x,x,x,x,x,x]']
    for (let level = 1; level < 10; level++) {
      lines.push(`a${level}: &a${level} [${Array.from({ length: 10 }, () => `*a${level - 1}`).join(',')}]`)
    }
    expect(refusal(lines.join('\n'))).toMatch(/^can't unmarshal config - /)
  })

  test('what is shown of it has no secret', () => {
    const text =
      '{password: canary, sessionKey: canary, webApiEndpoint: "https://u:canary@host:1/", backends: [{type: kv, options: {accessKey: canary, nested: {Password: canary}, plain: 1}}]}'
    const shown = JSON.stringify(shownConfig(readConfig(text)))
    expect(shown).not.toMatch(/canary/)
    expect(shown).toContain('"webApiEndpoint":"https://*****@host:1/"')
    expect(shown).toContain('"plain":1')
    expect(shownConfig(readConfig(null))).toMatchObject({ password: '', sessionKey: '' })
  })
})

describe('the command line', () => {
  test('flags take one or two dashes, a value behind or after =, and hyphens', () => {
    const expected = { httpAddr: ':1', grpcAddr: ':2', dataDir: 'd' }
    expect(parseFlags(['-httpAddr', ':1', '-grpcAddr', ':2', '-dataDir', 'd'])).toEqual(expected)
    expect(parseFlags(['--httpAddr=:1', '--grpcAddr=:2', '--dataDir=d'])).toEqual(expected)
    expect(parseFlags(['--http-addr', ':1', '-grpc-addr=:2', '--data-dir', 'd'])).toEqual(expected)
    expect(parseFlags(['-config', 'a=b', '--log-level=info'])).toEqual({ config: 'a=b', logLevel: 'info' })
    expect(parseFlags(['--help'])).toEqual({ help: true })
    expect(parseFlags(['-h', '-version'])).toEqual({ help: true, version: true })
  })

  test('what is no flag is refused', () => {
    for (const args of [['file'], ['-nothing'], ['-config'], ['---config', 'x'], ['']]) {
      expect(() => parseFlags(args)).toThrow(FlagError)
    }
  })

  test('addresses are host and port', () => {
    expect(parseAddress(':8080')).toEqual({ port: 8080 })
    expect(parseAddress('127.0.0.1:0')).toEqual({ host: '127.0.0.1', port: 0 })
    expect(parseAddress('[::1]:80')).toEqual({ host: '::1', port: 80 })
    for (const text of ['8080', 'host', 'host:', ':65536', 'a:b:1', '']) {
      expect(() => parseAddress(text)).toThrow(AddressError)
    }
    expect(shownAddress({ port: 0 }, 81)).toBe(':81')
    expect(shownAddress({ host: '::1', port: 0 }, 81)).toBe('[::1]:81')
  })
})

test('an Authorization header sets user and password, or the token', () => {
  const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`
  expect(readAuthorization(basic('joe:a:b'))).toEqual({ user: 'joe', password: 'a:b' })
  expect(readAuthorization(basic('__ACCESS_KEY:a:b'))).toEqual({ token: 'a:b' })
  expect(readAuthorization('Bearer  x ')).toEqual({ token: ' x ' })
  for (const header of ['', 'Basic', 'basic eDp5', 'Basic *', 'Basic eA==', 'Negotiate x']) {
    expect(readAuthorization(header)).toHaveProperty('reason')
  }
})
