// Grouping rows by label set, numbering label sets, sorting and merging rows by time: what a tsdb write and merge do.
import { createHash } from 'node:crypto'
import { Bench } from 'tinybench'
import { createMemory, loadKernels } from '../engine/kernels/kernels.js'
import { Scratch } from '../engine/memory/scratch.js'
import type { BenchRow } from './rows.js'

export interface OrderBenchOptions {
  /** How long all measurements together take, without their preparation. */
  readonly seconds: number
  /** Rows of a frame. */
  readonly rowCount?: number
  /** Label sets of a table. */
  readonly setCount?: number
  /** Measures only what has this in its name. */
  readonly only?: string
}

interface Case {
  readonly name: string
  readonly valueCount: number
  readonly byteLength: number
  /** Brings inputs that a run overwrites back; not measured. */
  readonly before?: () => void
  readonly run: () => void
  /** Where the answer stands. */
  readonly answer: () => { at: number; byteLength: number }
}

const hostCount = 1000
const regions = ['us-east-1', 'us-west-1', 'us-west-2', 'eu-west-1', 'eu-central-1', 'ap-southeast-1', 'sa-east-1']

/** Ten labels of a host, in the manner of the Time Series Benchmark Suite's "cpu-only" use case. */
function labelsOfHost(host: number): string[] {
  const draw = (salt: number, bound: number) => numbers(Math.imul(host + 1, 0x9e3779b1) ^ (salt << 20))(bound)
  const region = regions[draw(1, regions.length)]
  return [
    draw(2, 2) === 0 ? 'x64' : 'x86',
    `${region}${'abc'[draw(3, 3)]}`,
    `host_${host}`,
    ['Ubuntu16.10', 'Ubuntu16.04LTS', 'Ubuntu15.10'][draw(4, 3)],
    `${draw(5, 100)}`,
    region,
    `${draw(6, 20)}`,
    ['production', 'staging', 'test'][draw(7, 3)],
    `${draw(8, 2)}`,
    ['SF', 'NYC', 'LON', 'CHI'][draw(9, 4)],
  ]
}

const labelNames = 'arch,datacenter,hostname,os,rack,region,service,service_environment,service_version,team'.split(',')

/** A repeatable sequence of whole numbers (the linear congruential generator of Numerical Recipes, high bits). */
function numbers(seed: number): (bound: number) => number {
  let state = seed
  return (bound) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * bound)
  }
}

