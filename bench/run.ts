// npm run bench: runs everything, prints a table, writes bench/results/latest.{json,md,svg}.
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { kvPartNames } from './kv-suite.js'
import { resultLine, terminalText, writeReport } from './report.js'
import { type PartName, partNames, runSuite } from './suite.js'

const usage = `npm run bench -- [options]
  --hosts N      hosts of the workload (100)
  --hours N      hours of the workload (12)
  --runs N       counted runs of each load (5)
  --only NAME    one part, may be given several times: ${partNames.join(', ')}; kv for all of its parts
  --small        4 hosts, 1 hour, one run of everything: to see that all still works; writes nothing
`

const { values } = parseArgs({
  options: {
    hosts: { type: 'string' },
    hours: { type: 'string' },
    runs: { type: 'string' },
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
  const parts = partNames.filter((name) => names === undefined || names.includes(name))
  const unknown = names?.find((name) => !partNames.some((part) => part === name))
  if (unknown !== undefined) throw new Error(`there is no part '${unknown}'; there are ${partNames.join(', ')}`)
  return new Set(parts)
}

if (values.help) process.stdout.write(usage)
else {
  const { small } = values
  const report = await runSuite({
    hostCount: count(values.hosts, small ? 4 : 100),
    hours: count(values.hours, small ? 1 : 12),
    parts: partsOf(values.only),
    warmUpCount: small ? 0 : 3,
    runCount: count(values.runs, small ? 1 : 5),
    callWarmUpCount: small ? 1 : 4000,
    queryWarmUpCount: small ? 1 : 50,
    queryRunCount: small ? 3 : 100,
    tsbsDrawCount: small ? 2 : 20,
    tsbsWarmUpCount: small ? 1 : 60,
    tsbsRunCount: small ? 2 : 150,
    memoryLoadCount: small ? 2 : 10,
    kernelSeconds: small ? 1 : 40,
    isSmall: small,
    found: (...results) => {
      for (const result of results) process.stdout.write(`${resultLine(result)}\n`)
    },
    say: (text) => process.stderr.write(`… ${text}\n`),
  })
  process.stdout.write(`\n${terminalText(report)}`)
  if (!small && values.only === undefined) {
    // From dist/bench to the sources.
    const folder = fileURLToPath(new URL('../../bench/results', import.meta.url))
    writeReport(report, folder, 'latest')
    process.stdout.write(`written to ${folder}/latest.{json,md,svg}\n`)
  }
}
