// Random expressions over random items: the evaluation over columns against the plain model of one item at a time.
import { isDeepStrictEqual } from 'node:util'
import { expect, test } from 'vitest'
import { encodeArray } from '../dist/engine/expression/arrays.js'
import { evaluateFilter, evaluateUpdate } from '../dist/engine/expression/evaluate.js'
import { printExpression, printUpdate } from '../dist/engine/expression/print.js'
import type { Scalar } from '../dist/engine/expression/scalar.js'
import { canSkip } from '../dist/engine/expression/skip.js'
import type { Expression, UpdateAction } from '../dist/engine/expression/tree.js'
import type { PageSummary } from '../dist/engine/frame/column-summary.js'
import type { Value } from '../dist/engine/frame/dtype.js'
import { modelTest, modelUpdate } from './expression-model.js'
import { type Item, ItemMemory, typeOfValue } from './item-rows.js'
import { SeededRandom, seed } from './seeded-random.js'

/** EXPRESSION_ROUNDS=20000 looks longer. */
const roundCount = Number(process.env['EXPRESSION_ROUNDS'] ?? 800)

const memory = new ItemMemory(64 * 2 ** 20)
const random = new SeededRandom(seed)

const names = ['a', 'b', 'c', 'd', 'e', 'arr']

const makers: readonly (() => Scalar)[] = [
  () => random.pick([0n, 1n, 2n, 3n, -1n, 40n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n), random.int64()]),
  () => random.pick([0, -0, 1, 1.5, -2.5, 40, 2 ** 53, 2 ** 63, Number.NaN, Number.POSITIVE_INFINITY, -1e300]),
  () => random.pick(['', 'a', 'ab', 'abc', 'b', 'é', 'a😀b', 'x'.repeat(20), 'x'.repeat(19), '40']),
  () => random.chance(0.5),
  () => ({ timeNs: random.pick([0n, 1n, -1n, 1559668665000000000n, 2n ** 63n - 1n]) }),
]

const arrayMaker = (): Scalar => {
  const count = random.integer(0, 4)
  if (random.chance(0.1)) return Uint8Array.from(random.list(random.integer(0, 20), () => random.integer(0, 256)))
  if (random.chance(0.5)) return encodeArray(random.list(count, () => random.pick([0n, 1n, 7n, 2n ** 63n - 1n])))
  return encodeArray(random.list(count, () => random.pick([0.5, Number.NaN, 2, -1])))
}

/** Items whose attributes are of one type or several, everywhere or now and then, or nowhere. */
function randomItems(count: number): Item[] {
  const columns = names.map((name) => {
    const own = name === 'arr' && random.chance(0.8) ? [arrayMaker] : [random.pick(makers)]
    if (random.chance(0.3)) own.push(random.pick([...makers, arrayMaker]), random.pick(makers))
    const presence = random.pick([0, 0.1, 0.5, 0.9, 1, 1, 1])
    return { name, own, presence }
  })
  return random.list(count, () => {
    const item: Record<string, Scalar> = {}
    for (const { name, own, presence } of columns) if (random.chance(presence)) item[name] = random.pick(own)()
    return item
  })
}

const attribute = (): Expression => ({ kind: 'attribute', name: random.pick(names) })

function literal(): Expression {
  const value = random.pick(makers)()
  if (value instanceof Uint8Array) throw new Error('blobs have no literals')
  return { kind: 'literal', value: value as Value }
}

function leaf(): Expression {
  if (random.chance(0.1)) return { kind: 'placeholder', name: random.pick(names) }
  return random.chance(0.6) ? attribute() : literal()
}

const operators = ['==', '!=', '<', '<=', '>', '>='] as const

