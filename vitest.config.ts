import { defineConfig } from 'vitest/config'

// Two cores: files run beside each other in three processes, since tests that kill processes wait for a good part of their
// time. Tests that start worker pools need real processes.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
