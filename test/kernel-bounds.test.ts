// No column kernel reads past the end of an input: each input in turn ends where memory ends, so that one byte more traps.
import { afterEach, expect, test } from 'vitest'
import { ColumnsInMemory, packBits } from './columns-in-memory.js'
import { rowCounts, SeededRandom, seed } from './seeded-random.js'

const columns = new ColumnsInMemory(2 ** 20)
const { call } = columns.kernels
const random = new SeededRandom(seed)

afterEach(() => columns.clear())

interface Case {
  readonly name: string
  readonly inputs: readonly Uint8Array[]
  /** Runs the kernel on the inputs' places and answers what it returned; writes to target, as large as it may need. */
  readonly run: (pointers: readonly number[], target: number) => unknown
}

const bytesOf = (values: ArrayBufferView) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength)

function casesOf(rowCount: number): Case[] {
  const validityBits = random.bits(rowCount)
  const presentCount = validityBits.filter(Boolean).length
  const validity = packBits(validityBits)
  const bits = packBits(random.bits(rowCount))
  const floats = bytesOf(Float64Array.from(random.list(rowCount, () => random.float64())))
  const integers = bytesOf(BigInt64Array.from(random.list(rowCount, () => random.int64())))
  const times = bytesOf(BigInt64Array.from(random.list(rowCount, (row) => BigInt(row * 10))))
  const indexes = bytesOf(Uint32Array.from(random.list(rowCount, () => random.integer(0, Math.max(rowCount, 1)))))
  const texts = random.list(rowCount, () => Buffer.from(random.string()))
  const text = bytesOf(Buffer.concat(texts))
  const offsets = new Uint32Array(rowCount + 1)
  for (const [row, bytes] of texts.entries()) offsets[row + 1] = offsets[row]! + bytes.length
  const needle = texts[random.integer(0, rowCount)] ?? Buffer.from('ab')
  const dense = floats.slice(0, presentCount * 8)
  const denseBits = packBits(random.bits(presentCount))
  const denseOffsets = bytesOf(offsets.slice(0, presentCount + 1))
  const strings = [bytesOf(offsets), text]
  const withNeedle = [...strings, bytesOf(needle)]
  const cases: Case[] = []
  const add = (name: string, inputs: readonly Uint8Array[], run: Case['run']) => cases.push({ name, inputs, run })

  add('countBits', [bits], ([a]) => call.countBits(a!, rowCount))
  add('andBits', [bits, validity], ([a, b], target) => call.andBits(a!, b!, target, rowCount))
  add('orBits', [bits, validity], ([a, b], target) => call.orBits(a!, b!, target, rowCount))
  add('andNotBits', [bits, validity], ([a, b], target) => call.andNotBits(a!, b!, target, rowCount))
  add('notBits', [bits], ([a], target) => call.notBits(a!, target, rowCount))
  for (const skipped of [0, 3, 8, 13].filter((rows) => rows <= rowCount)) {
    add(`copyBits from row ${skipped}`, [bits], ([a], target) =>
      call.copyBits(a!, skipped, target, 5, rowCount - skipped),
    )
  }
  add('bitsToIndexes', [bits], ([a], target) => call.bitsToIndexes(a!, rowCount, target))
  add('maskFloat64InRange', [floats], ([a], target) => call.maskFloat64InRange(a!, rowCount, -5, 5, target))
  add('maskInt64InRange', [integers], ([a], target) => call.maskInt64InRange(a!, rowCount, -5n, 5n, target))
  add('compareFloat64', [floats], ([a], target) => call.compareFloat64(a!, rowCount, 3, 0, target))
  add('compareInt64', [integers], ([a], target) => call.compareInt64(a!, rowCount, 4, 0n, target))
  for (const operator of [0, 1, 2, 5]) {
    add(`compareStrings ${operator}`, withNeedle, ([a, b, c], target) =>
      call.compareStrings(a!, b!, rowCount, operator, c!, needle.length, target),
    )
  }
  for (const kernel of ['startsStrings', 'endsStrings', 'containsStrings'] as const) {
    add(kernel, withNeedle, ([a, b, c], target) => call[kernel](a!, b!, rowCount, c!, needle.length, target))
  }
  add('lowerBoundInt64', [times], ([a]) => call.lowerBoundInt64(a!, 0, rowCount, BigInt(rowCount * 10)))
  add('compact64', [floats, validity], ([a, b], target) => call.compact64(a!, b!, rowCount, target))
  add('expand64', [dense, validity], ([a, b], target) => call.expand64(a!, b!, rowCount, target))
  add('compactBits', [bits, validity], ([a, b], target) => call.compactBits(a!, b!, rowCount, target))
  add('expandBits', [denseBits, validity], ([a, b], target) => call.expandBits(a!, b!, rowCount, target))
  add('compactStrings', [bytesOf(offsets), validity], ([a, b], target) =>
    call.compactStrings(a!, 0, b!, rowCount, target),
  )
  add('expandOffsets', [denseOffsets, validity], ([a, b], target) => call.expandOffsets(a!, b!, rowCount, target))
  const order = bytesOf(Uint32Array.from(random.list(rowCount, (row) => rowCount - 1 - row)))
  add('place64', [floats, order], ([a, b], target) => call.place64(a!, b!, rowCount, target))
  add('invertPermutation', [order], ([a], target) => call.invertPermutation(a!, rowCount, target))
  add('gather64', [floats, indexes], ([a, b], target) => call.gather64(a!, b!, rowCount, target))
  add('gather32', [indexes, indexes], ([a, b], target) => call.gather32(a!, b!, rowCount, target))
  add('gatherBits', [bits, indexes], ([a, b], target) => call.gatherBits(a!, b!, rowCount, target))
  add('gatheredStringsByteLength', [bytesOf(offsets), indexes], ([a, b]) =>
    call.gatheredStringsByteLength(a!, b!, rowCount),
  )
  add('gatherStrings', [...strings, indexes], ([a, b, c], target) =>
    call.gatherStrings(a!, b!, c!, rowCount, target, target + 4 * (rowCount + 1)),
  )
  add('copyStrings', strings, ([a, b], target) =>
    call.copyStrings(a!, b!, 0, rowCount, target, 0, target + 4 * (rowCount + 1)),
  )
  add('comparePairsInt64', [integers, times], ([a, b], target) => call.comparePairsInt64(a!, b!, rowCount, 2, target))
  add('comparePairsFloat64', [floats, floats], ([a, b], target) =>
    call.comparePairsFloat64(a!, b!, rowCount, 1, target),
  )
  for (const operator of [0, 2]) {
    add(`comparePairsStrings ${operator}`, [...strings, ...strings], ([a, b, c, d], target) =>
      call.comparePairsStrings(a!, b!, c!, d!, rowCount, operator, target),
    )
  }
  for (const operator of [0, 1, 2, 3, 4]) {
    add(`calculateInt64 ${operator}`, [integers, times], ([a, b], target) =>
      call.calculateInt64(operator, a!, 8, b!, 8, rowCount, target + 1024, target),
    )
    add(`calculateInt64 ${operator} with one value`, [integers, integers.subarray(0, 8)], ([a, b], target) =>
      rowCount === 0 ? 0 : call.calculateInt64(operator, a!, 8, b!, 0, rowCount, target + 1024, target),
    )
    add(`calculateFloat64 ${operator}`, [floats, floats], ([a, b], target) =>
      call.calculateFloat64(operator, a!, 8, b!, 8, rowCount, target),
    )
    add(`calculateFloat64 ${operator} with one value`, [floats.subarray(0, 8), floats], ([a, b], target) =>
      rowCount === 0 ? undefined : call.calculateFloat64(operator, a!, 0, b!, 8, rowCount, target),
    )
  }
  add('extremeInt64', [integers, times], ([a, b], target) => call.extremeInt64(1, a!, 8, b!, 8, rowCount, target))
  add('extremeFloat64', [floats, floats], ([a, b], target) => call.extremeFloat64(0, a!, 8, b!, 8, rowCount, target))
  add('buildNumberSet and maskInNumberSet', [integers, times], ([a, b], target) => {
    const isBuilt = call.buildNumberSet(a!, rowCount, -5n, target + 1024)
    return [isBuilt, call.maskInNumberSet(b!, rowCount, 0, target + 1024, target)]
  })
  add('buildTextSet and maskInTextSet', [...strings, ...strings], ([a, b, c, d], target) => {
    const isBuilt = call.buildTextSet(a!, b!, rowCount, target + 1024)
    return [isBuilt, call.maskInTextSet(c!, d!, rowCount, a!, b!, target + 1024, target)]
  })
  add('blend64', [integers, validity], ([a, b], target) => call.blend64(a!, 8, b!, rowCount, target))
  add('blendStrings', [...strings, validity, ...strings, bits], ([a, b, c, d, e, f], target) =>
    call.blendStrings(a!, 4, b!, c!, d!, e!, f!, rowCount, target, target + 4 * (rowCount + 1), 2 * text.length),
  )
  add('countCodePoints', strings, ([a, b], target) => call.countCodePoints(a!, b!, rowCount, target))
  add('convertInt64ToFloat64', [integers], ([a], target) => call.convertInt64ToFloat64(a!, rowCount, target))
  add('convertBitsToFloat64', [bits], ([a], target) => call.convertBitsToFloat64(a!, rowCount, target))
  add('convertBitsToInt64', [bits], ([a], target) => call.convertBitsToInt64(a!, rowCount, target))
  for (const kernel of ['sumFloat64', 'minFloat64', 'maxFloat64'] as const) {
    add(kernel, [floats], ([a]) => call[kernel](a!, 0, rowCount))
    add(`${kernel} with validity`, [floats, validity], ([a, b]) => call[kernel](a!, b!, rowCount))
  }
  for (const kernel of ['sumInt64AsFloat64', 'minInt64', 'maxInt64'] as const) {
    add(kernel, [integers], ([a]) => call[kernel](a!, 0, rowCount))
    add(`${kernel} with validity`, [integers, validity], ([a, b]) => call[kernel](a!, b!, rowCount))
  }
  for (const [kind, values] of [
    ['Float64', floats],
    ['Int64', integers],
    ['Bits', bits],
  ] as const) {
    for (const stepNs of [35n, 60n, 80n, 90n, 640n, 5000n]) {
      const bucketCount = 300
      const startNs = BigInt(random.integer(-50, 50))
      add(`accumulateWindows${kind}`, [times, values], ([a, b], target) => {
        call.initWindows(target, bucketCount)
        call[`accumulateWindows${kind}`](a!, b!, 0, rowCount, startNs, stepNs, bucketCount, target, 30)
      })
      add(`accumulateWindows${kind} with validity`, [times, values, validity], ([a, b, c], target) => {
        call.initWindows(target, bucketCount)
        call[`accumulateWindows${kind}`](a!, b!, c!, rowCount, startNs, stepNs, bucketCount, target, 30)
      })
      add(`accumulateLookback${kind}`, [times, values, validity], ([a, b, c], target) => {
        call.initWindows(target, bucketCount)
        call[`accumulateLookback${kind}`](a!, b!, c!, rowCount, startNs, stepNs, bucketCount, 75n, target, 30)
      })
    }
  }
  return cases
}

test('no kernel reads past its inputs, and none minds where they stand', () => {
  const targetByteLength = 64 * 1024
  for (const rowCount of rowCounts.filter((count) => count < 130)) {
    for (const { name, inputs, run } of casesOf(rowCount)) {
      const target = columns.target(targetByteLength)
      const answerAt = (pointers: number[]) => {
        columns.kernels.u8.fill(0, target, target + targetByteLength)
        const returned = run(pointers, target)
        return { returned, written: Buffer.from(columns.kernels.u8.slice(target, target + targetByteLength)) }
      }
      const pointers = inputs.map((input) => columns.bytes(input))
      const expected = answerAt(pointers)
      for (const [at, input] of inputs.entries()) {
        const moved = pointers.with(at, columns.bytesAtEnd(input))
        const actual = answerAt(moved)
        const where = `${name}, ${rowCount} rows, input ${at} at the end of memory`
        expect(actual.returned, where).toEqual(expected.returned)
        expect(actual.written.equals(expected.written), where).toBe(true)
      }
      columns.clear()
    }
  }
})
