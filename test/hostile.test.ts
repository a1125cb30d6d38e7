// Hostile and clumsy clients against the real server, as a process of its own: each gets a clear error in its own
// language, nothing stored is harmed, and the server lives on. SEED=n repeats the random bytes.
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { status } from '@grpc/grpc-js'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { frameMessage } from '../dist/engine/index.js'
import { Column_Kind, DType, type Frame } from '../dist/proto/gen/frames_pb.js'
import {
  baseNs,
  type FrameInit,
  floats,
  frameBytes,
  ints,
  labelColumn,
  plainFrame,
  rowCountOf,
  seconds,
  secondNs,
  strings,
  times,
} from './hostile/frames.js'
import {
  type Answer,
  frameMessageOf,
  HostileServer,
  headBytes,
  initialWriteBytes,
  killServers,
  type ReadInit,
  readBytes,
} from './hostile/server.js'
import { SeededRandom, seed } from './seeded-random.js'

const MiB = 1024 * 1024
const root = mkdtempSync(join(tmpdir(), 'framesd-hostile-'))
const dataDir = join(root, 'data')
let server: HostileServer

const { INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, RESOURCE_EXHAUSTED } = status
const good: Answer = { code: status.OK, text: '' }
/** What a client that meets a table as it comes and goes may be told. */
const tableComesAndGoes = new Set<number>([status.OK, NOT_FOUND, ALREADY_EXISTS])

beforeAll(async () => {
  server = await HostileServer.start(dataDir)
  expect(await server.create('witness')).toEqual(good)
  expect(await server.write('witness', [plainFrame(1000), plainFrame(1000, { host: 'b' })])).toEqual(good)
  expect(await server.create('t')).toEqual(good)
})

/** After every attack: the stored rows are as they were, and both transports answer. */
afterEach(async () => {
  const { answer, frames } = await server.read({ table: 'witness' })
  expect(answer).toEqual(good)
  expect(frames.map(({ labels }) => labels['host']?.value.value)).toEqual(['a', 'b'])
  for (const { columns, indices } of frames) {
    expect(columns[0]!.floats).toEqual(Array.from({ length: 1000 }, (_, i) => i))
    expect(indices[0]!.times).toEqual((seconds(1000) as { times: bigint[] }).times)
  }
  expect(await server.httpText('/_/status', '')).toBe('200 {"state":"running"}')
})

afterAll(async () => {
  if (server.child.exitCode === null) expect((await server.end('SIGTERM')).status).toBe(0)
  killServers()
  rmSync(root, { recursive: true, force: true })
})

function expectAnswer(answer: Answer, code: number, text: string): void {
  expect({ code: answer.code, text: answer.text.slice(0, text.length) }).toEqual({ code, text })
}

const rowsOf = async (table: string, fields: ReadInit = {}): Promise<number> => {
  const { answer, frames } = await server.read({ table, ...fields })
  expect(answer).toEqual(good)
  return rowCountOf(frames)
}

function countAnswers(answers: readonly Answer[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { code, text } of answers) {
    const key = `${code} ${text}`
    counts[key] = (counts[key] ?? 0) + 1
  }
  return counts
}

const oneRow = (fields: FrameInit): Uint8Array =>
  frameBytes({ columns: [floats('cpu', [1])], indices: [seconds(1)], ...fields })
const text = (value: string) => ({ value: { case: 'sval' as const, value } })

