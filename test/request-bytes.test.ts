// Requests that the client writes by itself are those of the protobuf library.
import { create, toBinary } from '@bufbuild/protobuf'
import { expect, test } from 'vitest'
import { requestBytes } from '../dist/client/request-bytes.js'
import { RequestMessages } from '../dist/client/requests.js'
import type { ExecuteRequest, ReadRequest, Value } from '../dist/engine/index.js'
import { CreateRequestSchema, ExecRequestSchema, ReadRequestSchema } from '../dist/proto/gen/frames_pb.js'
import { SeededRandom, seed } from './seeded-random.js'

const messages = new RequestMessages({ container: 'users', user: 'ä' })

function wanted(request: ReadRequest): Buffer {
  const bytes = toBinary(ReadRequestSchema, messages.read(request))
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(bytes.byteLength, 1)
  return Buffer.concat([prefix, bytes])
}

function written(request: ReadRequest): Buffer | null {
  return messages.readBytes(request)
}

const texts = [
  '',
  'a',
  'host == "x"',
  'Grüße, 世界 🦜',
  '\ufffd alone',
  'x'.repeat(127),
  'x'.repeat(128),
  'é'.repeat(20_000),
]
const numbers = [0n, 1n, -1n, 127n, 128n, 2n ** 31n, 2n ** 63n - 1n, -(2n ** 63n)]
const textFields = 'dataFormat query filter groupBy marker sortKeyRangeStart sortKeyRangeEnd start end step aggregators'
const numberFields = ['limit', 'messageLimit', 'totalSegments', 'sequence']

test('any read request without a schema has the bytes of the library', () => {
  const random = new SeededRandom(seed)
  for (let round = 0; round < 500; round++) {
    const request: Record<string, unknown> = { backend: random.pick(texts), table: random.pick(texts) }
    for (const name of [...textFields.split(' '), 'seek', 'shardId', 'aggregationWindow'])
      if (random.chance(0.4)) request[name] = random.pick(texts)
    for (const name of numberFields) if (random.chance(0.4)) request[name] = random.pick(numbers)
    for (const name of ['rowLayout', 'multiIndex', 'resetIndex'])
      if (random.chance(0.4)) request[name] = random.chance(0.5)
    for (const name of ['columns', 'shardingKeys'])
      if (random.chance(0.4)) request[name] = random.list(random.integer(0, 3), () => random.pick(texts))
    if (random.chance(0.4)) request['segments'] = random.list(random.integer(0, 40), () => random.pick(numbers))
    if (random.chance(0.4)) request['session'] = random.chance(0.3) ? {} : { url: random.pick(texts), token: 'secret' }
    const plain = request as unknown as ReadRequest
    expect(written(plain)?.equals(wanted(plain)), JSON.stringify(Object.keys(request))).toBe(true)
  }
})

test('any execute request has the bytes of the library', () => {
  const random = new SeededRandom(seed)
  const values: (() => Value | readonly Value[])[] = [
    () => random.pick(texts),
    () => random.pick(numbers),
    () => random.pick([0, -0, 1.5, Number.NaN, Number.NEGATIVE_INFINITY]),
    () => random.chance(0.5),
    () => ({ timeNs: random.pick(numbers) }),
    () => [1n, 'a'],
  ]
  for (let round = 0; round < 500; round++) {
    const request: ExecuteRequest = {
      backend: random.pick(texts),
      table: random.pick(texts),
      command: random.pick(texts),
      ...(random.chance(0.5) ? { expression: random.pick(texts) } : {}),
      ...(random.chance(0.7)
        ? {
            args: Object.fromEntries(
              random.list(random.integer(0, 4), () => [random.pick(texts), random.pick(values)()] as const),
            ),
          }
        : {}),
    }
    const bytes = toBinary(ExecRequestSchema, messages.execute(request))
    const own = messages.executeBytes(request)
    expect(own?.subarray(5).equals(bytes), JSON.stringify(Object.keys(request.args ?? {}))).toBe(true)
  }
})

test('fields of other kinds and values of other types are left to the library', () => {
  const request = { backend: 'tsdb', table: 'cpu' }
  const bytesOf = (fields: object) => requestBytes(ReadRequestSchema, { ...request, ...fields }, {})
  expect(bytesOf({ schema: { type: 'a' } })).toBeNull()
  for (const wrong of [
    { limit: 5 },
    { limit: 2n ** 63n },
    { filter: 7 },
    { columns: 'a' },
    { columns: [1] },
    { query: null },
  ])
    expect(bytesOf(wrong), JSON.stringify(Object.keys(wrong))).toBeNull()
  expect(requestBytes(ExecRequestSchema, { ...request, command: 'c', args: { a: null } }, {})).toBeNull()
  expect(requestBytes(CreateRequestSchema, create(CreateRequestSchema, { ifExists: 1 }), {})).toBeNull()
})
