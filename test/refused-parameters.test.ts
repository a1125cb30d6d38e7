import { describe, expect, test } from 'vitest'
import {
  type BackendType,
  refuseDeleteParameters,
  refuseReadParameters,
  refuseWriteParameters,
} from '../dist/engine/backends/refused-parameters.js'
import { FramesError } from '../dist/engine/errors.js'
import type { DeleteRequest, ReadRequest, WriteRequest } from '../dist/engine/requests.js'

const base = { backend: 'x', table: 't' }
const backends: readonly BackendType[] = ['tsdb', 'kv', 'stream', 'csv']

/** The table of the specification: a value that counts as set, and who takes it. */
const read: readonly [string, Partial<ReadRequest>, readonly BackendType[]][] = [
  ['Schema', { schema: {} }, backends],
  ['DataFormat', { dataFormat: 'arrow' }, backends],
  ['RowLayout', { rowLayout: true }, backends],
  ['Columns', { columns: ['a'] }, backends],
  ['Filter', { filter: '1==1' }, backends],
  ['Limit', { limit: 1n }, backends],
  ['MessageLimit', { messageLimit: 1n }, backends],
  ['Marker', { marker: 'm' }, backends],
  ['ResetIndex', { resetIndex: true }, backends],
  ['MultiIndex', { multiIndex: true }, ['tsdb']],
  ['Query', { query: 'select' }, ['tsdb']],
  ['GroupBy', { groupBy: 'a' }, ['tsdb']],
  ['Segments', { segments: [0n] }, ['kv']],
  ['TotalSegments', { totalSegments: 1n }, ['kv']],
  ['ShardingKeys', { shardingKeys: [''] }, ['kv']],
  ['SortKeyRangeStart', { sortKeyRangeStart: 'a' }, ['kv']],
  ['SortKeyRangeEnd', { sortKeyRangeEnd: 'a' }, ['kv']],
  ['Start', { start: '0' }, ['tsdb', 'stream']],
  ['End', { end: '0' }, ['tsdb', 'stream']],
  ['Step', { step: '0' }, ['tsdb']],
  ['Aggregators', { aggregators: 'sum' }, ['tsdb']],
  ['Seek', { seek: 'earliest' }, ['stream']],
  ['ShardId', { shardId: '0' }, ['stream']],
  ['Sequence', { sequence: 1n }, ['stream']],
  ['AggregationWindow', { aggregationWindow: '0' }, ['tsdb']],
]

const write: readonly [string, Partial<WriteRequest>, readonly BackendType[]][] = [
  ['Expression', { expression: 'a=1' }, ['kv', 'csv']],
  ['Condition', { condition: '1==1' }, ['kv', 'csv']],
  ['PartitionKeys', { partitionKeys: ['a'] }, ['kv', 'csv']],
  ['SaveMode', { saveMode: 'updateItem' }, ['kv', 'csv']],
  ['HaveMore', { more: true }, ['stream', 'csv']],
]

const remove: readonly [string, Partial<DeleteRequest>, readonly BackendType[]][] = [
  ['Filter', { filter: '1==1' }, backends],
  ['IfMissing', { ifMissing: 'ignore' }, backends],
  ['Start', { start: '0' }, ['tsdb']],
  ['End', { end: '0' }, ['tsdb']],
  ['Metrics', { metrics: ['a'] }, ['tsdb']],
]

function expectOutcome(call: () => void, refusal: string | null): void {
  let error: unknown = null
  try {
    call()
  } catch (thrown) {
    error = thrown
  }
  if (refusal === null) {
    expect(error).toBeNull()
    return
  }
  expect(error).toBeInstanceOf(FramesError)
  expect((error as FramesError).code).toBe('REFUSED_PARAMETER')
  expect((error as FramesError).message.split('. ')[0]).toBe(refusal)
}

describe.each(backends)('%s', (backend) => {
  const outcome = (name: string, type: string, takenBy: readonly BackendType[]) =>
    takenBy.includes(backend) ? null : `${name} cannot be used as an argument to a ${type} to ${backend} backend`

  test.each(read)('a read takes or refuses %s as specified', (name, fields, takenBy) => {
    expectOutcome(() => refuseReadParameters({ ...base, ...fields }, backend), outcome(name, 'ReadRequest', takenBy))
  })

  test.each(write)('a write takes or refuses %s as specified', (name, fields, takenBy) => {
    expectOutcome(() => refuseWriteParameters({ ...base, ...fields }, backend), outcome(name, 'WriteRequest', takenBy))
  })

  test.each(remove)('a delete takes or refuses %s as specified', (name, fields, takenBy) => {
    expectOutcome(
      () => refuseDeleteParameters({ ...base, ...fields }, backend),
      outcome(name, 'DeleteRequest', takenBy),
    )
  })

  test('default values pass everywhere', () => {
    refuseReadParameters(
      {
        ...base,
        multiIndex: false,
        query: '',
        segments: [],
        totalSegments: 0n,
        shardingKeys: [],
        start: '',
        sequence: 0n,
      },
      backend,
    )
    refuseWriteParameters({ ...base, expression: '', partitionKeys: [], saveMode: '', more: false }, backend)
    refuseWriteParameters({ ...base, saveMode: 'errorIfTableExists' }, backend)
    refuseDeleteParameters({ ...base, start: '', metrics: [] }, backend)
  })
})

test('the first offending field in declaration order is named', () => {
  const request = { ...base, aggregationWindow: '1h', shardId: '1', groupBy: 'a' }
  expect(() => refuseReadParameters(request, 'kv')).toThrow(/^GroupBy cannot/)
  expect(() => refuseReadParameters(request, 'tsdb')).toThrow(/^ShardId cannot/)
})
