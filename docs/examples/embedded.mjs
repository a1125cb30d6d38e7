// The engine inside a program, with no server: node docs/examples/embedded.mjs
import { Frame, openEngine, sliceColumn, toArrowTable } from 'framesd'

// `dataDir: 'data'` keeps what is written on disk; without it, all is gone when the engine is closed.
const engine = await openEngine()
const table = { backend: 'tsdb', table: 'cpu' }
await engine.create({ ...table, rate: '1/m' })

// A sample every minute from noon. The time is an index; the other index is a label: each host is a series of its own.
const noonNs = BigInt(Date.parse('2024-06-01T12:00:00Z')) * 1_000_000n
const minutes = [0, 1, 2, 3, 4, 5]
const times = minutes.flatMap((minute) => Array(2).fill({ timeNs: noonNs + BigInt(minute) * 60_000_000_000n }))
const frame = new Frame({
  columns: [
    sliceColumn('load', [0.5, 2, 0.7, 2.5, 0.9, 3, 1.1, 3.5, 1.3, 4, 1.5, 4.5]),
    sliceColumn('requests', [10n, 7n, 12n, 9n, null, 4n, 3n, 8n, 6n, 1n, 2n, 5n]),
  ],
  indices: [
    sliceColumn('time', times),
    sliceColumn(
      'host',
      minutes.flatMap(() => ['ant', 'bee']),
    ),
  ],
})
const { rowCount } = await engine.write(table, frame)
console.log(`wrote ${rowCount} rows`)

// Raw rows, one frame for each host. A cell that is missing is null.
const afternoon = { start: '2024-06-01T12:00:00Z', end: '2024-06-01T13:00:00Z' }
for await (const { labels, length, columns } of engine.read({ ...table, ...afternoon, columns: ['requests'] })) {
  console.log(`${labels.get('host')}: ${length} rows, requests ${columns[0].values().join(' ')}`)
}

// Functions over steps of three minutes, of one host. An Arrow table shares the frame's memory.
const overTime = { columns: ['load'], aggregators: 'avg,max', step: '3m', filter: "host == 'bee'" }
for await (const answer of engine.read({ ...table, ...afternoon, ...overTime })) {
  console.log(`average ${answer.column('avg(load)').values().join(' ')}`)
  const arrow = toArrowTable(answer)
  console.log(`Arrow: ${arrow.numRows} rows of ${arrow.schema.names.join(', ')}`)
}

await engine.close()