function randomTest(depth: number): Expression {
  const part = () => randomTest(depth - 1)
  const value = () => randomValue(depth - 1)
  if (depth <= 0) return { kind: 'compare', operator: random.pick(operators), left: leaf(), right: leaf() }
  switch (random.integer(0, 12)) {
    case 0:
      return { kind: 'and', operands: random.list(random.integer(2, 4), part) }
    case 1:
      return { kind: 'or', operands: random.list(random.integer(2, 4), part) }
    case 2:
      return { kind: 'not', operand: part() }
    case 3:
    case 4:
      return {
        kind: 'in',
        operand: value(),
        choices: random.list(random.integer(1, 12), () => (random.chance(0.95) ? literal() : value())),
      }
    case 5:
      return { kind: 'call', function: 'exists', operands: [attribute()] }
    case 6:
      return {
        kind: 'call',
        function: random.pick(['starts', 'ends', 'contains'] as const),
        operands: [value(), random.chance(0.7) ? literal() : value()],
      }
    case 7:
      return { kind: 'call', function: 'isnan', operands: [value()] }
    case 8:
      return value()
    default:
      return { kind: 'compare', operator: random.pick(operators), left: value(), right: value() }
  }
}

function randomValue(depth: number): Expression {
  const part = () => randomValue(depth - 1)
  if (depth <= 0 || random.chance(0.3)) return leaf()
  switch (random.integer(0, 12)) {
    case 0:
    case 1:
    case 2:
      return {
        kind: 'sum',
        first: part(),
        rest: random.list(random.integer(1, 3), () => ({
          operator: random.pick(['+', '-'] as const),
          operand: part(),
        })),
      }
    case 3:
    case 4:
      return {
        kind: 'product',
        first: part(),
        rest: random.list(random.integer(1, 3), () => ({
          operator: random.pick(['*', '/', '%'] as const),
          operand: part(),
        })),
      }
    case 5:
      return { kind: 'negate', operand: part() }
    case 6:
      return { kind: 'call', function: 'if_else', operands: [randomTest(depth - 1), part(), part()] }
    case 7:
      return { kind: 'call', function: 'if_not_exists', operands: [attribute(), part()] }
    case 8:
      return randomTest(depth - 1)
    case 9:
      return {
        kind: 'element',
        array: 'arr',
        index: random.chance(0.8) ? { kind: 'literal', value: BigInt(random.integer(0, 3)) } : part(),
      }
    case 10:
      return {
        kind: 'range',
        array: 'arr',
        start: { kind: 'literal', value: 0n },
        end: { kind: 'literal', value: BigInt(random.integer(0, 3)) },
      }
    default: {
      const name = random.pick([
        'length',
        'min',
        'max',
        'nanaszero',
        'sqrt',
        'sum',
        'psum',
        'pmin',
        'sort_array',
        'find',
        'blob',
      ] as const)
      if (name === 'blob') return { kind: 'call', function: name, operands: [{ kind: 'literal', value: 'AAE=' }] }
      const count =
        name === 'psum' || name === 'pmin' || name === 'find'
          ? 2
          : name === 'min' || name === 'max'
            ? random.integer(1, 4)
            : 1
      return { kind: 'call', function: name, operands: random.list(count, part) }
    }
  }
}

const rowCounts = [0, 1, 1, 2, 7, 8, 9, 63, 64, 65, 200]

/** What statistics would say of the items, sometimes less. */
function summaryOf(items: readonly Item[], name: string): PageSummary | null {
  if (random.chance(0.1)) return null
  const cells = items.flatMap((item) => (Object.hasOwn(item, name) ? [item[name]!] : []))
  const types = [...new Set(cells.map(typeOfValue))]
  return {
    rowCount: items.length,
    columns: types.map((dtype) => {
      const own = cells.filter((cell) => typeOfValue(cell) === dtype)
      const base = { dtype, presentCount: own.length, min: null, max: null }
      if (dtype === 'blob' || random.chance(0.1)) return base
      const key = (cell: Scalar) => (typeof cell === 'object' && 'timeNs' in cell ? cell.timeNs : cell)
      const isNan = own.some((cell) => Number.isNaN(cell))
      if (isNan) return { ...base, min: Number.NaN, max: Number.NaN }
      const sorted = [...own].sort((x, y) => {
        if (typeof x === 'string') return Buffer.compare(Buffer.from(x), Buffer.from(String(y)))
        return key(x) < key(y) ? -1 : 1
      })
      return { ...base, min: sorted[0] as Value, max: sorted.at(-1) as Value }
    }),
  }
}

