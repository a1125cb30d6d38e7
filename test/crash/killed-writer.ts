// A process that writes until it is killed, and what it has said until then.
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'

const children = new Set<ChildProcess>()

/** For the end of a test file: no writer outlives it. */
export function killWriters(): void {
  for (const child of children) child.kill('SIGKILL')
}

/**
 * Runs a script of this folder until it is killed, lifeMs after it has said `from`; what it has said, whole lines only.
 * Fails when it ends by itself or has reported anything.
 */
export async function killWriter(
  script: string,
  args: readonly string[],
  lifeMs: number,
  from: RegExp,
): Promise<string[]> {
  const path = fileURLToPath(new URL(script, import.meta.url))
  const child = spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  children.add(child)
  let output = ''
  const signal = await new Promise<NodeJS.Signals | null>((resolve, reject) => {
    child.stdout.on('data', (chunk: Buffer) => {
      const isCounted = from.test(output)
      output += chunk
      if (!isCounted && from.test(output)) setTimeout(() => child.kill('SIGKILL'), lifeMs)
    })
    child.on('error', reject)
    child.on('close', (_code, by) => resolve(by))
  })
  children.delete(child)
  expect(signal, `the writer ends only because it is killed: ${output.slice(-2000)}`).toBe('SIGKILL')
  const lines = output.split('\n').slice(0, -1)
  expect(lines.filter((line) => line.startsWith('report'))).toEqual([])
  return lines
}
