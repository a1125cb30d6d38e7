// A report as a table for the terminal, Markdown, JSON and a chart.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Report, Result } from './results.js'

const groupTitles: Readonly<Record<Result['group'], string>> = {
  load: 'Loading',
  size: 'On disk',
  memory: 'Memory of the server',
  query: 'Reading',
  tsbs: 'The ten queries of TSBS',
  'raw read': 'Reading raw samples over gRPC',
  ingest: 'Small writes without a pause',
  scale: 'Scale',
  'kv load': 'Key-value tables: loading',
  'kv scan': 'Key-value tables: filter scans',
  'kv point': 'Key-value tables: points',
  'kv memory': 'Key-value tables: memory of the server',
  stream: 'Streams: records of 100 bytes, 1000 a batch',
  history: 'Cost of the history',
  kernel: 'Kernels, one thread',
}

function valueText(value: number): string {
  if (Math.abs(value) >= 100) return value.toFixed(0)
  return value.toPrecision(3)
}

function rangeText({ runs }: Result): string {
  if (runs.length < 2) return ''
  return `${valueText(Math.min(...runs))} … ${valueText(Math.max(...runs))}`
}

function targetText({ target }: Result): string {
  return target === null ? '' : `${target.text} ${target.isMet ? '✓' : '✗'}`
}

const heads = ['', 'median', 'runs', 'target', 'beside', 'answer'] as const

function cellsOf(result: Result): string[] {
  const { name, value, unit, beside, checksum } = result
  return [name, `${valueText(value)} ${unit}`, rangeText(result), targetText(result), beside, checksum]
}

/** One result for who watches a run. */
export function resultLine(result: Result): string {
  const [name, ...cells] = cellsOf(result)
  return `${groupTitles[result.group]} | ${name}: ${cells.filter((cell) => cell !== '').join(' | ')}`
}

function groupsOf(report: Report): [title: string, rows: string[][]][] {
  return (Object.keys(groupTitles) as Result['group'][])
    .map((group): [string, string[][]] => [
      groupTitles[group],
      report.results.filter((result) => result.group === group).map(cellsOf),
    ])
    .filter(([, rows]) => rows.length > 0)
}

/** Lines of description: machine, limits, settings. */
function factsOf({ startedAt, machine, limits, settings }: Report): string[] {
  const gib = (machine.memoryByteLength / 2 ** 30).toFixed(0)
  return [
    `${startedAt}, ${machine.cpu}, ${machine.coreCount} cores, ${gib} GiB, ${machine.system}, Node.js ${machine.node}`,
    `limits: memcpy ${(limits.memcpyBytesPerSecond / 1e9).toFixed(1)} GB/s, ` +
      `4 KiB synced in ${limits.syncMs.toFixed(2)} ms, ` +
      `1 MiB after 1 MiB synced at ${(limits.syncedBytesPerSecond / 1e6).toFixed(0)} MB/s`,
    ...Object.entries(settings).map(([name, value]) => `${name}: ${value}`),
  ]
}

export function terminalText(report: Report): string {
  const groups = groupsOf(report)
  const all = [[...heads], ...groups.flatMap(([, rows]) => rows)]
  const widths = heads.map((_, column) => Math.max(...all.map((row) => row[column].length)))
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) =>
        column === 1 || column === 2 ? cell.padStart(widths[column]) : cell.padEnd(widths[column]),
      )
      .join('  ')
      .trimEnd()
  return [
    ...factsOf(report),
    '',
    line(heads),
    ...groups.flatMap(([title, rows]) => [title, ...rows.map(line)]),
    '',
  ].join('\n')
}

function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)]
}

/** name: of the chart beside it. */
export function markdownText(report: Report, name: string): string {
  const kernels = report.kernels.map((row) => [
    row.name,
    (row.valuesPerSecond / 1e6).toFixed(0),
    (row.bytesPerSecond / 1e9).toFixed(2),
    (row.memcpyBytesPerSecond / 1e9).toFixed(1),
    `${((100 * row.bytesPerSecond) / row.memcpyBytesPerSecond).toFixed(0)} %`,
    row.checksum,
  ])
  return [
    '# Latest results of `npm run bench`',
    '',
    ...factsOf(report).map((fact) => `- ${fact}`),
    '',
    `![Chart](${name}.svg)`,
    '',
    ...groupsOf(report).flatMap(([title, rows]) => [`## ${title}`, '', ...markdownTable(heads, rows), '']),
    ...(kernels.length === 0
      ? []
      : [
          '## All kernels, one thread',
          '',
          ...markdownTable(['', 'M values/s', 'GB/s', 'memcpy GB/s', 'of memcpy', 'answer'], kernels),
          '',
        ]),
  ].join('\n')
}

// ---- The chart ----

const barHeight = 22
const labelWidth = 380
const chartWidth = 420
const colors = ['#2a78b8', '#c8742a']

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

const otherSystems = ['DuckDB', 'ClickHouse', 'VictoriaMetrics', 'Redis', 'NATS']

