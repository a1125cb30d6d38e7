// Key-value tables, streams, CSV files and the history, from a client of a running server:
// npm start, then node docs/examples/backends.mjs [address]
import { connect, frameFromRows } from 'framesd/client'

const address = process.argv[2] ?? 'http://127.0.0.1:8080'
const client = connect(address, { session: { container: 'users' } })

// A key-value table: the index is the key of each item. Attributes may differ from item to item.
const people = { backend: 'kv', table: 'people' }
const rows = [
  { name: 'ann', age: 33n, city: 'Oslo' },
  { name: 'bo', age: 41n, city: 'Rome' },
]
await client.write({ ...people, saveMode: 'overwriteTable' }, frameFromRows(rows, ['name']))
const visit = { key: 'bo', expression: 'visits = if_not_exists(visits, 0) + 1' }
await client.execute({ ...people, command: 'update', args: visit })
for await (const frame of client.read({ ...people, filter: "starts(city, 'R')" })) {
  for (const row of frame.rows({ includeIndex: true })) console.log(`${row.name}: ${row.age}, ${row.visits} visit`)
}

// A stream: rows of frames and single records of JSON or any text; each gets a place in one of the shards.
const events = { backend: 'stream', table: 'events' }
await client.delete({ ...events, ifMissing: 'ignore' })
await client.create({ ...events, shards: 2n, retentionHours: 48n })
await client.write(events, frameFromRows([{ user: 'ann', clicks: 3n }], []))
const record = { data: '{"user": "bo", "clicks": 5}', partition_key: 'bo' }
await client.execute({ ...events, command: 'put', args: record })
// followMs waits so long for further records (over HTTP, and in the engine itself); a limit ends the read, too.
const request = { ...events, seek: 'earliest', ...(address.startsWith('http') ? { followMs: 5000 } : {}), limit: 2n }
for await (const frame of client.read(request)) {
  for (const { user, clicks } of frame.rows()) console.log(`${user} clicked ${clicks} times`)
}

// A CSV file below the server's folder: a write replaces it when it is whole.
const file = { backend: 'csv', table: 'people.csv' }
await client.write(file, frameFromRows(rows, []))
for await (const frame of client.read({ ...file, columns: ['age'] }))
  console.log(`ages ${frame.column('age').values().join(' ')}`)

// Every request leaves an entry, failed ones too.
for await (const frame of client.history({ table: 'people.csv', minStartTime: 'now-1m' })) {
  for (const entry of [...frame.rows()].slice(-2))
    console.log(`${entry.ActionType} ${entry.TableName}: ${entry.rows} rows`)
}
client.close()
