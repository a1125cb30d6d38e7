// Opens data folders one after the other (a line of JSON each: the folder and what must be there) and answers with a
// line: what is wrong with it.
import { createInterface } from 'node:readline'
import { openEngine } from '../../dist/engine/index.js'

for await (const line of createInterface({ input: process.stdin })) {
  const { folder, expected } = JSON.parse(line)
  const wrong = []
  try {
    const engine = await openEngine({ dataDir: folder, workerCount: 1 })
    try {
      await check(engine, expected, wrong)
    } finally {
      await engine.close()
    }
  } catch (error) {
    wrong.push(String(error.stack))
  }
  process.stdout.write(`${JSON.stringify(wrong)}\n`)
}

/** Calls back with the values of a column and the frame they are from. */
async function eachFrame(engine, request, name, take) {
  for await (const frame of engine.read(request)) {
    const column = frame.column(name)
    take(
      Array.from({ length: frame.length }, (_, row) => Number(column.at(row))),
      frame,
    )
  }
}

async function check(engine, expected, wrong) {
  const rowCounts = new Map()
  const everything = { start: '0', end: 'now' }
  await eachFrame(engine, { backend: 'tsdb', table: 'series', ...everything }, 'value', (values, frame) => {
    const host = frame.column('host').at(0)
    let next = rowCounts.get(host) ?? 0
    for (const value of values)
      if (value !== next++) wrong.push(`host ${host}: row ${value} stands where ${next - 1} was`)
    rowCounts.set(host, next)
  })
  for (const [host, count] of Object.entries(expected.rows))
    if ((rowCounts.get(host) ?? 0) < count) wrong.push(`host ${host}: ${rowCounts.get(host)} of ${count} rows`)

  const values = new Map()
  const counters = { backend: 'kv', table: 'counters', columns: ['value', '__name'] }
  await eachFrame(engine, counters, 'value', (numbers, frame) => {
    const names = frame.column('__name')
    for (const [row, value] of numbers.entries()) values.set(names.at(row), value)
  })
  for (const [key, { acknowledged, begun }] of Object.entries(expected.counters)) {
    const value = values.get(key)
    if (!(value >= acknowledged && value <= begun)) wrong.push(`${key}: ${value} is not in ${acknowledged} … ${begun}`)
  }

  let recordCount = 0
  await eachFrame(engine, { backend: 'stream', table: 'records', seek: 'earliest' }, 'value', (found) => {
    recordCount += found.length
  })
  const acknowledgedCount = Object.values(expected.records).reduce((sum, count) => sum + count, 0)
  if (recordCount < acknowledgedCount) wrong.push(`${recordCount} of ${acknowledgedCount} records`)

  const versions = []
  await eachFrame(engine, { backend: 'kv', table: 'replaced' }, 'version', (found) => versions.push(...found))
  const [version] = versions
  const { acknowledged, begun } = expected.version
  if (versions.length !== 500 || versions.some((other) => other !== version))
    wrong.push(`a replaced table of ${versions.length} rows with versions ${[...new Set(versions)]}`)
  if (!(version >= acknowledged && version <= begun)) wrong.push(`version ${version} of ${acknowledged} … ${begun}`)

  const kept = []
  await eachFrame(engine, { backend: 'tsdb', table: 'pruned', ...everything }, 'value', (found) => kept.push(...found))
  const { deletedBelow, acknowledged: last } = expected.pruned
  if (last > 0 && (kept.at(-1) ?? -1) < last - 1) wrong.push(`pruned: it ends with ${kept.at(-1)}, not ${last - 1}`)
  if (kept[0] < deletedBelow) wrong.push(`pruned: row ${kept[0]} was deleted`)
  for (let i = 1; i < kept.length; i++)
    if (kept[i] !== kept[i - 1] + 1) wrong.push(`pruned: row ${kept[i]} follows ${kept[i - 1]}`)

  await engine.execute({ backend: 'kv', table: 'after', command: 'update', args: { key: 'a', expression: 'n = 1' } })
}