describe('a frame that cannot be stored', () => {
  const plain = plainFrame(100)
  const nullCpu = { nullColumns: { cpu: true } }
  const cases: Record<string, readonly [frame: Uint8Array, code: number, text: string]> = {
    'is truncated': [plain.subarray(0, 500), INVALID_ARGUMENT, 'frame: a length goes past the end at byte 0'],
    'has columns of different lengths': [
      frameBytes({ columns: [floats('cpu', [1, 2, 3])], indices: [seconds(2)] }),
      INVALID_ARGUMENT,
      '"cpu" column size mismatch (3 != 2)',
    ],
    'has a LABEL of 10^12 rows': [
      frameBytes({ columns: [floats('cpu', [1])], indices: [seconds(1), labelColumn('host', 'x', 10n ** 12n)] }),
      RESOURCE_EXHAUSTED,
      'index column 1 has size 1000000000000, at most 16777216 rows are allowed',
    ],
    'has only LABELs of 10^12 rows': [
      frameBytes({
        columns: [labelColumn('m', 'x', 10n ** 12n)],
        indices: [{ kind: Column_Kind.LABEL, name: 'time', dtype: DType.TIME, size: 10n ** 12n, times: [baseNs] }],
      }),
      RESOURCE_EXHAUSTED,
      'column "m" has size 1000000000000',
    ],
    'has a LABEL of -1 rows': [
      frameBytes({ columns: [floats('cpu', [1])], indices: [seconds(1), labelColumn('host', 'x', -1n)] }),
      INVALID_ARGUMENT,
      'index column 1 has size -1',
    ],
    'has a metric with a dash': [
      oneRow({ columns: [floats('cpu-load', [1])] }),
      INVALID_ARGUMENT,
      "failed to Add: metric name contains illegal characters. Name 'cpu-load' should conform to",
    ],
    'has a metric without a name': [
      oneRow({ columns: [floats('', [1])] }),
      INVALID_ARGUMENT,
      'failed to Add: metric name should not be empty',
    ],
    'has a metric with a name of 1 MiB': [
      oneRow({ columns: [floats('m'.repeat(MiB), [1])] }),
      RESOURCE_EXHAUSTED,
      'the name of column 0 has 1048576 bytes',
    ],
    'has a metric that is not ASCII': [
      oneRow({ columns: [floats('é', [1])] }),
      INVALID_ARGUMENT,
      'failed to Add: metric name contains illegal characters',
    ],
    'has a label without a name': [
      oneRow({ labels: { '': text('x') } }),
      INVALID_ARGUMENT,
      'failed to Add: label name should not be empty',
    ],
    'has a label value of 2 MiB': [
      oneRow({ labels: { host: text('x'.repeat(2 * MiB)) } }),
      RESOURCE_EXHAUSTED,
      'a label has a text of 2097152 bytes',
    ],
    'has a label column with a value of 2 MiB': [
      oneRow({ indices: [seconds(1), strings('host', ['x'.repeat(2 * MiB)])] }),
      RESOURCE_EXHAUSTED,
      'the labels of row 0 have 2097159 bytes',
    ],
    'has 10,000 labels': [
      oneRow({ labels: Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`l${i}`, text('v')])) }),
      RESOURCE_EXHAUSTED,
      'the frame has 10000 labels, at most 4096 are allowed',
    ],
    'has 20,000 columns': [
      oneRow({ columns: Array.from({ length: 20_000 }, (_, i) => floats(`m${i}`, [i])) }),
      RESOURCE_EXHAUSTED,
      'the frame has 20000 columns, at most 16384 are allowed',
    ],
    'is of 1969': [
      plainFrame(2, { firstNs: -5n * secondNs }),
      INVALID_ARGUMENT,
      "failed to Add: time '-5000' doesn't seem to be a valid Unix timesamp in milliseconds",
    ],
    'is of the earliest time there is': [
      plainFrame(1, { firstNs: -(2n ** 63n) }),
      INVALID_ARGUMENT,
      "failed to Add: time '-9223372036855' doesn't seem to be a valid Unix timesamp",
    ],
    'has no columns': [frameBytes({ indices: [seconds(1)] }), INVALID_ARGUMENT, 'empty frame'],
    'has no index': [
      frameBytes({ columns: [floats('cpu', [1])] }),
      INVALID_ARGUMENT,
      'no indices, must have at least one Time index',
    ],
    'has no time index': [
      oneRow({ indices: [strings('host', ['a'])] }),
      INVALID_ARGUMENT,
      'there is no index of type time/date',
    ],
    'has too few null maps': [
      frameBytes({ columns: [floats('cpu', [1, 2])], indices: [seconds(2)], nullValues: [nullCpu] }),
      INVALID_ARGUMENT,
      'null_values has 1 maps for 2 rows',
    ],
    'has a null in a column that it has not': [
      oneRow({ nullValues: [{ nullColumns: { nosuch: true } }] }),
      INVALID_ARGUMENT,
      'null_values of row 0 name "nosuch"',
    ],
    'has a column without a type': [
      oneRow({ columns: [{ name: 'cpu', dtype: DType.NONE, floats: [1] }] }),
      INVALID_ARGUMENT,
      'column "cpu" has no valid dtype (0)',
    ],
    'has a column of type 99': [
      oneRow({ columns: [{ name: 'cpu', dtype: 99 as DType, floats: [1] }] }),
      INVALID_ARGUMENT,
      'column "cpu" has no valid dtype (99)',
    ],
    'has a column of kind 99': [
      oneRow({ columns: [{ name: 'cpu', kind: 99 as Column_Kind, dtype: DType.FLOAT, floats: [1] }] }),
      INVALID_ARGUMENT,
      'column "cpu" has no valid kind (99)',
    ],
    'has times as values': [
      oneRow({ columns: [times('cpu', [1n])] }),
      INVALID_ARGUMENT,
      'cannot write type 4 as time series value',
    ],
    'has a label without a value': [oneRow({ labels: { host: {} } }), INVALID_ARGUMENT, 'label "host" has no value'],
    'gives its metric an impossible name': [
      oneRow({ labels: { __name__: text('bad-name') } }),
      INVALID_ARGUMENT,
      "failed to Add: metric name contains illegal characters. Name 'bad-name'",
    ],
  }
  /** Those that are no frame at all; the others are one, with something wrong in it. */
  const malformed = new Set([
    'is truncated',
    'has a column without a type',
    'has a column of type 99',
    'has a column of kind 99',
    'has a label without a value',
  ])
  for (const [what, [frame, code, message]] of Object.entries(cases)) {
    test(`${what}: both transports say so, and nothing of it is stored`, async () => {
      expectAnswer(await server.write('t', [frame]), code, `can't add frame: ${message}`)
      const body = Buffer.concat([frameMessage(initialWriteBytes({ table: 't' })), frameMessage(frame)])
      const expected = `500 ${malformed.has(what) ? 'decode' : 'write'} error: can't add frame: ${message}`
      expect((await server.httpText('/write', body)).slice(0, expected.length)).toBe(expected)
      expect(await rowsOf('t')).toBe(0)
    })
  }
})

