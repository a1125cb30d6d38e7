// Filters and groups over many label sets, which are worked out batch by batch as columns: beside the plain evaluation of
// one set after another. SEED=n repeats a run.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { compileLabelFilter } from '../dist/engine/expression/evaluate-labels.js'
import { parseFilter } from '../dist/engine/expression/parse.js'
import { columnOfCells } from '../dist/engine/frame/builder.js'
import { type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { SeededRandom, seed } from './seeded-random.js'
import { labelText } from './tsdb-model.js'

const table = { backend: 'tsdb', table: 'my/labels' }
const T = Date.UTC(2018, 6, 21, 21, 40)
/** More than a batch. */
const setCount = 4500

interface Entry {
  readonly labels: Readonly<Record<string, string>>
  readonly metric: string
}

let engine: Engine
const random = new SeededRandom(seed)
const entries: Entry[] = []

beforeAll(async () => {
  engine = await openEngine({ workerCount: 2, memoryByteLength: 384 * 2 ** 20 })
  await engine.create({ ...table, rate: '1/s' })
  // Frames of one shape each: which labels there are, and which metric.
  for (let part = 0; part < 9; part++) {
    const names = ['host', 'os', 'rack', 'zone'].filter((name) => name === 'host' || random.chance(0.6))
    const metric = random.pick(['cpu', 'mem'])
    const rows = random.list(setCount / 9, (row) => {
      const values = names.map((name) => {
        if (name === 'host') return `host_${part}_${row}`
        if (name === 'rack') return String(random.integer(0, 30))
        return random.pick(['linux', 'mac', '', 'a\0b', '\0', "it's", 'é𝄞'])
      })
      return { labels: Object.fromEntries(names.map((name, i) => [name, values[i]!])), metric }
    })
    entries.push(...rows)
    await engine.write(
      table,
      new Frame({
        columns: [sliceColumn(metric, new Float64Array(rows.length).fill(1), 'float64')],
        indices: [
          sliceColumn('time', new BigInt64Array(rows.length).fill(BigInt(T) * 1_000_000n), 'time'),
          ...names.map((name) =>
            columnOfCells(
              name,
              'string',
              rows.map(({ labels }) => labels[name]!),
            ),
          ),
        ],
      }),
    )
  }
})
afterAll(async () => {
  await engine.close()
})

async function read(more: { filter?: string; groupBy?: string }): Promise<Map<string, number>> {
  const counts = new Map<string, number>()
  for await (const frame of engine.read({
    ...table,
    start: String(T),
    end: String(T),
    aggregators: 'count',
    ...more,
  })) {
    const labels = Object.fromEntries(frame.labels) as Record<string, string>
    const names = frame.names.filter((name) => name.startsWith('count('))
    for (const name of names) {
      const key = `${name.slice('count('.length, -1)} ${labelText(labels)}`
      if (counts.has(key)) expect.fail(`${key} comes twice`)
      const value = frame.column(name).floats()[0]!
      if (!Number.isNaN(value)) counts.set(key, value)
    }
  }
  return counts
}

const conditions = [
  "os == 'linux'",
  "os != 'linux'",
  "os == ''",
  'not exists(rack)',
  'exists(zone) and exists(os)',
  "rack in ('1', '22', 'x')",
  "host == 'host_3_77'",
  "starts(host, 'host_8_99')",
  'to_int(rack) > 17',
  'os == zone',
  'os < zone',
  'length(os) == 3',
  "_name == 'cpu'",
  "__name__ != 'cpu'",
  "starts(_name, 'm') or rack == '3'",
  "_name + os == 'memmac'",
  'nosuch == 1',
  '1 == 1',
  'os',
]

function randomFilter(depth = 0): string {
  if (depth === 2 || random.chance(0.4)) return random.pick(conditions)
  const parts = random.list(random.integer(2, 4), () => randomFilter(depth + 1))
  const text = `(${parts.join(random.pick([' and ', ' or ']))})`
  return random.chance(0.3) ? `not ${text}` : text
}

test('random filters choose the sets that they hold for', { timeout: 120_000 }, async () => {
  const filters = [...conditions, ...random.list(10 * Number(process.env['ROUNDS'] ?? 1), () => randomFilter())]
  for (const filter of filters) {
    const matches = compileLabelFilter(parseFilter(filter))
    const wanted = entries
      .filter(({ labels, metric }) => matches((name) => (name === '_name' ? metric : labels[name])))
      .map(({ labels, metric }) => `${metric} ${labelText(labels)}`)
    const found = await read({ filter })
    expect([...found.keys()].sort(), filter).toEqual(wanted.sort())
  }
})

test('groups hold the samples of the sets that are filtered', { timeout: 120_000 }, async () => {
  for (const groupBy of ['os', 'rack', 'os,rack', 'zone,os', 'host']) {
    const names = groupBy.split(',')
    const filter = names.map((name) => `exists(${name}) and ${name} != ''`).join(' and ')
    for (const more of ['', " and starts(host, 'host_8')", " and _name == 'cpu'"]) {
      const matches = compileLabelFilter(parseFilter(filter + more))
      const wanted = new Map<string, number>()
      for (const { labels, metric } of entries) {
        if (!matches((name) => (name === '_name' ? metric : labels[name]))) continue
        const key = `${metric} ${labelText(Object.fromEntries(names.map((name) => [name, labels[name]!])))}`
        wanted.set(key, (wanted.get(key) ?? 0) + 1)
      }
      expect(await read({ filter: filter + more, groupBy }), `${groupBy} where ${filter}${more}`).toEqual(wanted)
    }
  }
  const lacking = entries.some(({ labels }) => (labels['os'] ?? '') === '')
  if (lacking) await expect(read({ groupBy: 'os' })).rejects.toThrow('no label named os found to group by')
})
