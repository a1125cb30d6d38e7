import { expect, test } from 'vitest'
import { benchColumns } from '../dist/bench/columns.bench.js'

test('the bench of the column kernels runs, and its answers are the same each time', async () => {
  const [first, second] = [
    await benchColumns({ seconds: 0.01, rowCount: 4096 }),
    await benchColumns({ seconds: 0.01, rowCount: 4096 }),
  ]
  expect(first.length).toBeGreaterThan(0)
  expect(second.map(({ name, checksum }) => [name, checksum])).toEqual(
    first.map(({ name, checksum }) => [name, checksum]),
  )
  for (const row of first) expect(row.valuesPerSecond, row.name).toBeGreaterThan(0)
})
