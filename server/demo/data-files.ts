// The data of the demo: three CSV files of the package vega-datasets, as frames.
//
// Their times are local times without a zone. The demo takes them as UTC: 01:00 in Seattle becomes 01:00Z.
import { readFileSync } from 'node:fs'
import { type Column, Frame, sliceColumn } from '../../client/index.js'

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

interface CsvFile {
  readonly name: string
  column(name: string): string[]
}

function readCsv(name: string): CsvFile {
  let text: string
  try {
    text = readFileSync(new URL(`../data/${name}`, import.meta.resolve('vega-datasets')), 'utf8')
  } catch (cause) {
    throw new Error(`cannot read ${name} of the package vega-datasets; npm ci installs it`, { cause })
  }
  if (text.includes('"')) throw new Error(`${name} has quoted fields, which this reader does not know`)
  const [head, ...rows] = text
    .split(/\r?\n/)
    .filter((line) => line !== '')
    .map((line) => line.split(','))
  const ragged = rows.findIndex((row) => row.length !== head.length)
  if (ragged >= 0) throw new Error(`${name}: row ${ragged + 1} has not ${head.length} fields`)
  return {
    name,
    column: (title) => {
      const position = head.indexOf(title)
      if (position < 0) throw new Error(`${name} has no column ${title}`)
      return rows.map((row) => row[position])
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
