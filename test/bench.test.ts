import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { benchKernels, kernelResults } from '../dist/bench/kernels.js'
import { markdownText, svgText, terminalText, writeReport } from '../dist/bench/report.js'
import type { Report, Result } from '../dist/bench/results.js'
import { runScale } from '../dist/bench/scale.js'
import { runSuite } from '../dist/bench/suite.js'
import { drawWorkload, metricNames, tagNames } from '../dist/bench/tsbs.js'

test('the workload is the same each time, whole numbers from 0 to 100, one row in ten seconds', () => {
  const workload = drawWorkload({ hostCount: 3, hours: 1 })
  expect(drawWorkload({ hostCount: 3, hours: 1 })).toEqual(workload)
  expect(drawWorkload({ hostCount: 3, hours: 1 }, 2).checksum).not.toBe(workload.checksum)
  expect(workload.checksum).toBe('85ee4bd8befd')
  expect(workload.rowCount).toBe(3 * 360)
  expect(workload.sampleCount).toBe(3 * 360 * metricNames.length)
  expect(workload.timesNs[1] - workload.timesNs[0]).toBe(10_000_000_000n)
  for (const { tags, metrics } of workload.hosts) {
    expect(Object.keys(tags)).toEqual([...tagNames])
    for (const values of metrics) for (const value of values) expect(value >= 0n && value <= 100n).toBe(true)
  }
})

test('all benches of kernels run, and those that have a target are among them', async () => {
  const rows = await benchKernels({ seconds: 1, isSmall: true })
  expect(new Set(rows.map(({ name }) => name)).size).toBe(rows.length)
  expect(kernelResults(rows).length).toBeGreaterThan(10)
})

// Many processes are started and ended: on a busy machine that takes its time.
test('the small bench loads, checks, reads and reports: framesd answers as DuckDB does', {
  timeout: 300_000,
}, async () => {
  const told: Result[] = []
  const report: Report = await runSuite({
    hostCount: 4,
    hours: 1,
    parts: new Set(['load', 'query', 'tsbs', 'size', 'read', 'memory', 'ingest'] as const),
    warmUpCount: 0,
    runCount: 1,
    callWarmUpCount: 1,
    queryWarmUpCount: 0,
    queryRunCount: 2,
    tsbsDrawCount: 2,
    tsbsWarmUpMs: 1,
    tsbsRunCount: 2,
    memoryLoadCount: 2,
    kernelSeconds: 0,
    ingestSeconds: 1,
    isSmall: true,
    found: (...results) => told.push(...results),
    say: () => {},
  })
  expect(new Set(report.results.map(({ group }) => group))).toContain('query')
  expect(told).toEqual(report.results)
  expect(new Set(told.filter(({ group }) => group === 'tsbs').map(({ name }) => name.split(',')[0])).size).toBe(10)
  for (const result of report.results) expect(result.value, result.name).toBeGreaterThan(0)
  expect(terminalText(report)).toContain('embedded, frames by host')
  expect(markdownText(report, 'latest')).toContain('| gRPC, frames by span |')
  expect(svgText(report)).toMatch(/^<svg [\s\S]*<\/svg>\n$/)
  const folder = mkdtempSync(join(tmpdir(), 'framesd-report-'))
  writeReport(report, folder, 'small')
  expect(JSON.parse(readFileSync(join(folder, 'small.json'), 'utf8'))).toEqual(JSON.parse(JSON.stringify(report)))
  rmSync(folder, { recursive: true })
})

test('the small bench of scale finds every sample again after a restart and draws a chart of the growth', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'framesd-scale-'))
  const told: Result[] = []
  const found = (...results: readonly Result[]) => told.push(...results)
  try {
    await runScale({ manySeriesCount: 500, longSampleCount: 0, growth: [40_000], folder, found, say: () => {} })
  } finally {
    rmSync(folder, { recursive: true })
  }
  const names = told.map(({ name }) => name)
  for (const name of ['500 series x 10: load', '500 series x 10: one series, raw', 'load: 40 k samples'])
    expect(names).toContain(name)
  const machine = { cpu: '', coreCount: 1, memoryByteLength: 0, system: '', node: '' }
  const limits = { memcpyBytesPerSecond: 0, syncMs: 0, syncedBytesPerSecond: 0 }
  const report = { startedAt: '', machine, limits, settings: {}, results: told, kernels: [] }
  expect(svgText(report)).toContain('A hundred series that grow')
}, 180_000)
