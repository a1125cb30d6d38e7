import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { connect as connectClient } from '../dist/client/index.js'
import { afterAll, describe, expect, test } from 'vitest'

const main = fileURLToPath(new URL('../dist/server/main.js', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'framesd-program-'))
/** Programs that a failed test has left behind. */
const children = new Set<ChildProcess>()
afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** A server that runs until it is told to stop; the addresses are those it has printed. */
interface Running {
  readonly child: ChildProcess
  readonly http: string
  readonly grpc: string
  readonly ended: Promise<Ended>
}

function launch(...args: string[]): { child: ChildProcess; ended: Promise<Ended>; output: { text: string } } {
  const child = spawn(process.execPath, [main, ...args], { cwd: folder })
  children.add(child)
  child.on('close', () => children.delete(child))
  const output = { text: '' }
  let stderr = ''
  child.stdout.on('data', (chunk) => {
    output.text += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (status) => resolve({ status, stdout: output.text, stderr }))
  })
  return { child, ended, output }
}

async function start(...args: string[]): Promise<Running> {
  const { child, ended, output } = launch('-httpAddr=127.0.0.1:0', '-grpcAddr=127.0.0.1:0', ...args)
  let isOver = false
  ended.then(() => {
    isOver = true
  })
  for (;;) {
    const match = /server running on http=(\S+), grpc=(\S+)\n/.exec(output.text)
    if (match !== null) return { child, ended, http: match[1], grpc: match[2] }
    if (isOver) throw new Error(`the server did not start: ${(await ended).stderr}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

const run = (...args: string[]): Promise<Ended> => launch(...args).ended

function configFile(text: string): string {
  const path = join(folder, `config-${Math.random().toString(36).slice(2)}.yaml`)
  writeFileSync(path, text)
  return path
}

describe('the program', () => {
  test('prints its help, and its version', async () => {
    const help = await run('--help')
    expect([help.status, help.stdout.startsWith('Usage: framesd')]).toEqual([0, true])
    const version = await run('-version')
    expect(version.status).toBe(0)
    expect(version.stdout).toMatch(/^framesd version \d+\.\d+\.\d+\n$/)
  })

  test('ends with status 1 and one line on stderr when it cannot start', async () => {
    const cases: [string[], RegExp][] = [
      [['-nothing'], /^error: flag provided but not defined: -nothing; framesd --help lists the flags\n$/],
      [['serve'], /^error: unexpected argument "serve"; framesd --help lists the flags\n$/],
      [['--data-dir'], /^error: flag needs an argument: -data-dir; framesd --help lists the flags\n$/],
      [['--log-level', 'loud'], /^error: -log-level is debug, info, warn, error, not "loud"\n$/],
      [['-config', '/no/such/file'], /^error: can't read config - ENOENT/],
      [['-config', configFile('{a: [')], /^error: can't unmarshal config - /],
      [
        ['-config', configFile('{backends: []}')],
        /^error: can't create HTTP server - bad configuration: no backends\n$/,
      ],
      [['-httpAddr', 'nonsense'], /^error: can't start HTTP server - address nonsense/],
      [['-grpcAddr', '127.0.0.1:99999'], /^error: can't start gRPC server - address .*: port 99999 is above 65535/],
    ]
    for (const [args, text] of cases) {
      const ended = await run(...args)
      expect(ended.status).toBe(1)
      expect(ended.stderr).toMatch(text)
    }
  })

  test('has the memory that the configuration says, and refuses what no engine can have', async () => {
    const config = (memory: number) => ['-config', configFile(`{memoryByteLength: ${memory}, backends: [{type: csv}]}`)]
    const address = ['-httpAddr=127.0.0.1:0', '-grpcAddr=127.0.0.1:0', '--data-dir', join(folder, 'memory')]
    const refused = await run(...address, ...config(2 ** 40))
    expect([refused.status, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/^error: .*a shared memory of 1099511627776 bytes is not between \d+ and 2147483648/),
    ])
    const server = await start('--data-dir', join(folder, 'memory'), ...config(2 ** 27))
    server.child.kill('SIGTERM')
    expect((await server.ended).status).toBe(0)
  })

  test('says where the data are before it says that it runs', async () => {
    const dataDir = join(folder, 'told')
    const server = await start('--data-dir', dataDir)
    server.child.kill('SIGTERM')
    const lines = (await server.ended).stdout.split('\n')
    expect(lines[1]).toBe(`data folder ${dataDir}`)
    expect(lines[2]).toMatch(/^server running on /)
  })

  test('serves on the ports it has printed, and ends with status 0 when told to stop', async () => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      const server = await start('--data-dir', join(folder, 'served'))
      for (const address of [`http://${server.http}`, server.grpc]) {
        const client = connectClient(address)
        expect(await client.version()).toMatch(/^v0\.\d+\.\d+$/)
        client.close()
      }
      server.child.kill(signal)
      const ended = await server.ended
      expect([ended.status, ended.stderr]).toEqual([0, ''])
      expect(ended.stdout).toMatch(/^framesd version /)
    }
  })

  test('a call at work is finished before the process ends', async () => {
    const server = await start('--data-dir', join(folder, 'draining'))
    const client = connectClient(server.grpc)
    let isDone = () => {}
    const done = new Promise<void>((resolve) => {
      isDone = resolve
    })
    let hasBegun = () => {}
    const begun = new Promise<void>((resolve) => {
      hasBegun = resolve
    })
    await client.create({ backend: 'tsdb', table: 't', rate: '1/s' })
    async function* frames(): AsyncGenerator<Uint8Array> {
      hasBegun()
      await done
      yield* []
    }
    const writing = client.writeWire({ backend: 'tsdb', table: 't' }, frames())
    await begun
    await new Promise((resolve) => setTimeout(resolve, 200))
    server.child.kill('SIGTERM')
    await new Promise((resolve) => setTimeout(resolve, 200))
    isDone()
    expect(await writing).toEqual({ frameCount: 0, rowCount: 0 })
    expect((await server.ended).status).toBe(0)
    client.close()
  })

  test('a data folder that is in use, and a port that is taken, are refused', async () => {
    const dataDir = join(folder, 'shared')
    const server = await start('--data-dir', dataDir)
    const second = await run('-httpAddr=127.0.0.1:0', '-grpcAddr=127.0.0.1:0', '--data-dir', dataDir)
    expect(second.status).toBe(1)
    expect(second.stderr).toMatch(/^error: can't create HTTP server - can't create API: /)
    for (const [flag, name, taken, fix] of [
      ['-httpAddr', 'HTTP', server.http, 'give another address with --http-addr'],
      ['-grpcAddr', 'gRPC', server.grpc, 'give another address with --grpc-addr'],
    ]) {
      const other = await run(
        '-httpAddr=127.0.0.1:0',
        '-grpcAddr=127.0.0.1:0',
        flag,
        taken,
        '-dataDir',
        join(folder, name),
      )
      expect(other.status).toBe(1)
      expect(other.stderr).toMatch(new RegExp(`^error: can't start ${name} server - .*EADDRINUSE.*${fix}\n$`))
    }
    server.child.kill('SIGTERM')
    expect((await server.ended).status).toBe(0)
  })
})
