import { expect, test } from 'vitest'
import type { ScanFields } from '../dist/engine/backends/tsdb/jobs.js'
import type { ScanPosition } from '../dist/engine/backends/tsdb/scan-input.js'
import { receiveScan, sendScan } from '../dist/engine/backends/tsdb/sent-scan.js'
import type { BlockSource } from '../dist/engine/blocks/reader.js'
import { receiveSources, sendSources } from '../dist/engine/blocks/sent-sources.js'

const plain: BlockSource = {
  id: 2n ** 64n - 1n,
  rowCount: 131_072,
  headerByteLength: 4711,
  headerCrc: 0xffffffff,
  extent: [1, 2 ** 48 - 1, -0.5],
  isPacked: false,
  packed: null,
  values: null,
  dead: null,
  damage: null,
}

const sources: readonly BlockSource[] = [
  plain,
  { ...plain, id: 0n, extent: null, isPacked: true, packed: { byteOffset: 0, byteLength: 0 } },
  { ...plain, id: 1n, extent: [], dead: { byteOffset: 2 ** 31, byteLength: 16_384 } },
  { ...plain, id: 2n, dead: Uint8Array.of(1, 2, 3) },
  { ...plain, id: 3n, values: [Uint8Array.of(4)], isPacked: true },
  { ...plain, id: 4n, damage: 'its live entry is damaged', extent: null },
  { ...plain, id: 5n, rowCount: 1 },
]

test('blocks come out of a message as they went in, plain ones and others in any order, few and many', () => {
  const many = Array.from({ length: 10 }, () => sources).flat()
  const orders = [
    sources,
    [...sources].reverse(),
    [],
    [sources[0]!],
    [sources[3]!],
    many,
    many.slice(1, 9),
    many.slice(2, 11),
  ]
  for (const order of orders) expect(receiveSources(structuredClone(sendSources(order)))).toEqual(order)
})

const scan: ScanFields = {
  terms: '{"text":"é"}',
  startMs: -1,
  endMs: 2 ** 52,
  stepMs: 0.5,
  rowCountMax: 7,
  keptRowCount: 1e9,
  storedByteLength: 2 ** 40,
  access: { driver: 'lmdb', path: '/data/data.0.mdb' },
  labels: {
    id: '1',
    tablePtr: 2 ** 31 + 8,
    setCount: 9,
    signaturesId: '1:2',
    signatures: { byteOffset: 2 ** 32 - 65_536, byteLength: 330 },
  },
  sources: [plain],
  sets: Uint32Array.of(0, 2 ** 32 - 1),
  manySetsShare: 0.25,
  groupStarts: null,
  metricListOf: null,
  metricLists: [],
  rowCondition: null,
  rowLabels: [],
  position: null,
}
const position: ScanPosition = {
  index: 3,
  fromNs: -(2n ** 63n),
  carry: [['a', Number.NaN, 5]],
  ordered: { threshold: { timeNs: 2n ** 63n - 1n, tieCount: 2 }, toNs: null, spanNs: 1n },
}
const numbersTo = (count: number) => Uint32Array.from({ length: count }, (_, i) => i)

test.each<[what: string, own: Partial<ScanFields>]>([
  ['of one block and few label sets', {}],
  ['without access to a store', { access: null }],
  ['of many blocks', { sources: Array.from({ length: 10 }, () => sources).flat() }],
  ['of a damaged block', { sources: [sources[5]!] }],
  ['of no blocks', { sources: [] }],
  ['of many label sets', { sets: numbersTo(65) }],
  ['of groups', { groupStarts: Uint32Array.of(0, 1, 2) }],
  ['of many groups', { sets: numbersTo(100), groupStarts: numbersTo(101) }],
  ['of some metrics', { metricListOf: Uint32Array.of(0, 1), metricLists: [['a'], []] }],
  ['with a condition', { rowCondition: { kind: 'attribute', name: 'a' }, rowLabels: ['host'] }],
  ['that goes on', { position }],
])('a scan %s comes out of a message as it went in', (_, own) => {
  const fields = { ...scan, ...own }
  const { labels, rowCountMax } = fields
  const sent = { ...fields, sources: sendSources(fields.sources) }
  const { parts } = structuredClone(sendScan(sent, { labels, rowCountMax, position: fields.position }))
  // Few numbers come as a list, more as an array.
  const numbers = ({ sets, groupStarts }: ScanFields) => [[...sets], groupStarts === null ? null : [...groupStarts]]
  const received = receiveScan(parts)
  expect(numbers(received)).toEqual(numbers(fields))
  expect({ ...received, sets: null, groupStarts: null }).toEqual({ ...fields, sets: null, groupStarts: null })
})
