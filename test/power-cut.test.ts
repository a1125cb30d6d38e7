// A few states of a disk after a power cut, so that `npm run test:power-cut` runs at all times; it looks at many.
import { execFile, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const script = fileURLToPath(new URL('power-cut/run.mjs', import.meta.url))
const hasCompiler = process.platform === 'linux' && spawnSync('cc', ['--version']).status === 0

// Its recorder is a library in C that is preloaded.
test.skipIf(!hasCompiler)(
  'ten states after a power cut hold all that was acknowledged',
  {
    timeout: 300_000,
  },
  async () => {
    const args = [script, '--states', '10', '--seconds', '3', '--seed', '7']
    const { stdout } = await promisify(execFile)(process.execPath, args)
    expect(stdout).toMatch(/10 states \(seed 7\): 0 faults\n$/)
  },
)
