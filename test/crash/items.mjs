// The items of the kv crash test: what a stream of writes has made of its items follows from how many of them happened, so
// that whoever reads them back knows every cell.
import { Frame, sliceColumn } from '../../dist/engine/index.js'

export const request = { backend: 'kv', table: 'items', session: { container: 'c' } }
/** Items of one stream. */
const itemCount = 6000
const rowCountMax = 5000

/** A small permutation of bits: sizes look random and can be worked out again. */
function mix(stream, n) {
  let x = (stream * 7919 + n * 104_729 + 54_321) | 0
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad)
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97)
  return (x ^ (x >>> 15)) >>> 0
}

/** The items that write n of a stream touches: [start, start + count), around the end. */
function windowOf(stream, n) {
  const random = mix(stream, n)
  const count = n === 0 ? itemCount : 1 + (random % (random % 9 === 0 ? rowCountMax : random % 3 === 0 ? 400 : 20))
  return { start: n === 0 ? 0 : (random >>> 4) % itemCount, count }
}

function nameOf(stream, i) {
  return `s${stream}-${String(i).padStart(5, '0')}`
}

/** What each write does; the last kind counts, so that none may happen twice. */
export function kindOf(n) {
  return n === 0 ? 'overwriteItem' : ['overwriteItem', 'updateItem', 'count'][n % 3]
}

/** The request of write n, and its frame. */
export function writeNumber(stream, n) {
  const { start, count } = windowOf(stream, n)
  const items = Array.from({ length: count }, (_, k) => (start + k) % itemCount)
  const kind = kindOf(n)
  const round = sliceColumn('round', new BigInt64Array(count).fill(BigInt(n)), 'int64')
  const of = sliceColumn('stream', new BigInt64Array(count).fill(BigInt(stream)), 'int64')
  const text = sliceColumn(
    'text',
    items.map((i) => `item ${i} of round ${n}`),
  )
  const frame = new Frame({
    columns: kind === 'updateItem' ? [round, of] : [round, of, text],
    indices: [
      sliceColumn(
        'name',
        items.map((i) => nameOf(stream, i)),
      ),
    ],
  })
  if (kind !== 'count') return { write: { ...request, saveMode: kind }, frame }
  return { write: { ...request, saveMode: 'updateItem', expression: 'hits=if_not_exists(hits,0)+1;' }, frame }
}

/** What write n makes of the items of a stream, by name. */
function apply(items, stream, n) {
  const { start, count } = windowOf(stream, n)
  const kind = kindOf(n)
  for (let k = 0; k < count; k++) {
    const i = (start + k) % itemCount
    const name = nameOf(stream, i)
    if (kind === 'overwriteItem') items.set(name, { round: n, text: `item ${i} of round ${n}`, hits: 0 })
    else if (kind === 'updateItem') items.set(name, { ...items.get(name), round: n })
    else items.set(name, { ...items.get(name), hits: items.get(name).hits + 1 })
  }
}

/** All items of a stream as they are stored, by name. Throws when one is there twice. */
export async function storedItems(engine, stream) {
  const items = new Map()
  for await (const frame of engine.read({ ...request, filter: `stream==${stream}`, resetIndex: true })) {
    const cells = (name) => (frame.columns.some((column) => column.name === name) ? frame.column(name) : null)
    const [names, rounds, texts, hits] = ['name', 'round', 'text', 'hits'].map(cells)
    for (let row = 0; row < frame.length; row++) {
      const name = names.at(row)
      if (items.has(name)) throw new Error(`item ${name} is there twice`)
      items.set(name, { round: Number(rounds.at(row)), text: texts.at(row), hits: Number(hits?.at(row) ?? 0n) })
    }
  }
  return items
}

function difference(found, wanted) {
  if (wanted.size !== found.size) return `${found.size} items instead of ${wanted.size}`
  for (const [name, item] of wanted) {
    const stored = found.get(name)
    if (stored?.round !== item.round || stored.text !== item.text || stored.hits !== item.hits)
      return `${name} is ${JSON.stringify(stored)} instead of ${JSON.stringify(item)}`
  }
  return null
}

/**
 * The number of the last write of a stream: what is stored must be exactly what writes 0 to that one make. It is `from` or
 * one of the next hundred; throws when none fits.
 */
export async function lastWrite(engine, stream, from) {
  const found = await storedItems(engine, stream)
  const wanted = new Map()
  for (let n = 0; n < from; n++) apply(wanted, stream, n)
  let problem = null
  for (let n = from; n < from + 100; n++) {
    apply(wanted, stream, n)
    const differs = difference(found, wanted)
    if (differs === null) return n
    problem ??= differs
  }
  throw new Error(`stream ${stream}, write ${from} or a later one: ${problem}`)
}
