import { expect, test } from 'vitest'
import { benchOrder } from '../dist/bench/order.bench.js'

test('the bench of grouping and order runs, and gives the same answers every time', async () => {
  const sizes = { seconds: 0.05, rowCount: 2048, setCount: 500 }
  const rows = await benchOrder(sizes)
  expect(rows.every((row) => Number.isFinite(row.valuesPerSecond) && row.valuesPerSecond > 0)).toBe(true)
  const again = await benchOrder(sizes)
  expect(again.map((row) => [row.name, row.checksum])).toEqual(rows.map((row) => [row.name, row.checksum]))
})
