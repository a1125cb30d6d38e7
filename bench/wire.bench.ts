// Frame bytes to columns and back: one column of 131,072 rows at a time (1 MiB of doubles: a message of ordinary size).
import { createHash } from 'node:crypto'
import { Bench } from 'tinybench'
import { decodeColumn, decodeNulls, encodedFrameBound, encodeFrame, scanFrame } from '../engine/codec/wire.js'
import type { ColumnSlice, FrameSlice } from '../engine/frame/column-slice.js'
import type { DType } from '../engine/frame/dtype.js'
import { createMemory, type Kernels, loadKernels } from '../engine/kernels/kernels.js'
import { KiB, MiB } from '../engine/limits.js'
import { Scratch } from '../engine/memory/scratch.js'
import type { BenchRow } from './rows.js'

export interface WireBenchOptions {
  /** How long all measurements together take, without their preparation. */
  readonly seconds: number
  readonly rowCount?: number
}

/** A column's values: a number or bigint of a row, or the text of a row. */
interface Case {
  readonly name: string
  readonly dtype: DType
  readonly valueAt: (row: number) => bigint | number | string
  /** Every so manyth cell is missing; 0: none. */
  readonly missingEvery: number
}

/** A whole number that looks random, the same on every machine. */
function mixed(row: number): number {
  const x = Math.imul(row ^ (row >>> 15), 0x2c1b3c6d)
  return (Math.imul(x ^ (x >>> 12), 0x297a2d39) ^ (x >>> 15)) >>> 0
}

const cases: readonly Case[] = [
  { name: 'doubles', dtype: 'float64', valueAt: (row) => mixed(row) / 100, missingEvery: 0 },
  {
    name: 'times (9-byte varints)',
    dtype: 'time',
    valueAt: (row) => 1_700_000_000_000_000_000n + BigInt(row) * 1_000_000_000n,
    missingEvery: 0,
  },
  { name: 'ints below 128', dtype: 'int64', valueAt: (row) => BigInt(mixed(row) % 128), missingEvery: 0 },
  {
    name: 'ints of 3 bytes',
    dtype: 'int64',
    valueAt: (row) => BigInt(100_000 + (mixed(row) % 1_000_000)),
    missingEvery: 0,
  },
  {
    name: 'ints of 1 to 3 bytes',
    dtype: 'int64',
    valueAt: (row) => BigInt(mixed(row) % 2 ** (1 + (mixed(~row) % 21))),
    missingEvery: 0,
  },
  {
    name: 'negative ints (10-byte varints)',
    dtype: 'int64',
    valueAt: (row) => BigInt(-1 - (mixed(row) % 1000)),
    missingEvery: 0,
  },
  { name: 'bools', dtype: 'bool', valueAt: (row) => mixed(row) & 1, missingEvery: 0 },
  { name: 'short strings', dtype: 'string', valueAt: (row) => `host_${mixed(row) % 4000}`, missingEvery: 0 },
  { name: 'doubles, every tenth missing', dtype: 'float64', valueAt: (row) => mixed(row) / 100, missingEvery: 10 },
]