test('frames of random bytes, and true frames with bytes changed, are refused or stored, and nothing else happens', async () => {
  const random = new SeededRandom(seed)
  await server.create('fuzzed')
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, i) => {
      const frame = Buffer.from(i % 2 === 0 ? plainFrame(20) : Buffer.alloc(random.integer(1, 300)))
      const changes = i % 2 === 0 ? random.integer(1, 5) : frame.length
      for (let n = 0; n < changes; n++) frame[random.integer(0, frame.length)] = random.integer(0, 256)
      return server.write('fuzzed', [frame])
    }),
  )
  const codes = new Set(answers.map(({ code }) => code))
  for (const code of codes) expect([status.OK, INVALID_ARGUMENT, RESOURCE_EXHAUSTED]).toContain(code)
  expect((await server.read({ table: 'fuzzed' })).answer).toEqual(good)
})

describe('a message that is none', () => {
  const bad = Buffer.from([0xff, 0xff, 0xff, 0xff])
  const head = headBytes({ table: 't' })
  const streams: Record<string, readonly [messages: Uint8Array[], text: string]> = {
    'a write of nothing': [[], 'EOF.'],
    'a write that begins with garbage': [[bad], "can't decode WriteRequest: "],
    'a write that begins with a frame': [[frameMessageOf(plainFrame(1))], "stream didn't start with write request"],
    'a write with two heads': [[head, head], 'nil frame'],
    'a write that goes on with garbage': [[head, bad], "can't decode WriteRequest: "],
  }
  for (const [what, [messages, message]] of Object.entries(streams)) {
    test(`${what} is refused`, async () => {
      expectAnswer(await server.writeRaw(messages), INVALID_ARGUMENT, message)
    })
  }

  test('requests of garbage are refused, over gRPC and HTTP', async () => {
    for (const [method, name] of [
      ['Create', 'CreateRequest'],
      ['Delete', 'DeleteRequest'],
      ['Exec', 'ExecRequest'],
    ] as const)
      expectAnswer(await server.unary(method, bad), INVALID_ARGUMENT, `can't decode ${name}: `)
    expectAnswer((await server.readRaw(bad)).answer, INVALID_ARGUMENT, "can't decode ReadRequest: ")
    for (const path of ['/read', '/create', '/delete', '/exec']) {
      for (const body of ['', '{', '[]', '{"backend":5}', '['.repeat(100_000), '{"table":"\\ud800"}', bad])
        expect(await server.httpText(path, body)).toMatch(/^400 bad request - /)
    }
  })

  test('lengths of HTTP messages that lie are refused before anything is allocated', async () => {
    const memory = server.memoryByteLength()
    const cases: readonly (readonly [bytes: number[], text: string])[] = [
      [[255, 255, 255, 255, 255, 255, 255, 255], 'a message of negative length -1'],
      [
        [255, 255, 255, 255, 255, 255, 255, 127],
        'a message of 9223372036854775807 bytes is above the limit of 134217728',
      ],
      [[0, 0, 0, 16, 0, 0, 0, 0], 'a message of 268435456 bytes is above the limit of 134217728'],
      [[5, 0, 0, 0, 0, 0, 0, 0, 1], 'the body ends inside a message'],
      [[], 'the body is empty'],
    ]
    for (const [bytes, message] of cases) {
      const expected = `400 bad write request - ${message}`
      expect((await server.httpText('/write', Buffer.from(bytes))).slice(0, expected.length)).toBe(expected)
    }
    expect(server.memoryByteLength() - memory).toBeLessThan(64 * MiB)
  })

  test('a request whose prefix announces 4 GiB is refused when the prefix has come, not when its caller gives up', async () => {
    const session = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
    const call = session.request({
      ':method': 'POST',
      ':path': '/pb.Frames/Read',
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    call.on('error', () => {})
    // In two parts, and never ended.
    call.write(Buffer.of(0, 0xff, 0xff))
    await sleep(20)
    call.write(Buffer.of(0xff, 0xff, 1, 2, 3))
    const [headers] = (await once(call, 'response')) as [IncomingHttpHeaders]
    session.destroy()
    expect(headers['grpc-status']).toBe(String(RESOURCE_EXHAUSTED))
  })

  test('requests above 8 MiB and messages above 128 MiB are refused, and the connection goes on', async () => {
    const filter = 'x'.repeat(9 * MiB)
    expectAnswer((await server.read({ table: 't', filter })).answer, RESOURCE_EXHAUSTED, 'a request of 94372')
    expect(await server.httpText('/read', JSON.stringify({ table: 't', filter }))).toMatch(
      /^413 bad request - a request of more/,
    )
    const tooLong = frameMessageOf(Buffer.alloc(129 * MiB))
    expectAnswer(
      await server.writeRaw([headBytes({ table: 't' }), tooLong]),
      RESOURCE_EXHAUSTED,
      'Received message larger',
    )
  })
})

test('a frame of 120 MiB is stored and read back', async () => {
  await server.create('long')
  const cell = 'y'.repeat(MiB)
  const frame = frameBytes({ columns: [strings('log', Array<string>(120).fill(cell))], indices: [seconds(120)] })
  expect(await server.write('long', [frame])).toEqual(good)
  const { answer, frames } = await server.read({ table: 'long' })
  expect(answer).toEqual(good)
  const cells = frames.flatMap(({ columns }) => columns[0]!.strings)
  expect(cells.length).toBe(120)
  expect(cells.every((found) => found === cell)).toBe(true)
  expect(await server.delete('long')).toEqual(good)
})

describe('many of a thing', () => {
  test('10,000 metrics in one frame are stored and read back', async () => {
    await server.create('wide')
    const columns = Array.from({ length: 10_000 }, (_, i) => floats(`m${i}`, [i, -i]))
    expect(await server.write('wide', [frameBytes({ columns, indices: [seconds(2)] })])).toEqual(good)
    const { answer, frames } = await server.read({ table: 'wide' })
    expect(answer).toEqual(good)
    const cells = new Map(frames.flatMap((frame) => frame.columns.map(({ name, floats: values }) => [name, values])))
    expect(cells.size).toBe(10_000)
    expect([cells.get('m0'), cells.get('m9999')]).toEqual([
      [0, -0],
      [9999, -9999],
    ])
  })

  test('70,000 label sets in one frame are stored, and each is found', async () => {
    const count = 70_000
    await server.create('sets')
    const frame = frameBytes({
      columns: [
        floats(
          'cpu',
          Array.from({ length: count }, (_, i) => i),
        ),
      ],
      indices: [
        times('time', Array<bigint>(count).fill(baseNs)),
        strings(
          'host',
          Array.from({ length: count }, (_, i) => `h${i}`),
        ),
      ],
    })
    expect(await server.write('sets', [frame])).toEqual(good)
    for (const i of [0, 34_567, count - 1]) {
      const { frames } = await server.read({ table: 'sets', filter: `host == 'h${i}'` })
      expect(frames.map(({ columns }) => columns[0]!.floats)).toEqual([[i]])
    }
  })

  test('10,000 label columns are stored and read back', async () => {
    await server.create('labels')
    const labels = Array.from({ length: 10_000 }, (_, i) => strings(`l${i}`, [`v${i}`]))
    expect(await server.write('labels', [oneRow({ indices: [seconds(1), ...labels] })])).toEqual(good)
    const { answer, frames } = await server.read({ table: 'labels', filter: "l9999 == 'v9999'" })
    expect(answer).toEqual(good)
    expect(frames.length).toBe(1)
    expect(Object.keys(frames[0]!.labels).length).toBe(10_000)
  })

  test('a stream of 1,000 frames of one row each stores every row', async () => {
    await server.create('drops')
    const frames = (function* () {
      for (let i = 0; i < 1000; i++) yield plainFrame(1, { firstNs: baseNs + BigInt(i) * secondNs })
    })()
    expect(await server.write('drops', frames)).toEqual(good)
    expect(await rowsOf('drops')).toBe(1000)
  })
})

describe('strange texts', () => {
  test('label values of any characters come back as they were', async () => {
    await server.create('values')
    const values = ['a\0b', 'a\nb', `'"\`,=;\\`, 'x'.repeat(65_536), '\u{1F600}é\uFFFF', '{}', '../../etc/passwd']
    for (const value of values) expect(await server.write('values', [plainFrame(1, { host: value })])).toEqual(good)
    const { frames } = await server.read({ table: 'values' })
    expect(frames.map(({ labels }) => labels['host']!.value.value as string).sort()).toEqual([...values].sort())
  })

  test('__proto__ and constructor are names like any other: of tables, metrics and labels', async () => {
    for (const name of ['__proto__', 'constructor', 'toString']) {
      expect(await server.create(name)).toEqual(good)
      const frame = oneRow({ columns: [floats(name, [5])], indices: [seconds(1), strings(name, [name])] })
      expect(await server.write(name, [frame])).toEqual(good)
      for (const filter of ['', `${name} == '${name}'`]) {
        const { answer, frames } = await server.read({ table: name, filter, columns: [name] })
        expect(answer).toEqual(good)
        expect(frames.map(({ columns }) => [columns[0]!.name, columns[0]!.floats])).toEqual([[name, [5]]])
        expect(frames[0]!.columns.map((column) => [column.name, column.strings])).toContainEqual([name, [name]])
      }
      expect(await rowsOf(name, { columns: ['valueOf'] })).toBe(0)
      expect(await server.delete(name)).toEqual(good)
    }
  })

  test('table names are names, never paths of files: those with dots and slashes work, impossible ones are refused', async () => {
    for (const table of ['../../etc/passwd', '..', '.', ' ', "a'b\n", 'x'.repeat(1024)]) {
      expect(await server.create(table)).toEqual(good)
      expect(await server.write(table, [plainFrame(3)])).toEqual(good)
      expect(await rowsOf(table)).toBe(3)
      expect(await server.delete(table)).toEqual(good)
    }
    // A slash at the start or twice in a row makes no other name.
    expect(await server.create('//a///b/')).toEqual(good)
    expectAnswer(await server.create('a/b'), ALREADY_EXISTS, 'error creating table: ')
    for (const [table, message] of [
      ['x'.repeat(1500), 'the table path has 1500 bytes; at most 1024 are possible'],
      ['a\0b', 'a table path cannot hold a NUL character'],
      ['//', 'the table has no name'],
    ] as const) {
      expectAnswer(await server.create(table), INVALID_ARGUMENT, `error creating table: ${message}`)
      expectAnswer(await server.write(table, [plainFrame(1)]), INVALID_ARGUMENT, `backend Write failed: ${message}`)
      expectAnswer((await server.read({ table })).answer, INVALID_ARGUMENT, `can't query: ${message}`)
      expectAnswer(await server.delete(table), INVALID_ARGUMENT, `can't delete: ${message}`)
    }
  })

  test('a table that does not exist is NOT_FOUND for every call, and no call makes it', async () => {
    const missing = 'No TSDB schema file found at'
    for (let tries = 0; tries < 2; tries++) {
      expectAnswer(
        await server.write('nosuch', [plainFrame(1)]),
        NOT_FOUND,
        `backend Write failed: failed to create adapter: ${missing}`,
      )
      const { answer } = await server.read({ table: 'nosuch' })
      expectAnswer(answer, NOT_FOUND, `can't query: failed to create adapter: ${missing}`)
      expectAnswer(await server.delete('nosuch'), NOT_FOUND, `can't delete: ${missing}`)
      expectAnswer(await server.execute('nosuch', 'stats'), NOT_FOUND, `can't exec: ${missing}`)
    }
  })
})

describe('strange reads', () => {
  const filterError = "can't query: invalid filter expression: "
  const refused: Record<string, readonly [ReadInit, text: string]> = {
    'an unknown unit of time': [{ step: '1x', aggregators: 'sum' }, "can't query: invalid duration"],
    'a duration beyond all numbers': [
      { step: '99999999999999999999d', aggregators: 'sum' },
      "can't query: invalid duration",
    ],
    'a duration of too many seconds': [
      { step: '9007199254740993s', aggregators: 'sum' },
      "can't query: invalid duration",
    ],
    'a negative duration': [
      { step: '-1s', aggregators: 'sum' },
      "can't query: The specified duration (-1) is negative",
    ],
    'a start that is no time': [{ start: 'yesterday' }, "can't query: Invalid time string"],
    'a start beyond all numbers': [{ start: '9'.repeat(30) }, "can't query: Invalid time string"],
    'a start too long ago': [
      { start: 'now-99999999999d' },
      "can't query: Could not parse the pattern following 'now-'",
    ],
    'an end before the start': [{ start: '5', end: '1' }, "can't query: End time '1' is lower than start time '5'"],
    'an unknown function': [
      { aggregators: 'nosuch' },
      "can't query: Failed on TSDB Select: invalid aggragate type: nosuch",
    ],
    'a function __proto__': [
      { aggregators: '__proto__' },
      "can't query: Failed on TSDB Select: invalid aggragate type",
    ],
    'a marker of its own': [{ marker: 'garbage' }, "can't query: the marker is not one that a read has returned"],
    'a marker of 1 MB': [{ marker: 'x'.repeat(1e6) }, "can't query: the marker is not one that a read has returned"],
    'a filter with no end': [{ filter: "host == 'a" }, `${filterError}the string has no end`],
    'a filter that is half': [{ filter: 'host ==' }, `${filterError}expected a value, found the end`],
    'a filter that is a value': [{ filter: "'a'" }, `${filterError}a filter must be true or false`],
    'a filter with an unknown function': [{ filter: 'nosuch(host)' }, `${filterError}unknown function 'nosuch'`],
    'a filter with an endless number': [
      { filter: 'host == 99999999999999999999' },
      `${filterError}the integer is out of`,
    ],
    'a filter of 100,000 brackets': [
      { filter: `${'('.repeat(1e5)}host=='a'${')'.repeat(1e5)}` },
      `${filterError}the expression is nested too deeply`,
    ],
    'a filter of 100,000 NOTs': [
      { filter: `${'NOT '.repeat(1e5)}host=='a'` },
      `${filterError}the expression is nested`,
    ],
    'a container with a NUL': [
      { session: { container: 'a\0b' } },
      "can't query: failed to create adapter: a container",
    ],
  }
  for (const [what, [fields, message]] of Object.entries(refused)) {
    test(`${what} is refused`, async () => {
      expectAnswer((await server.read({ table: 'witness', ...fields })).answer, INVALID_ARGUMENT, message)
    })
  }

  test('a limit below 1 is none, and one beyond all rows gives all', async () => {
    for (const limit of [-1n, -(2n ** 63n), 2n ** 63n - 1n]) {
      expect(await rowsOf('witness', { limit })).toBe(2000)
      expect(await rowsOf('witness', { messageLimit: limit })).toBe(2000)
    }
    const { frames } = await server.read({ table: 'witness', messageLimit: 1n, limit: 50n })
    expect(frames.map((frame) => rowCountOf([frame]))).toEqual(Array(50).fill(1))
  })

  test('filters of 1 MB and 100,000 columns are answered', async () => {
    expect(await rowsOf('witness', { filter: `host == 'a'${" OR host == 'c'".repeat(65_000)}` })).toBe(1000)
    expect(await rowsOf('witness', { filter: `host IN ('a'${", 'c'".repeat(100_000)})` })).toBe(1000)
    expect(await rowsOf('witness', { columns: Array.from({ length: 1e5 }, (_, i) => `c${i}`) })).toBe(0)
  })

  test('a step of a second over 50 years costs only the buckets that have samples', async () => {
    await server.create('sparse')
    const index = times('time', [0n, baseNs, baseNs + 3600n * secondNs])
    await server.write('sparse', [frameBytes({ columns: [floats('cpu', [1, 2, 4])], indices: [index] })])
    const memory = server.memoryByteLength()
    const { answer, frames } = await server.read({ table: 'sparse', aggregators: 'sum', step: '1s' })
    expect(answer).toEqual(good)
    expect(frames.flatMap(({ columns }) => columns[0]!.floats)).toEqual([1, 2, 4])
    expect(server.memoryByteLength() - memory).toBeLessThan(64 * MiB)
  })

  test('the ends of int64, NaN and infinity are stored and read as they are, and aggregates of them are numbers', async () => {
    const max = 2n ** 63n - 1n
    await server.create('extremes')
    const columns = [ints('i', [max, -max - 1n, 0n, max]), floats('f', [Number.NaN, Infinity, -Infinity, 5e-324])]
    expect(await server.write('extremes', [frameBytes({ columns, indices: [seconds(4)] })])).toEqual(good)
    const raw = (await server.read({ table: 'extremes', columns: ['i', 'f'] })).frames
    expect(raw.map((frame) => [frame.columns[0]!.ints, frame.columns[1]!.floats])).toEqual([
      [
        [max, -max - 1n, 0n, max],
        [Number.NaN, Infinity, -Infinity, 5e-324],
      ],
    ])
    const { answer, frames } = await server.read({
      table: 'extremes',
      columns: ['i'],
      aggregators: 'count,min,max,last',
    })
    expect(answer).toEqual(good)
    expect(frames[0]!.columns.map(({ floats: values }) => values)).toEqual([[4], [-(2 ** 63)], [2 ** 63], [2 ** 63]])
  })
})

test('what is odd but has a meaning is taken: no rows, all null, a label twice', async () => {
  await server.create('odd')
  const allNull = { nullColumns: { cpu: true } }
  for (const frame of [
    frameBytes({}),
    frameBytes({ columns: [floats('cpu', [])], indices: [times('time', [])] }),
    frameBytes({
      columns: [{ name: 'cpu', dtype: DType.NULL }],
      indices: [seconds(2)],
      nullValues: [allNull, allNull],
    }),
  ])
    expect(await server.write('odd', [frame])).toEqual(good)
  expect(await rowsOf('odd')).toBe(0)
  const twice = oneRow({
    columns: [floats('cpu', [2])],
    indices: [seconds(1), strings('host', ['a']), strings('host', ['b'])],
  })
  expect(await server.write('odd', [twice])).toEqual(good)
  const { frames } = await server.read({ table: 'odd' })
  expect(frames.map(({ columns, labels }) => [columns[0]!.floats, labels['host']!.value.value])).toEqual([[[2], 'b']])
})

describe('clients that go away', () => {
  test('in the middle of a write: whole frames before it may be stored, never a part of one', async () => {
    await server.create('left')
    const rpc = server.connect()
    const call = rpc.makeClientStreamRequest(
      '/pb.Frames/Write',
      (b: Buffer) => b,
      (b: Buffer) => b,
      () => {},
    )
    call.on('error', () => {})
    call.write(headBytes({ table: 'left' }))
    for (let i = 0; i < 5; i++) call.write(frameMessageOf(plainFrame(1000, { host: `h${i}` })))
    await sleep(100)
    call.cancel()
    rpc.close()
    await sleep(200)
    const { answer, frames } = await server.read({ table: 'left' })
    expect(answer).toEqual(good)
    for (const frame of frames) expect(rowCountOf([frame])).toBe(1000)
  })

  test('in the middle of an HTTP body: the server goes on', async () => {
    const body = Buffer.concat([frameMessage(initialWriteBytes({ table: 'left' })), frameMessage(plainFrame(50_000))])
    for (const kept of [10, 60, body.length - 1]) {
      const socket = connectSocket(server.httpPort, '127.0.0.1')
      socket.on('error', () => {})
      socket.write(`POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`)
      socket.write(body.subarray(0, kept))
      await sleep(50)
      socket.destroy()
    }
    await sleep(200)
    for (const frame of (await server.read({ table: 'left' })).frames) expect(rowCountOf([frame])).toBe(1000)
  })

  test('that stop reading in the middle cost the server little, and nobody else waits for them', async () => {
    await server.create('much')
    const rowCount = 250_000
    const frame = (host: string): Uint8Array =>
      frameBytes({
        columns: [
          floats(
            'cpu',
            Array.from({ length: rowCount }, (_, i) => Math.sin(i)),
          ),
        ],
        indices: [
          times(
            'time',
            Array.from({ length: rowCount }, (_, i) => baseNs + BigInt(i) * 1_000_003n),
          ),
        ],
        labels: { host: text(host) },
      })
    expect(await server.write('much', ['a', 'b', 'c', 'd'].map(frame))).toEqual(good)
    const before = server.memoryByteLength()
    const readers = Array.from({ length: 16 }, () => {
      const rpc = server.connect()
      const call = rpc.makeServerStreamRequest(
        '/pb.Frames/Read',
        (b: Buffer) => b,
        (b: Buffer) => b,
        readBytes({ table: 'much' }),
      )
      call.on('error', () => {})
      call.once('data', () => call.pause())
      return () => {
        call.cancel()
        rpc.close()
      }
    })
    const request = JSON.stringify({ backend: 'tsdb', table: 'much', start: '0', end: 'now' })
    const sockets = Array.from({ length: 8 }, () => {
      const socket = connectSocket(server.httpPort, '127.0.0.1')
      socket.on('error', () => {})
      socket.write(`POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: ${request.length}\r\n\r\n${request}`)
      return socket.pause()
    })
    await sleep(1500)
    // Of 24 readers × 18 MB each holds a few messages of 1 MiB.
    const during = server.memoryByteLength()
    expect(await rowsOf('witness')).toBe(2000)
    for (const leave of readers) leave()
    for (const socket of sockets) socket.destroy()
    expect(during - before).toBeLessThan(320 * MiB)
    await sleep(200)
    expect(await rowsOf('much', { filter: "host == 'd'" })).toBe(rowCount)
  })
})

describe('many at once', () => {
  test('20 streams that write faster than the disk: memory stays bounded, every row is stored', async () => {
    await server.create('fast')
    const rowCount = 20_000
    let memoryMax = 0
    const timer = setInterval(() => {
      memoryMax = Math.max(memoryMax, server.memoryByteLength())
    }, 50)
    const before = server.memoryByteLength()
    const random = new SeededRandom(seed)
    const values = Array.from({ length: rowCount }, () => random.integer(0, 1e9) / 7)
    const answers = await Promise.all(
      Array.from({ length: 20 }, async (_, writer) => {
        const rpc = server.connect()
        const frames = (function* () {
          for (let i = 0; i < 4; i++) {
            const index = seconds(rowCount, baseNs + BigInt(i * rowCount) * secondNs)
            yield frameBytes({
              columns: [floats('cpu', values)],
              indices: [index],
              labels: { host: text(`w${writer}`) },
            })
          }
        })()
        const answer = await server.write('fast', frames, rpc)
        rpc.close()
        return answer
      }),
    )
    clearInterval(timer)
    expect(countAnswers(answers)).toEqual({ '0 ': 20 })
    expect(memoryMax - before).toBeLessThan(768 * MiB)
    expect(await rowsOf('fast', { filter: "host == 'w7'" })).toBe(4 * rowCount)
  })

  test('200 clients that write and read back at once each find their rows', async () => {
    await server.create('crowd')
    const found = await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const rpc = i % 8 === 0 ? server.connect() : server.rpc
        const answer = await server.write('crowd', [plainFrame(10, { host: `c${i}` })], rpc)
        const { frames } = await server.read({ table: 'crowd', filter: `host == 'c${i}'` }, rpc)
        if (rpc !== server.rpc) rpc.close()
        return `${answer.code} ${answer.text}${rowCountOf(frames)} rows`
      }),
    )
    expect(new Set(found)).toEqual(new Set(['0 10 rows']))
    expect(await rowsOf('crowd')).toBe(2000)
  })

  test('a table that is made and deleted while others use it: they find it or not, and are told nothing else', async () => {
    const end = performance.now() + 3000
    const answers: Answer[] = []
    const again = async (step: () => Promise<Answer>): Promise<void> => {
      while (performance.now() < end) answers.push(await step())
    }
    let host = 0
    await Promise.all([
      again(() => server.create('churn')),
      again(() => server.create('churn', { ifExists: 1 })),
      again(() => server.delete('churn')),
      again(() => server.execute('churn', 'compact')),
      again(() => server.execute('churn', 'stats')),
      again(() => server.write('churn', [plainFrame(20_000)])),
      ...[1, 2, 3].flatMap(() => [
        again(() => server.write('churn', [plainFrame(100), plainFrame(100, { host: `n${host++}` })])),
        again(async () => (await server.read({ table: 'churn' })).answer),
      ]),
    ])
    expect(answers.filter(({ code }) => !tableComesAndGoes.has(code))).toEqual([])
    const codes = new Set(answers.map(({ code }) => code))
    expect(codes).toEqual(tableComesAndGoes)
  })

  test('a read goes on to its end while its table is compacted and deleted', async () => {
    const total = await rowsOf('much')
    const call = server.rpc.makeServerStreamRequest(
      '/pb.Frames/Read',
      (b: Buffer) => b,
      (b: Buffer) => b,
      readBytes({ table: 'much' }),
    )
    let byteLength = 0
    const ended = new Promise<string>((resolve) => {
      call.on('error', (error) => resolve(String(error)))
      call.on('end', () => resolve('end'))
    })
    call.once('data', () => {
      call.pause()
      void Promise.all([server.execute('much', 'compact'), server.delete('much')]).then(() => call.resume())
    })
    call.on('data', (bytes: Buffer) => {
      byteLength += bytes.length
    })
    expect(await ended).toBe('end')
    expect(byteLength).toBeGreaterThan(16 * total)
    expectAnswer(
      (await server.read({ table: 'much' })).answer,
      NOT_FOUND,
      "can't query: failed to create adapter: No TSDB",
    )
  })
})