export async function benchOrder(options: OrderBenchOptions): Promise<BenchRow[]> {
  const rowCount = options.rowCount ?? 256 * 1024
  const setCount = options.setCount ?? 1_000_000
  const memory = createMemory(1 << 30)
  const kernels = loadKernels(memory)
  const { call } = kernels
  const scratch = new Scratch({ byteOffset: call.heapBase(), byteLength: (1 << 30) - call.heapBase() })
  const u32s = (count: number) => scratch.allocate(4 * count)
  const cases: Case[] = []

  const writeU32s = (values: ArrayLike<number>) => {
    const at = u32s(values.length)
    kernels.u32.set(values, at / 4)
    return at
  }
  const writeTimes = (times: readonly number[]) => {
    const at = scratch.allocate(8 * times.length)
    const startNs = 1_700_000_000_000_000_000n
    for (let row = 0; row < times.length; row++) kernels.i64[at / 8 + row] = startNs + BigInt(times[row]) * 1_000_000n
    return at
  }
  const writeStrings = (texts: readonly string[]) => {
    const bytes = Buffer.from(texts.join(''))
    const offsets = u32s(texts.length + 1)
    let end = 0
    for (let row = 0; row < texts.length; row++)
      kernels.u32[offsets / 4 + row + 1] = end += Buffer.byteLength(texts[row])
    const at = scratch.allocate(bytes.length)
    kernels.u8.set(bytes, at)
    return { offsets, bytes: at, byteLength: bytes.length + 4 * texts.length }
  }

  const codes = u32s(rowCount)
  const combined = u32s(rowCount)
  const firstRows = u32s(rowCount)
  const tableCapacity = call.groupTableCapacity(rowCount)
  const table = u32s(tableCapacity)

  // Grouping: ten label columns to one code a row.
  const hosts = Array.from({ length: hostCount }, (_, host) => labelsOfHost(host))
  const draw = numbers(1)
  const orders: [string, (row: number) => number][] = [
    ['hosts in turn', (row) => row % hostCount],
    ['hosts in runs', (row) => Math.floor((row * hostCount) / rowCount)],
    ['hosts mixed', () => draw(hostCount)],
  ]
  for (const [order, hostOf] of orders) {
    const hostOfRow = Array.from({ length: rowCount }, (_, row) => hostOf(row))
    const columns = labelNames.map((_, label) => writeStrings(hostOfRow.map((host) => hosts[host][label])))
    cases.push({
      name: `group by ten labels, ${order}`,
      valueCount: rowCount,
      byteLength: columns.reduce((sum, column) => sum + column.byteLength, 0),
      run: () => {
        const { dictionaryStrings, combineCodes } = call
        let count = 0
        for (let label = 0; label < columns.length; label++) {
          const { offsets, bytes } = columns[label]
          const target = label === 0 ? combined : codes
          const distinct = dictionaryStrings(offsets, bytes, rowCount, target, firstRows, table, tableCapacity)
          count =
            label === 0
              ? distinct
              : combineCodes(combined, count, codes, distinct, rowCount, combined, firstRows, table, tableCapacity)
        }
      },
      answer: () => ({ at: combined, byteLength: 4 * rowCount }),
    })
  }

  const names = writeStrings(Array.from({ length: rowCount }, (_, row) => `item-${row}`))
  cases.push({
    name: 'dictionary of strings, all distinct',
    valueCount: rowCount,
    byteLength: names.byteLength,
    run: () => call.dictionaryStrings(names.offsets, names.bytes, rowCount, codes, firstRows, table, tableCapacity),
    answer: () => ({ at: codes, byteLength: 4 * rowCount }),
  })
  const integers = writeTimes(Array.from({ length: rowCount }, () => draw(10_000)))
  cases.push({
    name: 'dictionary of int64, 10,000 distinct at random',
    valueCount: rowCount,
    byteLength: 8 * rowCount,
    run: () => call.dictionary64(integers, rowCount, codes, firstRows, table, tableCapacity),
    answer: () => ({ at: codes, byteLength: 4 * rowCount }),
  })

  // Label sets: keys of `setCount` sets of five labels, found in random order in a table of all of them.
  const setLabels = ['datacenter', 'hostname', 'os', 'rack', 'service'] as const
  const entries: number[] = []
  for (const name of setLabels) {
    const namePtr = scratch.allocate(name.length)
    kernels.u8.set(Buffer.from(name), namePtr)
    const count = name === 'hostname' ? setCount : 100
    const values = writeStrings(Array.from({ length: count }, (_, i) => `${name === 'os' ? 'Ubuntu16.' : 'host_'}${i}`))
    const codesOfSets = Uint32Array.from({ length: setCount }, (_, set) => (name === 'hostname' ? set : draw(count)))
    entries.push(namePtr, name.length, writeU32s(codesOfSets), values.offsets, values.bytes, 0, 0, 0)
  }
  const columns = writeU32s(entries)
  const rows = writeU32s(Uint32Array.from({ length: setCount }, (_, set) => set))
  const keysByteLength = call.labelKeysByteLength(columns, setLabels.length, rows, setCount)
  const keyOffsets = u32s(setCount + 1)
  const keyBytes = scratch.allocate(keysByteLength)
  cases.push({
    name: 'compose keys of label sets',
    valueCount: setCount,
    byteLength: keysByteLength,
    run: () => {
      call.labelKeysByteLength(columns, setLabels.length, rows, setCount)
      call.labelKeys(columns, setLabels.length, rows, setCount, keyOffsets, keyBytes)
    },
    answer: () => ({ at: keyBytes, byteLength: keysByteLength }),
  })
  call.labelKeys(columns, setLabels.length, rows, setCount, keyOffsets, keyBytes)
  const labelTable = scratch.allocate(call.labelTableByteLength(setCount, keysByteLength) >>> 0)
  const sets = u32s(setCount)
  call.initLabelTable(labelTable, setCount, keysByteLength)
  call.labelTableInsert(labelTable, keyOffsets, keyBytes, setCount, sets)
  cases.push({
    name: 'number new label sets',
    valueCount: setCount,
    byteLength: keysByteLength,
    before: () => call.initLabelTable(labelTable, setCount, keysByteLength),
    run: () => call.labelTableInsert(labelTable, keyOffsets, keyBytes, setCount, sets),
    answer: () => ({ at: sets, byteLength: 4 * setCount }),
  })
  // Found in another order than they stand in the table.
  const findCount = Math.min(setCount, 1 << 18)
  const findRows = writeU32s(Uint32Array.from({ length: findCount }, () => draw(setCount)))
  const findByteLength = call.labelKeysByteLength(columns, setLabels.length, findRows, findCount)
  const findOffsets = u32s(findCount + 1)
  const findBytes = scratch.allocate(findByteLength)
  call.labelKeys(columns, setLabels.length, findRows, findCount, findOffsets, findBytes)
  cases.push({
    name: `find label sets among ${setCount}, at random`,
    valueCount: findCount,
    byteLength: findByteLength,
    run: () => call.labelTableFind(labelTable, setCount, findOffsets, findBytes, findCount, sets),
    answer: () => ({ at: sets, byteLength: 4 * findCount }),
  })
  const mixedSets = Uint32Array.from({ length: setCount }, (_, set) => set)
  for (let i = setCount - 1; i > 0; i--) {
    const other = draw(i + 1)
    const set = mixedSets[i]
    mixedSets[i] = mixedSets[other]
    mixedSets[other] = set
  }
  const sortScratch = scratch.allocate(call.sortLabelSetsScratchByteLength(setCount))
  cases.push({
    name: 'sort label sets by text',
    valueCount: setCount,
    byteLength: keysByteLength,
    before: () => kernels.u32.set(mixedSets, sets / 4),
    run: () => call.sortLabelSets(labelTable, sets, setCount, sortScratch),
    answer: () => ({ at: sets, byteLength: 4 * setCount }),
  })

  // Rows by code, then by time.
  const permutation = u32s(rowCount)
  const groupStarts = u32s(Math.max(rowCount, hostCount) + 1)
  const resetPermutation = () => {
    for (let row = 0; row < rowCount; row++) kernels.u32[permutation / 4 + row] = row
  }
  for (const [order, hostOf] of orders) {
    const hostCodes = writeU32s(Uint32Array.from({ length: rowCount }, (_, row) => hostOf(row)))
    cases.push({
      name: `rows by code, ${order}`,
      valueCount: rowCount,
      byteLength: 4 * rowCount,
      run: () => call.sortGroups(hostCodes, hostCount, rowCount, permutation, groupStarts),
      answer: () => ({ at: permutation, byteLength: 4 * rowCount }),
    })
  }
  const timeScratch = scratch.allocate(16 * rowCount)
  const late = numbers(2)
  const timesByOrder: [string, (row: number) => number][] = [
    ['sorted', (row) => row * 10],
    ['one in a hundred late', (row) => (late(100) === 0 ? Math.max(row - late(1000), 0) : row) * 10],
    ['two runs', (row) => (row * 20) % (rowCount * 10)],
    ['at random', () => late(100_000_000)],
  ]
  for (const [order, timeOf] of timesByOrder) {
    const times = writeTimes(Array.from({ length: rowCount }, (_, row) => timeOf(row)))
    if (order === 'sorted') {
      cases.push({
        name: 'are times sorted',
        valueCount: rowCount,
        byteLength: 8 * rowCount,
        run: () => call.isSortedInt64(times, rowCount),
        answer: () => ({ at: times, byteLength: 8 }),
      })
    }
    cases.push({
      name: `rows by time, ${order}`,
      valueCount: rowCount,
      byteLength: 8 * rowCount,
      before: resetPermutation,
      run: () => call.sortRowsByTime(times, permutation, 0, rowCount, timeScratch),
      answer: () => ({ at: permutation, byteLength: 4 * rowCount }),
    })
  }

  // Merge, and the choice of a cell.
  const values = writeTimes(Array.from({ length: rowCount }, (_, row) => row))
  const validity = scratch.allocate(rowCount / 8)
  for (let i = 0; i < rowCount / 8; i++) kernels.u8[validity + i] = draw(256)
  const target = scratch.allocate(8 * rowCount)
  const targetValidity = scratch.allocate(rowCount / 8)
  const mergeScratch = scratch.allocate(call.mergeTimesScratchByteLength(rowCount))
  const runsByForm: [string, number, (run: number, i: number, length: number) => number][] = [
    ['2 runs, row by row at random', 2, (_, i) => i * 10 + late(10)],
    ['2 runs of equal times', 2, (_, i) => i * 10],
    ['2 runs, in pieces of some 1000', 2, (run, i) => (i + (Math.floor(i / 1000) * 2 + run) * 1000) * 10],
    ['8 runs that do not overlap', 8, (run, i, length) => (((run * 5) % 8) * length + i) * 10],
    ['16 runs, row by row at random', 16, (_, i) => i * 10 + late(10)],
  ]
  for (const [form, runCount, timeOf] of runsByForm) {
    const length = Math.floor(rowCount / runCount)
    const mergedCount = length * runCount
    const times = writeTimes(
      Array.from({ length: mergedCount }, (_, row) => timeOf(Math.floor(row / length), row % length, length)),
    )
    const starts = writeU32s(Array.from({ length: runCount + 1 }, (_, run) => run * length))
    const merge = () => call.mergeTimes(times, starts, runCount, permutation, mergeScratch)
    cases.push({
      name: `merge ${form}`,
      valueCount: mergedCount,
      byteLength: 8 * mergedCount,
      run: merge,
      answer: () => ({ at: permutation, byteLength: 4 * mergedCount }),
    })
    if (runCount !== 2) continue
    const group = () => call.distinctTimes(times, permutation, 0, mergedCount, groupStarts)
    let groupCount = 0
    cases.push({
      name: `distinct times of ${form}`,
      valueCount: mergedCount,
      byteLength: 8 * mergedCount,
      before: merge,
      run: group,
      answer: () => ({ at: groupStarts, byteLength: 4 * group() }),
    })
    for (const [cells, validityPtr] of [
      ['all', 0],
      ['half of the', validity],
    ] as const) {
      cases.push({
        name: `newest of ${form}, ${cells} cells present`,
        valueCount: mergedCount,
        byteLength: 8 * mergedCount,
        before: () => {
          merge()
          groupCount = group()
        },
        run: () =>
          call.coalesce64(values, validityPtr, permutation, groupStarts, groupCount, 1, target, targetValidity),
        answer: () => ({ at: target, byteLength: 8 * groupCount }),
      })
    }
  }

  const results: BenchRow[] = []
  for (const { name, valueCount, byteLength, before, run, answer } of cases) {
    if (!name.includes(options.only ?? '')) continue
    const timeMs = (1000 * options.seconds) / cases.length
    const bench = new Bench({ time: timeMs, iterations: 3, warmupTime: timeMs / 4, warmupIterations: 1 })
    bench.add(name, run, before === undefined ? {} : { beforeEach: before })
    await bench.run()
    const seconds = fastestSeconds(bench)
    const { at, byteLength: answerByteLength } = answer()
    results.push({
      name,
      valuesPerSecond: valueCount / seconds,
      bytesPerSecond: byteLength / seconds,
      memcpyBytesPerSecond: byteLength / copySeconds(byteLength),
      checksum: createHash('sha256')
        .update(kernels.u8.slice(at, at + answerByteLength))
        .digest('hex')
        .slice(0, 12),
    })
  }
  return results
}

/** The fastest run: what else the machine does at the time is not ours. */
function fastestSeconds(bench: Bench): number {
  const { result } = bench.tasks[0]
  if (result.state === 'errored') throw result.error
  if (result.state !== 'completed') throw new Error(`a bench ended as ${result.state}`)
  return result.latency.min / 1000
}

const copyByteLengthMax = 64 << 20
const copySource = new Uint8Array(copyByteLengthMax)
const copyTarget = new Uint8Array(copyByteLengthMax)

/** How long copying takes here: the best of a few. */
function copySeconds(byteLength: number): number {
  const length = Math.min(byteLength, copyByteLengthMax)
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < 4; i++) {
    const start = performance.now()
    copyTarget.set(copySource.subarray(0, length))
    best = Math.min(best, performance.now() - start)
  }
  return ((best / 1000) * byteLength) / length
}
