// The whole engine against a plain model: random frames, merges and restarts in any order; every answer must be the
// model's. ROUNDS=n makes n times as many steps, SEED=n repeats a run.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { type Engine, openEngine } from '../dist/engine/index.js'
import { SeededRandom, seed } from './seeded-random.js'
import { type ModelCell, type ModelFrame, labelText, randomFrame, sameCell, toFrame, TsdbModel } from './tsdb-model.js'

const root = mkdtempSync(join(tmpdir(), 'framesd-model-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

const stepCount = 60 * Number(process.env['ROUNDS'] ?? 1)
const partitionMs = 48 * 3_600_000
const backend = 'tsdb'
const table = 'model'

class Machine {
  engine!: Engine
  readonly model: TsdbModel
  readonly #dataDir: string | null
  readonly #duplicates: 'last' | 'first'
  readonly problems: string[] = []

  constructor(dataDir: string | null, duplicates: 'last' | 'first') {
    this.#dataDir = dataDir
    this.#duplicates = duplicates
    this.model = new TsdbModel(duplicates === 'last')
  }

  async open(): Promise<void> {
    this.engine = await openEngine({
      dataDir: this.#dataDir,
      memoryByteLength: 384 * 2 ** 20,
      workerCount: 2,
      report: (message, error) => this.problems.push(error instanceof Error ? `${message}: ${error.stack}` : message),
    })
    const schema = { fields: [{ name: 'options', properties: { duplicates: this.#duplicates } }] }
    await this.engine.create({ backend, table, rate: '1/s', ifExists: 'ignore', schema })
  }

  async close(): Promise<void> {
    await this.engine.close()
    const { memory } = this.engine.statistics()
    const used = [memory.arenas, memory.heads, memory.labelTables, memory.decodedPages].map(
      (region) => region.byteLengthUsed,
    )
    expect(used, 'all memory is given back').toEqual([0, 0, 0, 0])
    expect(this.problems).toEqual([])
  }

  /** Whole frames of the model in [startMs, endMs], raw, against the engine's. */
  async checkRaw(startMs: number, endMs: number, where: string): Promise<void> {
    const { model } = this
    const found = new Map<string, { names: string[]; rows: { timeNs: bigint; cells: ModelCell[] }[] }>()
    const request = { backend, table, start: String(startMs), end: String(endMs) }
    for await (const frame of this.engine.read(request)) {
      const labels = Object.fromEntries(frame.labels) as Record<string, string>
      const names = frame.names.filter((name) => !(name in labels))
      const text = labelText(labels)
      let entry = found.get(text)
      if (entry === undefined) found.set(text, (entry = { names, rows: [] }))
      expect(names, `${where}: metrics of {${text}}`).toEqual(entry.names)
      const times = frame.indices[0]!.times()
      const columns = names.map((name) => frame.column(name).values())
      for (let row = 0; row < times.length; row++) {
        entry.rows.push({ timeNs: times[row]!, cells: columns.map((cells) => cells[row] as ModelCell) })
      }
    }
    for (const text of model.sets.keys()) {
      const wanted = model.rows(text, startMs, endMs)
      const got = found.get(text)
      if (wanted.rows.length === 0) {
        expect(got, `${where}: {${text}} has no rows`).toBeUndefined()
        continue
      }
      expect(got?.names, `${where}: metrics of {${text}}`).toEqual(wanted.names)
      expect(got?.rows.length, `${where}: rows of {${text}}`).toBe(wanted.rows.length)
      wanted.rows.forEach(({ timeNs, cells }, row) => {
        const same = got!.rows[row]!
        const isSame = same.timeNs === timeNs && cells.every((cell, i) => sameCell(cell, same.cells[i]!))
        if (!isSame) expect(same, `${where}: row ${row} of {${text}}`).toEqual({ timeNs, cells })
      })
      found.delete(text)
    }
    expect([...found.keys()], `${where}: no other label sets`).toEqual([])
  }

  /** Deletes a range, of all or of some series; now and then one that holds everything, or nothing. */
  async deleteSome(random: SeededRandom, timeMsMax: number): Promise<void> {
    const [a, b] = [random.integer(0, timeMsMax), random.integer(0, timeMsMax)]
    const startMs = random.chance(0.05) ? 0 : Math.min(a, b)
    const endMs = random.chance(0.05) ? timeMsMax : random.chance(0.5) ? startMs + 10_000_000 : Math.max(a, b)
    const metrics = random.chance(0.5)
      ? null
      : random.list(random.integer(1, 3), () => random.pick(['cpu', 'note', 'nosuch']))
    const { text, holds } = random.pick([
      { text: '', holds: () => true },
      { text: "host == 'a'", holds: (labels: string) => labels.split(',').includes('host=a') },
      { text: "host != 'a'", holds: (labels: string) => /host=[^a]/.test(labels) },
      {
        text: "_name == 'cpu' or os == 'mac'",
        holds: (labels: string, metric: string) => metric === 'cpu' || /os=mac/.test(labels),
      },
    ])
    const range = { start: String(startMs), end: String(endMs), filter: text }
    await this.engine.delete({ backend, table, ...range, ...(metrics === null ? {} : { metrics }) })
    this.model.delete(startMs, endMs, (labels, metric) => holds(labels, metric) && (metrics?.includes(metric) ?? true))
  }

  /** Functions over time against sums over the model's samples. */
  async checkOverTime(startMs: number, endMs: number, stepMs: number, where: string): Promise<void> {
    const { model } = this
    const partitions = new Set<number>()
    for (const metrics of model.sets.values()) {
      for (const { samples } of metrics.values()) {
        for (const timeNs of samples.keys()) partitions.add(Math.floor(Number(timeNs / 1_000_000n) / partitionMs))
      }
    }
    const inRange = [...partitions].filter(
      (p) => p >= Math.floor(startMs / partitionMs) && p <= Math.floor(endMs / partitionMs),
    )
    const from = Math.max(startMs, Math.min(...inRange) * partitionMs)
    const to = Math.min(endMs, (Math.max(...inRange) + 1) * partitionMs - 1)
    const functions = ['count', 'sum', 'min', 'max', 'last', 'avg', 'stdvar']
    const request = {
      backend,
      table,
      start: String(startMs),
      end: String(endMs),
      step: `${stepMs / 1000}s`,
      aggregators: functions.join(),
    }
    const wanted = new Map<string, number[]>()
    if (inRange.length > 0) {
      for (const [text, metrics] of model.sets) {
        for (const metric of metrics.keys()) {
          const buckets = new Map<number, number[]>()
          let isText = false
          for (const { timeNs, cell } of model.samples(text, metric, from, to)) {
            isText = typeof cell === 'string'
            const bucket = from + Math.floor((Number(timeNs / 1_000_000n) - from) / stepMs) * stepMs
            buckets.set(bucket, [...(buckets.get(bucket) ?? []), isText ? 0 : Number(cell)])
          }
          for (const [bucket, values] of buckets) {
            const results = aggregate(values).map((value, i) => (isText && i > 0 ? Number.NaN : value))
            const scale = scaleOf(values)
            functions.forEach((fn, i) => {
              wanted.set(`${text}/${fn}(${metric})/${bucket}`, [results[i]!, fn === 'stdvar' ? scale ** 2 : scale])
            })
          }
        }
      }
    }
    let count = 0
    for await (const frame of this.engine.read(request)) {
      const labels = Object.fromEntries(frame.labels) as Record<string, string>
      const times = frame.indices[0]!.times()
      for (const name of frame.names) {
        if (name in labels) continue
        const values = frame.column(name).floats()
        times.forEach((timeNs, row) => {
          const key = `${labelText(labels)}/${name}/${timeNs / 1_000_000n}`
          const want = wanted.get(key)
          const value = values[row]!
          if (want === undefined) expect(value, `${where}: ${key} has no samples`).toBeNaN()
          else {
            count++
            if (!isClose(value, want[0]!, want[1]!)) expect(value, `${where}: ${key}`).toBe(want[0])
          }
        })
      }
    }
    expect(count, `${where}: buckets`).toBe(wanted.size)
  }
}

function aggregate(values: readonly number[]): number[] {
  const n = values.length
  const sum = values.reduce((a, b) => a + b, 0)
  const mean = sum / n
  const hasNaN = values.some(Number.isNaN)
  const extreme = (pick: (a: number, b: number) => number) =>
    hasNaN ? Number.NaN : values.reduce((a, b) => pick(a, b))
  const variance = n < 2 ? Number.NaN : values.reduce((a, b) => a + (b - mean) ** 2, 0) / (n - 1)
  return [n, sum, extreme(Math.min), extreme(Math.max), values[n - 1]!, mean, variance]
}

/** How large a result may be: sums of mixed signs are small and lose digits. */
function scaleOf(values: readonly number[]): number {
  let scale = 1
  for (const value of values) if (Number.isFinite(value)) scale = Math.max(scale, Math.abs(value))
  return scale * values.length
}

function isClose(a: number, b: number, scale: number): boolean {
  if (Object.is(a, b) || a === b) return true
  // Overflow may be reached in one order of additions and not in another.
  return scale > 1e300 || Math.abs(a - b) <= 1e-12 * scale
}

async function run(machine: Machine, random: SeededRandom, canReopen: boolean): Promise<void> {
  const timeMsMax = 5 * partitionMs
  const { model } = machine
  await machine.open()
  for (let step = 0; step < stepCount; step++) {
    const where = `step ${step}`
    const choice = random.next()
    if (choice < 0.55) {
      const rowCount = random.pick([1, 2, 5, 30, 300, 300, 2000, random.chance(0.3) ? 9000 : 10])
      // Frames with the same columns are put together when several of them wait.
      const areAlike = random.chance(0.5)
      const frames: ModelFrame[] = []
      for (const count = random.pick([1, 1, 3, rowCount > 30 ? 3 : 20]); frames.length < count; ) {
        const shape = { rowCount, timeMsMax, gridMs: random.pick([1, 1000, 60_000, 1_800_000]) }
        frames.push(randomFrame(random, shape, areAlike && frames.length > 0 ? frames[0]! : null))
      }
      await machine.engine.write({ backend, table }, frames.map(toFrame))
      for (const frame of frames) model.write(frame)
    } else if (choice < 0.65) {
      // Writers beside each other: series of their own, since between them there is no order.
      const frames = random.list(4, (writer) => {
        const frame = randomFrame(random, { rowCount: random.integer(1, 200), timeMsMax, gridMs: 1000 })
        return { ...frame, frameLabels: { writer: `w${writer}` } }
      })
      await Promise.all(frames.map((frame) => machine.engine.write({ backend, table }, toFrame(frame))))
      for (const frame of frames) model.write(frame)
    } else if (choice < 0.7) {
      await machine.deleteSome(random, timeMsMax)
    } else if (choice < 0.77) {
      await machine.engine.execute({ backend, table, command: random.pick(['compact', 'flush']) })
    } else if (choice < 0.82 && canReopen) {
      await machine.close()
      await machine.open()
    } else {
      const [a, b] = [random.integer(0, timeMsMax), random.integer(0, timeMsMax)]
      const [startMs, endMs] = random.chance(0.3) ? [0, timeMsMax] : [Math.min(a, b), Math.max(a, b)]
      if (random.chance(0.5)) await machine.checkRaw(startMs, endMs, where)
      else await machine.checkOverTime(startMs, endMs, random.pick([7, 600, 86_400, 1_000_000]) * 1000, where)
    }
  }
  await machine.checkRaw(0, timeMsMax, 'at the end')
  await machine.engine.execute({ backend, table, command: 'compact' })
  await machine.checkRaw(0, timeMsMax, 'compacted')
  await machine.checkOverTime(0, timeMsMax, 3_600_000, 'compacted')
  await machine.close()
}

for (const duplicates of ['last', 'first'] as const) {
  test(`lmdb, duplicates=${duplicates}: every answer is the model's`, { timeout: 600_000 }, async () => {
    await run(new Machine(join(root, duplicates), duplicates), new SeededRandom(seed), true)
  })

  test(`memory, duplicates=${duplicates}: every answer is the model's`, { timeout: 600_000 }, async () => {
    await run(new Machine(null, duplicates), new SeededRandom(seed + 1), false)
  })
}
