// The data of the demo: files of the package vega-datasets, as frames.
//
// The time series' times are local times without a zone. The demo takes them as UTC: 01:00 in Seattle becomes 01:00Z.
import { readFileSync } from 'node:fs'
import { inferSchema, initParser } from 'udsv'
import { type Column, Frame, labelColumn, sliceColumn } from '../../client/index.js'

export interface DataSet {
  readonly table: string
  readonly file: string
  readonly about: string
  /** All of the file; the time index first. */
  readonly frame: Frame
}

export const msPerDay = 86_400_000

/** Reads the three files. Throws when the package is not there, or a file is not what it was. */
export function readDataSets(): { weather: DataSet; index: DataSet; stocks: DataSet } {
  const weatherFile = readCsv('seattle-weather-hourly-normals.csv')
  const weather = {
    table: 'seattle_weather',
    file: weatherFile.name,
    about: 'hourly climate normals of Seattle',
    frame: new Frame({
      columns: ['temperature', 'pressure', 'wind'].map((name) => floats(weatherFile, name)),
      indices: [times(weatherFile, (text) => Date.parse(`${text}Z`))],
      labels: { city: 'Seattle' },
    }),
  }
  const indexFile = readCsv('sp500-2000.csv')
  const index = {
    table: 'sp500',
    file: indexFile.name,
    about: 'the S&P 500 index on each trading day',
    frame: new Frame({
      columns: [
        ...['open', 'high', 'low', 'close', 'adjclose'].map((name) => floats(indexFile, name)),
        sliceColumn('volume', indexFile.column('volume').map(BigInt), 'int64'),
      ],
      indices: [times(indexFile, (text) => Date.parse(`${text}T00:00:00Z`))],
      labels: { symbol: 'SP500' },
    }),
  }
  const stocksFile = readCsv('stocks.csv')
  const stocks = {
    table: 'stocks',
    file: stocksFile.name,
    about: 'five stocks, a price a month; the symbol is a label',
    frame: new Frame({
      columns: [floats(stocksFile, 'price')],
      indices: [times(stocksFile, parseEnglishDate), sliceColumn('symbol', stocksFile.column('symbol'), 'string')],
    }),
  }
  return { weather, index, stocks }
}

/** Films, by title and day of release. */
export interface Movies {
  readonly table: string
  readonly about: string
  readonly frame: Frame
  /** What the demo holds its answers against. */
  readonly films: readonly { readonly title: string; readonly rating: number | null; readonly votes: number | null }[]
}

/** Airports, by their IATA code. */
export interface Airports {
  readonly table: string
  readonly about: string
  readonly frame: Frame
  readonly states: readonly string[]
  /** All airports with one attribute, which has the same value in each. */
  marked(name: string, value: string): Frame
}

interface MovieRow {
  readonly Title: string | number | null
  readonly 'Release Date': string
  readonly Director: string | null
  readonly 'Major Genre': string | null
  readonly 'Worldwide Gross': number | null
  readonly 'IMDB Rating': number | null
  readonly 'IMDB Votes': number | null
}

export function readItems(): { movies: Movies; airports: Airports } {
  const rows = JSON.parse(readFile('movies.json')) as MovieRow[]
  const titles = rows.map(({ Title }) => (Title === null ? 'untitled' : String(Title)))
  const whole = (value: number | null) => (value === null ? null : BigInt(value))
  const movies: Movies = {
    table: 'movies',
    about: 'films; the title and the day of release make the key',
    frame: new Frame({
      columns: [
        sliceColumn(
          'director',
          rows.map(({ Director }) => Director),
          'string',
        ),
        sliceColumn(
          'genre',
          rows.map((row) => row['Major Genre']),
          'string',
        ),
        sliceColumn(
          'gross',
          rows.map((row) => whole(row['Worldwide Gross'])),
          'int64',
        ),
        sliceColumn(
          'imdb_rating',
          rows.map((row) => row['IMDB Rating']),
          'float64',
        ),
        sliceColumn(
          'imdb_votes',
          rows.map((row) => whole(row['IMDB Votes'])),
          'int64',
        ),
      ],
      indices: [
        sliceColumn('title', titles, 'string'),
        sliceColumn(
          'release_date',
          rows.map((row) => row['Release Date']),
          'string',
        ),
      ],
    }),
    films: rows.map((row, i) => ({ title: titles[i], rating: row['IMDB Rating'], votes: row['IMDB Votes'] })),
  }
  const file = readCsv('airports.csv')
  const codes = file.column('iata')
  const index = sliceColumn('iata', codes, 'string')
  const airports: Airports = {
    table: 'airports',
    about: 'airports of the United States, by code',
    frame: new Frame({
      columns: [
        ...['name', 'city', 'state', 'country'].map((name) => sliceColumn(name, file.column(name), 'string')),
        floats(file, 'latitude'),
        floats(file, 'longitude'),
      ],
      indices: [index],
    }),
    states: file.column('state'),
    marked: (name, value) => new Frame({ columns: [labelColumn(name, value, codes.length)], indices: [index] }),
  }
  return { movies, airports }
}