test('no password, token or Authorization header stands in what the server prints', async () => {
  const secrets = ['SeCrEt-password', 'SeCrEt-token', 'SeCrEt-bearer']
  const session = { user: 'ann', password: secrets[0]!, token: secrets[1]! }
  await server.read({ table: 'witness', session, filter: 'host ==' })
  await server.readRaw(readBytes({ table: 'nosuch', session }))
  await server.create('nosuch/', { session, rate: 'x' })
  await server.writeRaw([headBytes({ table: 'nosuch', session })])
  const body = JSON.stringify({ backend: 'tsdb', table: 'nosuch', session })
  for (const path of ['/read', '/create', '/delete', '/exec'])
    await server.http(path, body, { Authorization: `Bearer ${secrets[2]}` })
  await server.http('/read', body.slice(0, -2), {
    Authorization: `Basic ${Buffer.from(`u:${secrets[0]}`).toString('base64')}`,
  })
  await server.http('/read', body, { Authorization: `Digest ${secrets[2]}` })
  await sleep(50)
  for (const secret of secrets) {
    expect(server.output.includes(secret)).toBe(false)
    expect(server.output.includes(Buffer.from(`u:${secret}`).toString('base64'))).toBe(false)
  }
})

describe('start and stop', () => {
  test('a second server on the same folder ends with status 1 and says why; the first goes on', async () => {
    await expect(HostileServer.start(dataDir)).rejects.toThrow(
      /^ended with 1: framesd version [^\n]+\nerror: [^\n]*the data folder [^\n]+ is in use by another process, or open in this one\. [^\n]+\n$/,
    )
  })

  test('SIGTERM under load: calls in flight end, the process ends with 0, and what was acknowledged is there', async () => {
    await server.create('load')
    let isStopped = false
    const acked: number[] = []
    const others: Answer[] = []
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      const rpc = server.connect()
      for (let i = 0; !isStopped; i++) {
        const frame = plainFrame(10, { host: `s${writer}`, firstNs: baseNs + BigInt(i * 10) * secondNs })
        const answer = await server.write('load', [frame], rpc)
        if (answer.code !== status.OK) {
          others.push(answer)
          break
        }
        acked[writer] = i + 1
      }
      rpc.close()
    })
    await sleep(1000)
    const { status: exitStatus, ms } = await server.end('SIGTERM')
    isStopped = true
    await Promise.all(writers)
    expect(exitStatus).toBe(0)
    expect(ms).toBeLessThan(10_000)
    // A stream that the server has not taken, or a server that is gone: never an answer to a write that was taken.
    for (const { code } of others) expect(code).toBe(status.UNAVAILABLE)
    expect(server.output).not.toMatch(/"defect"/)

    server = await HostileServer.start(dataDir)
    const stored = new Map<unknown, Frame[]>()
    for (const frame of (await server.read({ table: 'load' })).frames) {
      const host = frame.labels['host']!.value.value
      stored.set(host, [...(stored.get(host) ?? []), frame])
    }
    for (const [writer, count] of acked.entries())
      expect(rowCountOf(stored.get(`s${writer}`) ?? []), `rows of writer ${writer}`).toBeGreaterThanOrEqual(10 * count)
  })
})