test('a filter holds for the rows for which it holds one by one, and skips nothing that matches', () => {
  let heldCount = 0
  let skipCount = 0
  for (let round = 0; round < roundCount; round++) {
    const items = randomItems(random.pick(rowCounts))
    const written = randomItems(items.length)
    const tree = randomTest(random.integer(0, 5))
    const scratch = memory.scratch(4096)
    const resultPtr = scratch.allocate(Math.ceil(items.length / 8) + 8)
    const back = scratch.back()
    const mark = back.mark()
    evaluateFilter(memory.kernels, back, tree, memory.source(scratch, items, written), resultPtr)
    expect(back.mark(), 'memory is given back').toBe(mark)
    const expected = items.map((item, row) => modelTest(tree, { item, written: written[row]!, isUpdate: false }))
    const actual = memory.readBits(resultPtr, items.length)
    if (actual.some((bit, row) => bit !== expected[row])) {
      const row = actual.findIndex((bit, i) => bit !== expected[i])
      expect({
        text: printExpression(tree),
        item: items[row],
        written: written[row],
        rows: items.length,
        result: actual[row],
      }).toEqual(expected[row])
    }
    heldCount += expected.filter(Boolean).length
    if (canSkip(tree, (name) => summaryOf(items, name))) {
      skipCount++
      if (expected.includes(true)) expect(printExpression(tree)).toBe('not skipped')
    }
  }
  expect(heldCount).toBeGreaterThan(roundCount / 4)
  expect(skipCount).toBeGreaterThan(roundCount / 40)
})

function randomAction(): UpdateAction {
  const name = random.pick(names)
  if (random.chance(0.1)) return { kind: 'remove', attribute: name }
  const value = randomValue(random.integer(0, 4))
  if (random.chance(0.15)) {
    const start: Expression = { kind: 'literal', value: BigInt(random.integer(0, 3)) }
    const end: Expression | null = random.chance(0.5) ? { kind: 'literal', value: BigInt(random.integer(0, 3)) } : null
    return { kind: 'set', target: { attribute: 'arr', start, end }, value }
  }
  return { kind: 'set', target: { attribute: name, start: null, end: null }, value }
}

test('an update gives each row what it gives one by one, or fails there', () => {
  let failedCount = 0
  let doneCount = 0
  for (let round = 0; round < roundCount; round++) {
    const items = randomItems(random.pick(rowCounts))
    const written = randomItems(items.length)
    const actions = random.list(random.integer(0, 5), randomAction)
    const scratch = memory.scratch(65536)
    const result = evaluateUpdate(memory.kernels, scratch, actions, memory.source(scratch, items, written))
    const failed = memory.readBits(result.failedPtr, items.length)
    const updated: (Record<string, Scalar> | null)[] = items.map((item, row) => (failed[row] ? null : { ...item }))
    for (const { name, columns } of result.assigned) {
      memory
        .cells(columns, items.length, (row) => !failed[row])
        .forEach((cell, row) => {
          const item = updated[row]
          if (item === null || item === undefined) return
          if (cell === undefined) delete item[name]
          else item[name] = cell
        })
    }
    items.forEach((item, row) => {
      const expected = modelUpdate(actions, item, written[row]!)
      if (!isDeepStrictEqual(updated[row], expected)) {
        const context = { text: printUpdate(actions), item, written: written[row], rows: items.length }
        expect({ ...context, updated: updated[row] }).toEqual({ ...context, updated: expected })
      }
      if (expected === null) failedCount++
      else doneCount++
    })
    const rows = failed.flatMap((isFailed, row) => (isFailed ? [row] : []))
    expect(result.failedCount).toBe(rows.length)
    expect(result.failures.map(({ row }) => row)).toEqual(rows.slice(0, 16))
  }
  expect(failedCount).toBeGreaterThan(roundCount / 4)
  expect(doneCount).toBeGreaterThan(roundCount / 4)
})
