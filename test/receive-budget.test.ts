import { expect, test } from 'vitest'
import { ReceiveBudget } from '../dist/server/receive-budget.js'

test('above the budget whoever has the most waiting is refused, and once', () => {
  const budget = new ReceiveBudget(100)
  const refused: string[] = []
  const small = budget.open(() => refused.push('small'))
  const large = budget.open(() => refused.push('large'))
  large.add(80)
  small.add(20)
  expect(refused).toEqual([])
  small.add(1)
  expect(refused).toEqual(['large'])
  expect(budget.byteLength).toBe(21)
  large.add(1000)
  expect([refused, budget.byteLength]).toEqual([['large'], 21])
  small.add(100)
  expect(refused).toEqual(['large', 'small'])
  expect(budget.byteLength).toBe(0)
})

test('what is taken or closed makes room again', () => {
  const budget = new ReceiveBudget(100)
  const first = budget.open(() => expect.unreachable())
  const second = budget.open(() => expect.unreachable())
  for (let round = 0; round < 10; round++) {
    first.add(90)
    first.take(90)
  }
  first.add(50)
  first.close()
  first.close()
  second.add(100)
  second.take(1000)
  expect(budget.byteLength).toBe(0)
})
