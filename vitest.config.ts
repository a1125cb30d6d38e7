import { defineConfig } from 'vitest/config'

// Two cores: files run beside each other in two processes. Tests that start worker pools need real processes.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
