// The commands of the tsdb backend: what a table has, as frames.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Engine, type ExecuteRequest, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { FrameCodec } from '../dist/client/index.js'

let engine: Engine
const table = { backend: 'tsdb', table: 'commands' }

beforeAll(async () => {
  engine = await openEngine({ workerCount: 1, memoryByteLength: 192 * 2 ** 20 })
  await engine.create({ ...table, rate: '1/s' })
  for (const [host, os] of [
    ['a', 'linux'],
    ['b', 'linux'],
    ['c', null],
  ] as const) {
    await engine.write(
      table,
      new Frame({
        columns: [
          sliceColumn('cpu', [1, 2, 3], 'float64'),
          ...(host === 'a' ? [sliceColumn('disk', [1n, 2n, 3n], 'int64')] : []),
        ],
        indices: [sliceColumn('time', [1_000_000_000n, 2_000_000_000n, 3_000_000_000n], 'time')],
        labels: os === null ? { host } : { host, os },
      }),
    )
  }
})
afterAll(async () => {
  await engine.close()
})

async function ask(command: string, args: NonNullable<ExecuteRequest['args']> = {}) {
  const frame = await engine.execute({ ...table, command, args })
  return Object.fromEntries(frame!.names.map((name) => [name, [...frame!.column(name).values()]]))
}

test('series are a metric and a value for every label, in the order of their writing', async () => {
  expect(await ask('series')).toEqual({
    _name: ['cpu', 'disk', 'cpu', 'cpu'],
    host: ['a', 'a', 'b', 'c'],
    os: ['linux', 'linux', 'linux', null],
  })
})

test('a label that a set lacks is missing; one whose value is empty is not', async () => {
  const named = { ...table, table: 'empty-labels' }
  await engine.create({ ...named, rate: '1/s' })
  for (const labels of [{ os: '' }, { host: 'a' }] as Record<string, string>[]) {
    const columns = [sliceColumn('cpu', [1], 'float64')]
    await engine.write(named, new Frame({ columns, indices: [sliceColumn('time', [1n], 'time')], labels }))
  }
  const frame = (await engine.execute({ ...named, command: 'series' }))!
  expect([...frame.column('os').values()]).toEqual(['', null])
  const bytes = (await engine.executeEncoded({ ...named, command: 'series' }))!
  const codec = new FrameCodec()
  expect([...codec.decode(bytes).column('os').values()]).toEqual(['', null])
})

test('a table without samples has no first and no last time', async () => {
  const named = { ...table, table: 'no-samples' }
  await engine.create({ ...named, rate: '1/s' })
  const frame = (await engine.execute({ ...named, command: 'stats' }))!
  expect(frame.column('first_time').isNull(0)).toBe(true)
  expect(frame.column('last_time').isNull(0)).toBe(true)
  expect([...frame.column('samples').values()]).toEqual([0n])
})

test('series are filtered by labels and by metric, and read in pages', async () => {
  const host = async (args: NonNullable<ExecuteRequest['args']>) => (await ask('series', args))['host']
  expect(await host({ filter: "os == 'linux'" })).toEqual(['a', 'a', 'b'])
  expect(await host({ filter: "_name == 'disk'" })).toEqual(['a'])
  expect(await host({ filter: "__name__ == 'cpu' and exists(os)" })).toEqual(['a', 'b'])
  expect(await host({ limit: 2n, offset: 1n })).toEqual(['a', 'b'])
  expect(await ask('series', { filter: "host == 'nosuch'" })).toEqual({ _name: [] })
})

test('an argument that a command has not is refused by name', async () => {
  await expect(ask('series', { limt: 2n })).rejects.toThrow(
    "'series' has no argument 'limt'; it has filter, limit, offset",
  )
  await expect(ask('labels', { label: 'host' })).rejects.toThrow("'labels' has no argument 'label'")
  await expect(ask('label_values', { label: 'host', marker: 'x' })).rejects.toThrow(
    "'label_values' has no argument 'marker'",
  )
  for (const command of ['compact', 'flush', 'stats'])
    await expect(ask(command, { filter: "host == 'a'" })).rejects.toThrow(
      `'${command}' has no argument 'filter'; it has none`,
    )
})

test('the filter may also be the expression of the request', async () => {
  const frame = await engine.execute({ ...table, command: 'series', expression: "host == 'b'" })
  expect([...frame!.column('host').values()]).toEqual(['b'])
})

test('labels are told with their values and label sets', async () => {
  expect(await ask('labels')).toEqual({ label: ['host', 'os'], values: [3n, 1n], label_sets: [3n, 2n] })
  expect(await ask('labels', { filter: "host == 'c'" })).toEqual({ label: ['host'], values: [1n], label_sets: [1n] })
})

test('values of one label are told with their label sets', async () => {
  expect(await ask('label_values', { label: 'os' })).toEqual({ value: ['linux'], label_sets: [2n] })
  expect(await ask('label_values', { label: 'host', limit: 2n })).toEqual({ value: ['a', 'b'], label_sets: [1n, 1n] })
  expect(await ask('label_values', { label: 'host', filter: "_name == 'disk'" })).toEqual({
    value: ['a'],
    label_sets: [1n],
  })
  expect(await ask('label_values', { label: 'nosuch' })).toEqual({ value: [], label_sets: [] })
})

test('stats count series, samples and bytes', async () => {
  const stats = await ask('stats')
  expect(stats).toMatchObject({ label_sets: [3n], metrics: [2n], series: [4n], rows: [9n], samples: [12n] })
  expect(stats['bytes_per_sample']).toEqual([Number(stats['bytes']![0]) / 12])
  expect([stats['first_time'], stats['last_time']]).toEqual([
    [{ timeNs: 1_000_000_000n }],
    [{ timeNs: 3_000_000_000n }],
  ])
})

test.for([
  ['nosuch', {}, "TSDB backend doesn't support the 'execute' command 'nosuch'; it has compact, flush, labels"],
  ['label_values', {}, "label_values needs the argument 'label'"],
  ['series', { filter: 'host ==' }, 'expected a value, found the end at position 8'],
  ['series', { limit: -1n }, "the argument 'limit' must be a number of rows"],
  ['series', { filter: 5n }, "the argument 'filter' must be a string"],
] as const)('%s %o is refused', async ([command, args, text]) => {
  await expect(ask(command, args)).rejects.toThrow(text)
})
