import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'

const main = fileURLToPath(new URL('../dist/server/main.js', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'framesd-program-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

function run(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [main, ...args], { cwd: folder })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk) => {
      stdout += chunk
    })
    child.stderr.on('data', (chunk) => {
      stderr += chunk
    })
    child.on('close', (status) => resolve({ status, stdout, stderr }))
  })
}

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
      [['-nothing'], /^error: flag provided but not defined: -nothing\n$/],
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
})
