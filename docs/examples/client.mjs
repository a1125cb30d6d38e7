// A client of a running server: npm start, then node docs/examples/client.mjs [address]
// An address is grpc://host:port, or http://host:port; both have the same verbs.
import { connect, FramesError, frameFromRows } from 'framesd/client'

const client = connect(process.argv[2] ?? 'grpc://127.0.0.1:8081', { session: { container: 'users' } })
const table = { backend: 'tsdb', table: 'rooms' }
await client.delete({ ...table, ifMissing: 'ignore' })
await client.create({ ...table, rate: '1/m' })

// Rows become a frame; `time` is its index, the labels hold for all of its rows.
const at = (time) => new Date(`2024-06-01T${time}:00Z`)
const kitchen = [
  { time: at('12:00'), temperature: 21.5, people: 2n },
  { time: at('12:01'), temperature: 22, people: 3n },
]
const hall = [{ time: at('12:00'), temperature: 19.25, people: 0n }]
const { frameCount, rowCount } = await client.write(table, [
  frameFromRows(kitchen, ['time'], { room: 'kitchen' }),
  frameFromRows(hall, ['time'], { room: 'hall' }),
])
console.log(`wrote ${rowCount} rows in ${frameCount} frames`)

for await (const frame of client.read({ ...table, start: '0', columns: ['temperature', 'people'] })) {
  for (const { people, temperature } of frame.rows()) {
    console.log(`${frame.labels.get('room')}: ${temperature} °C, ${people} people`)
  }
}

// Every error is a FramesError, with a code for programs and a text that says how to go on.
try {
  await client.create({ ...table, rate: '1/m' })
} catch (error) {
  if (!(error instanceof FramesError)) throw error
  console.log(`${error.code}: ${error.message}`)
}
client.close()