function placeColumn(kernels: Kernels, test: Case, rowCount: number, scratch: Scratch): ColumnSlice {
  const { name, dtype, valueAt, missingEvery } = test
  const isMissing = (row: number) => missingEvery > 0 && row % missingEvery === 0
  const bitmap = (bitAt: (row: number) => boolean): number => {
    const pointer = scratch.allocate(Math.ceil(rowCount / 8))
    kernels.u8.fill(0, pointer, pointer + Math.ceil(rowCount / 8))
    for (let row = 0; row < rowCount; row++) if (bitAt(row)) kernels.u8[pointer + (row >> 3)]! |= 1 << (row & 7)
    return pointer
  }
  const validityPtr = missingEvery > 0 ? bitmap((row) => !isMissing(row)) : 0
  const column = { name, dtype, kind: 'slice', rowCount, validityPtr, bytesPtr: 0, byteLength: 0 } as const
  if (dtype === 'bool') return { ...column, valuesPtr: bitmap((row) => valueAt(row) === 1) }
  if (dtype === 'string') {
    const valuesPtr = scratch.allocate(4 * (rowCount + 1))
    const texts = Array.from({ length: rowCount }, (_, row) => String(valueAt(row)))
    const bytes = Buffer.from(texts.join(''))
    const bytesPtr = scratch.allocate(bytes.length)
    kernels.u8.set(bytes, bytesPtr)
    kernels.u32[valuesPtr / 4] = 0
    for (let row = 0, offset = 0; row < rowCount; row++) {
      offset += texts[row]!.length
      kernels.u32[valuesPtr / 4 + row + 1] = offset
    }
    return { ...column, valuesPtr, bytesPtr, byteLength: bytes.length }
  }
  const valuesPtr = scratch.allocate(8 * rowCount)
  for (let row = 0; row < rowCount; row++) {
    const value = valueAt(row)
    if (typeof value === 'bigint') kernels.i64[valuesPtr / 8 + row] = value
    else kernels.f64[valuesPtr / 8 + row] = isMissing(row) ? 0 : Number(value)
  }
  return { ...column, valuesPtr }
}

/** The best of many runs, in seconds: what the code can do, when nothing else has the core. */
async function bestSeconds(run: () => void, seconds: number): Promise<number> {
  const bench = new Bench({ time: 800 * seconds, warmupTime: 200 * seconds, iterations: 8, warmupIterations: 4 })
  bench.add('it', run)
  const [task] = await bench.run()
  const result = task?.result
  if (result === undefined || !('latency' in result)) throw new Error('a bench did not run')
  return result.latency.min / 1000
}

export async function benchWire(options: WireBenchOptions): Promise<BenchRow[]> {
  const rowCount = options.rowCount ?? 128 * KiB
  const kernels = loadKernels(createMemory(64 * MiB))
  const scratch = new Scratch({ byteOffset: 64 * KiB, byteLength: 64 * MiB - 64 * KiB })
  const seconds = options.seconds / (cases.length * 3)
  const rows: BenchRow[] = []
  const start = scratch.mark()
  for (const test of cases) {
    scratch.release(start)
    const column = placeColumn(kernels, test, rowCount, scratch)
    const frame: FrameSlice = { rowCount, columns: [column], indices: [], labels: [] }
    const bound = encodedFrameBound(frame)
    const byteOffset = scratch.allocate(bound)
    const byteLength = encodeFrame(kernels, frame, byteOffset, bound)
    const message = { byteOffset, byteLength }
    const encoded = createHash('sha256').update(kernels.u8.slice(byteOffset, byteOffset + byteLength))
    const work = scratch.mark()

    const decode = (): ColumnSlice => {
      scratch.release(work)
      const scanned = scanFrame(kernels, message, scratch)
      const [validityPtr] = decodeNulls(kernels, scanned, scratch)
      return decodeColumn(kernels, scanned.columns[0]!, validityPtr!, scratch)
    }
    const decoded = decode()
    const width = test.dtype === 'bool' ? rowCount / 8 : test.dtype === 'string' ? 4 * (rowCount + 1) : 8 * rowCount
    const values = createHash('sha256').update(kernels.u8.slice(decoded.valuesPtr, decoded.valuesPtr + width))

    const copy = new Uint8Array(byteLength)
    const original = new Uint8Array(byteLength).fill(1)
    const copySeconds = await bestSeconds(() => copy.set(original), seconds)
    const measure = async (verb: string, run: () => void, checksum: string): Promise<void> => {
      const best = await bestSeconds(run, seconds)
      rows.push({
        name: `wire: ${verb} ${test.name}`,
        valuesPerSecond: rowCount / best,
        bytesPerSecond: byteLength / best,
        memcpyBytesPerSecond: byteLength / copySeconds,
        checksum,
      })
    }
    await measure('decode', decode, values.digest('hex').slice(0, 12))
    await measure('encode', () => encodeFrame(kernels, frame, byteOffset, bound), encoded.digest('hex').slice(0, 12))
  }
  return rows
}
