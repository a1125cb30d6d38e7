import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { runHistory } from '../dist/bench/history-suite.js'
import type { Result } from '../dist/bench/results.js'

test('the small bench of the history runs one mix without entries, with one a call and with ten, served and embedded', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'framesd-history-bench-'))
  const results: Result[] = []
  await runHistory({
    isSmall: true,
    isLong: false,
    folder,
    found: (...some) => results.push(...some),
    say: () => undefined,
  })
  rmSync(folder, { recursive: true, force: true })
  const times = results.filter(({ name }) => name.includes(': time of the mix, more'))
  expect(times.map(({ name }) => name.split(':')[0])).toEqual(['gRPC', 'embedded'])
  for (const { value, name } of results) expect(Number.isFinite(value), name).toBe(true)
})
