// The examples of docs/examples print what they say: they are run as a reader would run them.
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { openEngine } from '../dist/engine/index.js'
import { readConfig } from '../dist/server/config.js'
import { openLog } from '../dist/server/log.js'
import { startServer } from '../dist/server/start.js'

const run = promisify(execFile)

async function printed(name: string, ...args: string[]): Promise<string[]> {
  const path = resolve(import.meta.dirname, '../docs/examples', name)
  const { stdout, stderr } = await run(process.execPath, [path, ...args])
  expect(stderr).toBe('')
  return stdout.trimEnd().split('\n')
}

test('embedded.mjs writes, reads and aggregates without a server', async () => {
  expect(await printed('embedded.mjs')).toEqual([
    'wrote 12 rows',
    'ant: 5 rows, requests 10 12 3 6 2',
    'bee: 6 rows, requests 7 9 4 8 1 5',
    'average 2.5 4',
    'Arrow: 2 rows of time, avg(load), max(load), host',
  ])
})

/** Runs `body` for both addresses of a server. */
async function overBoth(body: (address: string) => Promise<void>): Promise<void> {
  const loopback = { host: '127.0.0.1', port: 0 }
  const dataDir = mkdtempSync(join(tmpdir(), 'framesd-examples-'))
  const server = await startServer({
    engine: await openEngine({ dataDir, memoryByteLength: 128 * 2 ** 20, workerCount: 1 }),
    config: readConfig(null),
    log: openLog('error'),
    httpAddress: loopback,
    grpcAddress: loopback,
  })
  try {
    for (const address of [`grpc://127.0.0.1:${server.grpcPort}`, `http://127.0.0.1:${server.httpPort}`])
      await body(address)
  } finally {
    await server.stop()
    rmSync(dataDir, { recursive: true })
  }
}

test('client.mjs does the same over gRPC and HTTP', async () => {
  await overBoth(async (address) => {
    const lines = await printed('client.mjs', address)
    expect(lines.slice(0, 4)).toEqual([
      'wrote 3 rows in 2 frames',
      'hall: 19.25 °C, 0 people',
      'kitchen: 21.5 °C, 2 people',
      'kitchen: 22 °C, 3 people',
    ])
    expect(lines.slice(4)).toEqual([expect.stringMatching(/^TABLE_EXISTS: .*Delete the table first/)])
  })
})

test('backends.mjs shows items, records, files and the history over gRPC and HTTP', async () => {
  await overBoth(async (address) => {
    expect(await printed('backends.mjs', address)).toEqual([
      'bo: 41, 1 visit',
      'ann clicked 3 times',
      'bo clicked 5 times',
      'ages 33 41',
      'write people.csv: 2 rows',
      'read people.csv: 2 rows',
    ])
  })
})

test('a program given as text on the command line opens an engine too', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'framesd-examples-'))
  const engine = new URL('../dist/engine/index.js', import.meta.url).href
  const text = `
    import { frameFromRows, openEngine } from '${engine}'
    const engine = await openEngine({ dataDir: process.argv[1], workerCount: 1 })
    await engine.write({ backend: 'kv', table: 't' }, frameFromRows([{ key: 'a', n: 1n }], ['key']))
    for await (const frame of engine.read({ backend: 'kv', table: 't' })) console.log(...frame.rows())
    await engine.close()`
  try {
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', text, dataDir])
    expect(stdout).toBe('{ n: 1n }\n')
  } finally {
    rmSync(dataDir, { recursive: true })
  }
})