/** Bars from a common zero, one chart below the other; other systems in another color. */
export function svgText(report: Report): string {
  const parts: string[] = []
  let y = 10
  const chart = (title: string, results: readonly Result[]) => {
    if (results.length === 0) return
    const max = Math.max(...results.map(({ value }) => value))
    parts.push(`<text x="10" y="${y + 18}" font-weight="bold">${escaped(title)}</text>`)
    y += 30
    for (const { name, value, unit } of results) {
      const width = Math.max(1, (chartWidth * value) / max)
      const color = colors[otherSystems.some((system) => name.includes(system)) ? 1 : 0]
      parts.push(
        `<text x="${labelWidth}" y="${y + 15}" text-anchor="end">${escaped(name)}</text>`,
        `<rect x="${labelWidth + 10}" y="${y}" width="${width.toFixed(1)}" height="${barHeight - 4}" fill="${color}"/>`,
        `<text x="${(labelWidth + 16 + width).toFixed(1)}" y="${y + 15}">${valueText(value)} ${escaped(unit)}</text>`,
      )
      y += barHeight
    }
    y += 14
  }
  const of = (group: Result['group']) => report.results.filter((result) => result.group === group)
  chart('Loading: more is better', of('load'))
  chart('On disk: less is better', of('size'))
  for (const group of ['query', 'tsbs'] as const) {
    const questions = new Set(of(group).map(({ name }) => name.split(': ')[0]))
    for (const question of questions) {
      chart(
        `${question}: less is better`,
        of(group).filter(({ name }) => name.startsWith(`${question}: `)),
      )
    }
  }
  const curves = growthCurves(of('scale'), y)
  parts.push(...curves.parts)
  y += curves.height
  chart('Key-value tables, loading: more is better', of('kv load'))
  chart('Key-value tables, points: more is better', of('kv point'))
  chart('Streams: more is better', of('stream'))
  const width = labelWidth + chartWidth + 140
  const head = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}"`
  return [
    `${head} font-family="sans-serif" font-size="13">`,
    `<rect width="${width}" height="${y}" fill="#ffffff"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n')
}

/**
 * What a load and a query of one series cost, in ms, over the samples of the table: both axes logarithmic, so that a straight
 * line of the slope of the dashed one is linear growth, and a flatter one is better.
 */
function growthCurves(results: readonly Result[], top: number): { parts: string[]; height: number } {
  const curves = new Map<string, { samples: number; ms: number }[]>()
  for (const { name, value, unit } of results) {
    const match = /^(.*): (\d+) (k|M) samples$/.exec(name)
    if (match === null) continue
    const samples = Number(match[2]) * (match[3] === 'M' ? 1e6 : 1e3)
    const curve = curves.get(match[1]) ?? []
    curve.push({ samples, ms: unit === 's' ? 1000 * value : value })
    curves.set(match[1], curve)
  }
  const points = [...curves.values()].flat()
  if (points.length < 2) return { parts: [], height: 0 }
  const [left, width, plotHeight] = [80, 520, 260]
  const scale = (values: readonly number[]) => {
    const [low, high] = [Math.floor(Math.log10(Math.min(...values))), Math.ceil(Math.log10(Math.max(...values)))]
    const span = Math.max(1, high - low)
    return {
      powers: Array.from({ length: span + 1 }, (_, i) => low + i),
      at: (value: number) => (Math.log10(value) - low) / span,
    }
  }
  const across = scale(points.map(({ samples }) => samples))
  const up = scale(points.map(({ ms }) => ms))
  const x = (samples: number) => (left + width * across.at(samples)).toFixed(1)
  const y = (ms: number) => (top + 30 + plotHeight * (1 - up.at(ms))).toFixed(1)
  const parts = [
    `<text x="10" y="${top + 18}" font-weight="bold">A hundred series that grow: ms over samples of the table</text>`,
  ]
  for (const power of across.powers)
    parts.push(
      `<text x="${x(10 ** power)}" y="${top + plotHeight + 48}" text-anchor="middle">${power < 6 ? `${10 ** (power - 3)} k` : `${10 ** (power - 6)} M`}</text>`,
    )
  for (const power of up.powers)
    parts.push(
      `<text x="${left - 8}" y="${y(10 ** power)}" text-anchor="end">${10 ** power}</text>`,
      `<path d="M${left} ${y(10 ** power)}h${width}" stroke="#dddddd"/>`,
    )
  const [first] = points
  const last = points.reduce((most, { samples }) => Math.max(most, samples), 0)
  const path = (all: readonly { samples: number; ms: number }[]) =>
    `M${all.map(({ samples, ms }) => `${x(samples)} ${y(ms)}`).join('L')}`
  const linear = [
    first,
    { samples: last, ms: Math.min((first.ms * last) / first.samples, 10 ** up.powers[up.powers.length - 1]) },
  ]
  linear[1] = { samples: (first.samples * linear[1].ms) / first.ms, ms: linear[1].ms }
  parts.push(`<path d="${path(linear)}" stroke="#888888" stroke-dasharray="4 4"/>`)
  const strokes = ['#2a78b8', '#c8742a', '#4a9a4a', '#8a5ab8']
  let number = 0
  for (const [name, curve] of curves) {
    const stroke = strokes[number++ % strokes.length]
    const end = curve[curve.length - 1]
    parts.push(
      `<path d="${path(curve)}" stroke="${stroke}" stroke-width="2" fill="none"/>`,
      `<text x="${(Number(x(end.samples)) + 8).toFixed(1)}" y="${y(end.ms)}" fill="${stroke}">${escaped(name)}</text>`,
    )
  }
  return { parts, height: plotHeight + 80 }
}

/** Writes NAME.json, NAME.md and NAME.svg. */
export function writeReport(report: Report, folder: string, name: string): void {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(report, null, 1)}\n`)
  writeFileSync(join(folder, `${name}.md`), markdownText(report, name))
  writeFileSync(join(folder, `${name}.svg`), svgText(report))
}
