// The demo's key-value tables: films and airports; a filtered read, a conditional write, single updates.
import { type Client, type Frame, FramesError, type ReadRequest } from '../../client/index.js'
import { type Airports, type Movies, readItems } from './data-files.js'
import type { Stage } from './stage.js'

const backend = 'nosql'
const westernStates = ['CA', 'OR', 'WA']

export async function tourItems(client: Client, stage: Stage): Promise<void> {
  const { movies, airports } = readItems()
  await load(client, stage, [movies, airports])
  await showMovies(client, stage, movies)
  await showAirports(client, stage, airports)
}

async function load(client: Client, { terminal, timed }: Stage, tables: readonly (Movies | Airports)[]): Promise<void> {
  terminal.heading('Key-value tables', 'a JSON and a CSV file of the package vega-datasets')
  const took: string[] = []
  for (const { table, frame } of tables) {
    const written = await timed(() => client.write({ backend, table, saveMode: 'overwriteTable' }, frame))
    took.push(written.took)
  }
  terminal.table([
    { title: 'table', align: 'left', cells: tables.map(({ table }) => table), paint: terminal.cyan },
    { title: 'items', cells: tables.map(({ frame }) => String(frame.length)) },
    { title: 'durable after', cells: took },
    { title: 'what it is', align: 'left', cells: tables.map(({ about }) => about) },
  ])
}

async function readAll(client: Client, request: Omit<ReadRequest, 'backend'>): Promise<Frame[]> {
  const frames: Frame[] = []
  for await (const frame of client.read({ backend, ...request })) frames.push(frame)
  return frames
}

async function showMovies(client: Client, { terminal, timed, check }: Stage, { table, films }: Movies): Promise<void> {
  const filter = 'imdb_rating >= 8.7 AND imdb_votes > 200000'
  const columns = ['title', 'release_date', 'director', 'imdb_rating', 'imdb_votes']
  const answer = await timed(() => readAll(client, { table, filter, columns }))
  terminal.heading(`Films where ${filter}`, answer.took)
  const rows = answer.result.flatMap((frame) => [...frame.rows()])
  const text = (value: unknown): string => (value === null ? '' : String(value))
  rows.sort((a, b) => Number(b.imdb_rating) - Number(a.imdb_rating))
  terminal.table([
    { title: 'title', align: 'left', cells: rows.map(({ title }) => text(title)), paint: terminal.yellow },
    { title: 'released', align: 'left', cells: rows.map((row) => text(row.release_date)), paint: terminal.dim },
    { title: 'director', align: 'left', cells: rows.map(({ director }) => text(director)) },
    { title: 'rating', cells: rows.map((row) => Number(row.imdb_rating).toFixed(1)) },
    { title: 'votes', cells: rows.map((row) => text(row.imdb_votes)) },
  ])
  const expected = films.filter(({ rating, votes }) => (rating ?? 0) >= 8.7 && (votes ?? 0) > 200_000)
  const titles = (list: readonly string[]) => [...list].sort().join('\n')
  check(
    titles(expected.map(({ title }) => title)) === titles(rows.map(({ title }) => text(title))),
    `the ${expected.length} films are those of the file`,
  )
}

async function showAirports(client: Client, { terminal, timed, check }: Stage, airports: Airports): Promise<void> {
  const { table, frame, states } = airports
  const condition = `state IN (${westernStates.map((state) => `'${state}'`).join(', ')})`
  const written = await timed(() =>
    client.write({ backend, table, saveMode: 'updateItem', condition }, airports.marked('coast', 'west')),
  )
  const westCount = states.filter((state) => westernStates.includes(state)).length
  terminal.heading('A conditional write', written.took)
  terminal.lines([
    `${frame.length} rows bring coast = 'west', on condition that ${condition}:`,
    `${frame.length - (written.result.skippedCount ?? 0)} items were changed, ${written.result.skippedCount} skipped`,
  ])
  check(frame.length - (written.result.skippedCount ?? 0) === westCount, `${westCount} airports are in these states`)
  const answer = await timed(() => readAll(client, { table, filter: "coast == 'west' AND latitude > 48.4" }))
  const rows = answer.result.flatMap((part) => [...part.rows({ includeIndex: true })])
  terminal.heading("Airports where coast == 'west' AND latitude > 48.4", answer.took)
  terminal.table(
    ['iata', 'name', 'city', 'state'].map((name) => ({
      title: name,
      align: 'left' as const,
      cells: rows.map((row) => String(row[name])),
      ...(name === 'iata' ? { paint: terminal.cyan } : {}),
    })),
  )
  const latitudes = frame.column('latitude').floats()
  const expected = states.filter((state, i) => westernStates.includes(state) && latitudes[i] > 48.4).length
  check(rows.length === expected, `${expected} airports are there by the file`)

  const update = (condition: string) =>
    client.execute({
      backend,
      table,
      command: 'update',
      args: { key: 'SFO', expression: 'visits = if_not_exists(visits, 0) + 1;', condition },
    })
  await update("city == 'San Francisco'")
  await update('visits < 2')
  const refused = await update('visits < 2').then(
    () => null,
    (error: unknown) => error,
  )
  const [item] = (await readAll(client, { table, filter: "__name == 'SFO'" })).flatMap((part) => [...part.rows()])
  terminal.heading('Single updates', 'visits = if_not_exists(visits, 0) + 1, three times, the last two if visits < 2')
  if (refused instanceof FramesError) terminal.lines([terminal.dim(refused.what)])
  check(
    item?.visits === 2n && refused instanceof FramesError,
    'SFO has 2 visits; the third update was refused by its condition',
  )
}
