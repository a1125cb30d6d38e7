// npm run bench: runs everything, prints a table, writes bench/results/latest.{json,md,svg}.
import { appendFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { kvPartNames } from './kv-suite.js'
import { resultLine, terminalText, writeReport } from './report.js'
import { longPartNames, type PartName, partNames, runSuite } from './suite.js'

const usage = `npm run bench -- [options]
  --hosts N      hosts of the workload (100)
  --hours N      hours of the workload (12)
  --runs N       counted runs of each load (10)
  --only NAME    one part, may be given several times: ${partNames.join(', ')};
                  kv for all of its parts
                 (${longPartNames.join(', ')}: only when named)
  --minutes N    of the part ingest (1)
  --small        4 hosts, 1 hour, one run of everything: to see that all still works; writes nothing
`

// From dist/bench to the sources.
const resultsFolder = fileURLToPath(new URL('../../bench/results', import.meta.url))

const { values } = parseArgs({
  options: {
    hosts: { type: 'string' },
    hours: { type: 'string' },
    runs: { type: 'string' },
    minutes: { type: 'string' },
    only: { type: 'string', multiple: true },
    small: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

function count(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise
  const number = Number(text)
  if (!(number > 0)) throw new Error(`'${text}' is no number above 0`)
  return number
}

function partsOf(given: readonly string[] | undefined): ReadonlySet<PartName> {
  const names = given?.flatMap((name) => (name === 'kv' ? kvPartNames : [name]))
  const parts = partNames.filter((name) => names?.includes(name) ?? !longPartNames.includes(name))
  const unknown = names?.find((name) => !partNames.some((part) => part === name))
  if (unknown !== undefined) throw new Error(`there is no part '${unknown}'; there are ${partNames.join(', ')}`)
  return new Set(parts)
}

if (values.help) process.stdout.write(usage)
else {
  const { small } = values
  // A run that is ended early leaves its results here.
  const unfinishedPath = join(resultsFolder, 'unfinished.jsonl')
  if (!small) writeFileSync(unfinishedPath, '')
  const report = await runSuite({
    hostCount: count(values.hosts, small ? 4 : 100),
    hours: count(values.hours, small ? 1 : 12),
    parts: partsOf(values.only),
    warmUpCount: small ? 0 : 20,
    runCount: count(values.runs, small ? 1 : 10),
    callWarmUpCount: small ? 1 : 4000,
    queryWarmUpCount: small ? 1 : 50,
    queryRunCount: small ? 3 : 100,
    tsbsDrawCount: small ? 2 : 20,
    tsbsWarmUpMs: small ? 20 : 1000,
    tsbsRunCount: small ? 2 : 120,
    memoryLoadCount: small ? 2 : 10,
    kernelSeconds: small ? 1 : 40,
    ingestSeconds: 60 * count(values.minutes, 1),
    isSmall: small,
    found: (...results) => {
      for (const result of results) {
        process.stdout.write(`${resultLine(result)}\n`)
        if (!small) appendFileSync(unfinishedPath, `${JSON.stringify(result)}\n`)
      }
    },
    say: (text) => process.stderr.write(`… ${text}\n`),
  })
  process.stdout.write(`\n${terminalText(report)}`)
  if (!small) {
    const name = values.only === undefined ? 'latest' : values.only.join() === 'scale' ? 'scale' : null
    if (name !== null) {
      writeReport(report, resultsFolder, name)
      process.stdout.write(`written to ${resultsFolder}/${name}.{json,md,svg}\n`)
    }
    rmSync(unfinishedPath)
  }
}