/** Earthquakes of a week, in the order in which they happened. */
export interface Quakes {
  readonly table: string
  readonly frame: Frame
  /** The first row of each day (UTC), then the row count. */
  readonly dayStarts: readonly number[]
}

interface QuakeFeature {
  readonly id: string
  readonly properties: {
    readonly mag: number
    readonly place: string
    readonly time: number
    readonly net: string
    readonly felt: number | null
    readonly tsunami: number
  }
  readonly geometry: { readonly coordinates: readonly [longitude: number, latitude: number, depthKm: number] }
}

export function readQuakes(): Quakes {
  const { features } = JSON.parse(readFile('earthquakes.json')) as { readonly features: readonly QuakeFeature[] }
  const quakes = [...features].sort((a, b) => a.properties.time - b.properties.time)
  const texts = (name: string, textOf: (quake: QuakeFeature) => string) =>
    sliceColumn(name, quakes.map(textOf), 'string')
  const numbers = (name: string, numberOf: (quake: QuakeFeature) => number) =>
    sliceColumn(name, quakes.map(numberOf), 'float64')
  const dayOf = ({ properties }: QuakeFeature): number => Math.floor(properties.time / msPerDay)
  const timesNs = BigInt64Array.from(quakes, ({ properties }) => BigInt(properties.time) * 1_000_000n)
  const felt = quakes.map(({ properties }) => (properties.felt === null ? null : BigInt(properties.felt)))
  const tsunami = quakes.map(({ properties }) => properties.tsunami === 1)
  return {
    table: 'earthquakes',
    frame: new Frame({
      columns: [
        texts('id', ({ id }) => id),
        texts('net', ({ properties }) => properties.net),
        texts('place', ({ properties }) => properties.place),
        numbers('mag', ({ properties }) => properties.mag),
        numbers('longitude', ({ geometry }) => geometry.coordinates[0]),
        numbers('latitude', ({ geometry }) => geometry.coordinates[1]),
        numbers('depth', ({ geometry }) => geometry.coordinates[2]),
        sliceColumn('felt', felt, 'int64'),
        sliceColumn('tsunami', tsunami, 'bool'),
      ],
      indices: [sliceColumn('time', timesNs, 'time')],
    }),
    dayStarts: [
      ...Array.from(quakes.keys()).filter((row) => row === 0 || dayOf(quakes[row]) !== dayOf(quakes[row - 1])),
      quakes.length,
    ],
  }
}

interface CsvFile {
  readonly name: string
  column(name: string): string[]
}

function readFile(name: string): string {
  try {
    return readFileSync(new URL(`../data/${name}`, import.meta.resolve('vega-datasets')), 'utf8')
  } catch (cause) {
    throw new Error(`cannot read ${name} of the package vega-datasets; npm ci installs it`, { cause })
  }
}

function readCsv(name: string): CsvFile {
  const text = readFile(name)
  const schema = inferSchema(text)
  const titles = schema.cols.map((column) => column.name)
  const columns = initParser(schema).stringCols(text)
  return {
    name,
    column: (title) => {
      const column = columns[titles.indexOf(title)]
      if (column === undefined) throw new Error(`${name} has no column ${title}`)
      return column
    },
  }
}

function floats(file: CsvFile, name: string): Column {
  return sliceColumn(name, Float64Array.from(file.column(name), Number))
}

function times(file: CsvFile, parse: (text: string) => number): Column {
  const timesNs = BigInt64Array.from(file.column('date'), (text) => {
    const timeMs = parse(text)
    if (Number.isNaN(timeMs)) throw new Error(`${file.name}: ${text} is no date`)
    return BigInt(timeMs) * 1_000_000n
  })
  return sliceColumn('time', timesNs, 'time')
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** `Jan 1 2000`. */
function parseEnglishDate(text: string): number {
  const [month, day, year] = text.split(' ')
  const monthNumber = months.indexOf(month)
  return monthNumber < 0 ? Number.NaN : Date.UTC(Number(year), monthNumber, Number(day))
}
