// Column kernels: bitmaps, comparisons, gathering, conversions, aggregates, and the buckets of a series.
import { createHash } from 'node:crypto'
import { Bench } from 'tinybench'
import { createMemory, loadKernels } from '../engine/kernels/kernels.js'
import { Scratch } from '../engine/memory/scratch.js'
import type { BenchRow } from './rows.js'

export interface ColumnsBenchOptions {
  /** How long all measurements together take, without their preparation. */
  readonly seconds: number
  /** Rows of each column: 1 Mi by default, so that a column is larger than a core's own caches. */
  readonly rowCount?: number
}

interface Case {
  readonly name: string
  readonly valueCount: number
  /** Bytes of input. */
  readonly byteLength: number
  readonly run: () => void
  /** Where the answer stands. */
  readonly answer: { readonly at: number; readonly byteLength: number }
}

/** A repeatable sequence of numbers in [0, 1) (the linear congruential generator of Numerical Recipes). */
function fractions(seed: number): () => number {
  let state = seed
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32
}

const which = { sum: 2, extremes: 4, last: 8, variance: 16 } as const
const extremesAndSum = which.sum + which.extremes
const allOfThem = 2 + 4 + 8 + 16

export async function benchColumns(options: ColumnsBenchOptions): Promise<BenchRow[]> {
  const rowCount = options.rowCount ?? 1 << 20
  const memoryByteLength = 160 * rowCount + (1 << 20)
  const kernels = loadKernels(createMemory(memoryByteLength))
  const { call } = kernels
  const heapBase = call.heapBase()
  const scratch = new Scratch({ byteOffset: heapBase, byteLength: memoryByteLength - heapBase })
  const next = fractions(1)
  const cases: Case[] = []

  const allocate64s = () => scratch.allocate(8 * rowCount)
  const bitmapByteLength = Math.ceil(rowCount / 8)
  const writeBits = (chance: number) => {
    const at = scratch.allocate(bitmapByteLength)
    for (let row = 0; row < rowCount; row++) if (next() < chance) kernels.u8[at + (row >> 3)] |= 1 << (row & 7)
    return at
  }
  const writeTimes = (intervalOf: () => number) => {
    const at = allocate64s()
    let timeNs = 0
    for (let row = 0; row < rowCount; row++) kernels.i64[at / 8 + row] = BigInt((timeNs += intervalOf()))
    return at
  }

  const floats = allocate64s()
  for (let row = 0; row < rowCount; row++) kernels.f64[floats / 8 + row] = Math.round(next() * 10_000) / 100
  const integers = allocate64s()
  for (let row = 0; row < rowCount; row++) kernels.i64[integers / 8 + row] = BigInt(Math.floor(next() * 1e6) - 500_000)
  const halfPresent = writeBits(0.5)
  const mostlyPresent = writeBits(0.99)
  const bits = writeBits(0.5)
  const target = allocate64s()
  const target64s = { at: target, byteLength: 8 * rowCount }
  const targetBits = { at: target, byteLength: bitmapByteLength }
  const byColumn = (name: string, rowByteLength: number, answer: Case['answer'], run: () => void) =>
    cases.push({ name, valueCount: rowCount, byteLength: Math.ceil(rowCount * rowByteLength), run, answer })
  const storeNumber = (value: number) => {
    kernels.f64[target / 8] = value
  }
  const targetNumber = { at: target, byteLength: 8 }

  // Buckets of a series: rows at a fixed interval, and rows whose intervals vary from nothing to the double.
  const stateByteLength = call.windowStateByteLength(Math.ceil(rowCount / 6) + 2)
  const state = scratch.allocate(stateByteLength)
  const regularTimes = writeTimes(() => 1000)
  const randomTimes = writeTimes(() => Math.floor(next() * 2000))
  const byWindow = (
    name: string,
    rowsOfBucket: number,
    times: number,
    rowByteLength: number,
    accumulate: (startNs: bigint, stepNs: bigint, bucketCount: number) => void,
  ) => {
    const startNs = kernels.i64[times / 8]
    const bucketCount = Math.ceil(rowCount / rowsOfBucket) + 1
    const stepNs = (kernels.i64[times / 8 + rowCount - 1] - startNs) / BigInt(bucketCount - 1) + 1n
    byColumn(name, rowByteLength, { at: state, byteLength: call.windowStateByteLength(bucketCount) }, () => {
      call.initWindows(state, bucketCount)
      accumulate(startNs, stepNs, bucketCount)
    })
  }
  const windowsOfFloats = (rowsOfBucket: number, times: number, validity: number, kept: number, kind: string) =>
    byWindow(`buckets of ${rowsOfBucket} rows, float64, ${kind}`, rowsOfBucket, times, 16, (startNs, stepNs, count) =>
      call.accumulateWindowsFloat64(times, floats, validity, rowCount, startNs, stepNs, count, state, kept),
    )
  for (const rowsOfBucket of [6, 60, 600, 4096]) {
    windowsOfFloats(rowsOfBucket, regularTimes, 0, extremesAndSum, 'sum min max')
    windowsOfFloats(rowsOfBucket, randomTimes, 0, extremesAndSum, 'sum min max, uneven times')
    windowsOfFloats(rowsOfBucket, regularTimes, 0, which.sum, 'sum')
    windowsOfFloats(rowsOfBucket, regularTimes, 0, which.extremes, 'min max')
    windowsOfFloats(rowsOfBucket, regularTimes, 0, which.last, 'last')
    windowsOfFloats(rowsOfBucket, regularTimes, 0, which.variance, 'variance')
    windowsOfFloats(rowsOfBucket, regularTimes, 0, allOfThem, 'all')
    windowsOfFloats(rowsOfBucket, regularTimes, mostlyPresent, extremesAndSum, 'sum min max, 1 % missing')
    windowsOfFloats(rowsOfBucket, regularTimes, halfPresent, extremesAndSum, 'sum min max, half missing')
    byWindow(
      `buckets of ${rowsOfBucket} rows, int64, sum min max`,
      rowsOfBucket,
      regularTimes,
      16,
      (startNs, stepNs, count) =>
        call.accumulateWindowsInt64(regularTimes, integers, 0, rowCount, startNs, stepNs, count, state, extremesAndSum),
    )
    byWindow(`buckets of ${rowsOfBucket} rows, count`, rowsOfBucket, regularTimes, 8, (startNs, stepNs, count) =>
      call.accumulateWindowsCount(regularTimes, 0, rowCount, startNs, stepNs, count, state),
    )
  }
  byWindow(
    'look-back windows of 5 steps of 12 rows, float64, sum min max',
    12,
    regularTimes,
    16,
    (startNs, stepNs, count) =>
      call.accumulateLookbackFloat64(
        regularTimes,
        floats,
        0,
        rowCount,
        startNs,
        stepNs,
        count,
        5n * stepNs,
        state,
        extremesAndSum,
      ),
  )
  const finishedCount = Math.ceil(rowCount / 6)
  for (const [aggregate, name] of ['count', 'sum', 'sqr', 'min', 'max', 'last', 'avg', 'stdvar', 'stddev'].entries()) {
    if (!['sum', 'avg', 'stddev'].includes(name)) continue
    cases.push({
      name: `finish buckets, ${name}`,
      valueCount: finishedCount,
      byteLength: 8 * finishedCount,
      run: () => call.finishWindows(state, finishedCount, aggregate, target),
      answer: { at: target, byteLength: 8 * finishedCount },
    })
  }

  byColumn('sum float64', 8, targetNumber, () => storeNumber(call.sumFloat64(floats, 0, rowCount)))
  byColumn('sum float64, half missing', 8, targetNumber, () =>
    storeNumber(call.sumFloat64(floats, halfPresent, rowCount)),
  )
  byColumn('min float64', 8, targetNumber, () => storeNumber(call.minFloat64(floats, 0, rowCount)))
  byColumn('min float64, half missing', 8, targetNumber, () =>
    storeNumber(call.minFloat64(floats, halfPresent, rowCount)),
  )
  byColumn('sum int64', 8, targetNumber, () => storeNumber(call.sumInt64AsFloat64(integers, 0, rowCount)))
  byColumn('sum int64, half missing', 8, targetNumber, () =>
    storeNumber(call.sumInt64AsFloat64(integers, halfPresent, rowCount)),
  )
  byColumn('min int64', 8, targetNumber, () => storeNumber(Number(call.minInt64(integers, 0, rowCount))))

  byColumn('mask float64 in range', 8, targetBits, () => call.maskFloat64InRange(floats, rowCount, 20, 50, target))
  byColumn('compare float64 <', 8, targetBits, () => call.compareFloat64(floats, rowCount, 2, 50, target))
  byColumn('compare int64 ==', 8, targetBits, () => call.compareInt64(integers, rowCount, 0, 7n, target))

  byColumn('compact 8-byte values, half missing', 8, target64s, () =>
    call.compact64(floats, halfPresent, rowCount, target),
  )
  byColumn('compact 8-byte values, 1 % missing', 8, target64s, () =>
    call.compact64(floats, mostlyPresent, rowCount, target),
  )
  byColumn('expand 8-byte values, half missing', 8, target64s, () =>
    call.expand64(floats, halfPresent, rowCount, target),
  )
  byColumn('compact bits, half missing', 1 / 8, targetBits, () => call.compactBits(bits, halfPresent, rowCount, target))
  byColumn('expand bits, half missing', 1 / 8, targetBits, () => call.expandBits(bits, halfPresent, rowCount, target))
  byColumn('count bits', 1 / 8, targetNumber, () => storeNumber(call.countBits(bits, rowCount)))
  byColumn('and bits', 1 / 4, targetBits, () => call.andBits(bits, halfPresent, target, rowCount))
  byColumn('copy bits, 3 bits apart', 1 / 8, targetBits, () => call.copyBits(bits, 5, target, 2, rowCount - 8))
  byColumn('list set bits, half', 1 / 8, { at: target, byteLength: 4 * call.countBits(bits, rowCount) }, () =>
    call.bitsToIndexes(bits, rowCount, target),
  )
  byColumn('int64 to float64', 8, target64s, () => call.convertInt64ToFloat64(integers, rowCount, target))
  byColumn('bits to float64', 1 / 8, target64s, () => call.convertBitsToFloat64(bits, rowCount, target))

  // Row numbers: a stride that visits every row once, and pieces of 1000 rows as a merge makes them.
  const indexes = scratch.allocate(4 * rowCount)
  const pieces = scratch.allocate(4 * rowCount)
  const pieceCount = Math.floor(rowCount / 1000)
  for (let i = 0; i < rowCount; i++) {
    kernels.u32[indexes / 4 + i] = Math.floor(next() * rowCount)
    kernels.u32[pieces / 4 + i] = i < pieceCount * 1000 ? ((((i / 1000) | 0) * 2) % pieceCount) * 1000 + (i % 1000) : i
  }
  byColumn('gather 8-byte values at random', 12, target64s, () => call.gather64(floats, indexes, rowCount, target))
  byColumn('gather 8-byte values in pieces', 12, target64s, () => call.gather64(floats, pieces, rowCount, target))
  byColumn('gather bits at random', 4, targetBits, () => call.gatherBits(bits, indexes, rowCount, target))

  // Host names: 6 to 12 bytes, as labels are.
  const offsets = scratch.allocate(4 * (rowCount + 1))
  const bytes = scratch.allocate(12 * rowCount)
  let byteLength = 0
  for (let row = 0; row < rowCount; row++) {
    const text = Buffer.from(`host_${Math.floor(next() ** 3 * 1e6)}`)
    kernels.u8.set(text, bytes + byteLength)
    kernels.u32[offsets / 4 + row + 1] = byteLength += text.length
  }
  const text = Buffer.from('host_424')
  const textPtr = scratch.allocate(text.length)
  kernels.u8.set(text, textPtr)
  const targetOffsets = scratch.allocate(4 * (rowCount + 1))
  const targetText = scratch.allocate(12 * rowCount + 12)
  const textRow = byteLength / rowCount + 4
  byColumn('compare strings ==', textRow, targetBits, () =>
    call.compareStrings(offsets, bytes, rowCount, 0, textPtr, text.length, target),
  )
  byColumn('compare strings <', textRow, targetBits, () =>
    call.compareStrings(offsets, bytes, rowCount, 2, textPtr, text.length, target),
  )
  byColumn('strings that start with', textRow, targetBits, () =>
    call.startsStrings(offsets, bytes, rowCount, textPtr, text.length, target),
  )
  byColumn('strings that contain', textRow, targetBits, () =>
    call.containsStrings(offsets, bytes, rowCount, textPtr + 5, 3, target),
  )
  const gathered = { at: targetOffsets, byteLength: 4 * (rowCount + 1) }
  // In turn every row once, so that the target is large enough.
  byColumn('gather strings in pieces', textRow + 4, gathered, () =>
    call.gatherStrings(offsets, bytes, pieces, rowCount, targetOffsets, targetText),
  )
  byColumn('gather strings at random', textRow + 4, gathered, () =>
    call.gatherStrings(offsets, bytes, indexes, rowCount, targetOffsets, targetText),
  )
  byColumn('append a range of strings', textRow, gathered, () =>
    call.copyStrings(offsets, bytes, 0, rowCount, targetOffsets, 7, targetText),
  )

  const results: BenchRow[] = []
  for (const { name, valueCount, byteLength, run, answer } of cases) {
    const timeMs = (1000 * options.seconds) / cases.length
    const bench = new Bench({ time: timeMs, iterations: 3, warmupTime: timeMs / 4, warmupIterations: 1 })
    bench.add(name, run)
    await bench.run()
    // Once more, since other cases share the target.
    run()
    const seconds = medianSeconds(bench)
    results.push({
      name,
      valuesPerSecond: valueCount / seconds,
      bytesPerSecond: byteLength / seconds,
      memcpyBytesPerSecond: byteLength / copySeconds(byteLength),
      checksum: createHash('sha256')
        .update(kernels.u8.slice(answer.at, answer.at + answer.byteLength))
        .digest('hex')
        .slice(0, 12),
    })
  }
  return results
}

function medianSeconds(bench: Bench): number {
  const { result } = bench.tasks[0]
  if (result.state === 'errored') throw result.error
  if (result.state !== 'completed') throw new Error(`a bench ended as ${result.state}`)
  return result.latency.p50 / 1000
}

/** How long copying as many bytes takes here: the best of a few. */
function copySeconds(byteLength: number): number {
  const source = new Uint8Array(byteLength)
  const target = new Uint8Array(byteLength)
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < 5; i++) {
    const start = performance.now()
    target.set(source)
    best = Math.min(best, performance.now() - start)
  }
  return best / 1000
}
