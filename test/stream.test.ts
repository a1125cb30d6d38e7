// Streams through the engine: what is written is what is read, in order, once, and where it was said to be.
import { fromBinary } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, Frame, openEngine, type ReadRequest, sliceColumn } from '../dist/engine/index.js'
import { FrameSchema } from '../dist/proto/gen/frames_pb.js'

let engine: Engine
let streamCount = 0
let nowMs = Date.UTC(2024, 0, 1)

beforeAll(async () => {
  engine = await openEngine({ workerCount: 2, nowMs: () => nowMs, memoryByteLength: 256 * 2 ** 20 })
})
afterAll(async () => {
  await engine.close()
})

interface Stream {
  readonly backend: string
  readonly table: string
}

async function newStream(
  options: { shards?: bigint; shardingKey?: string; retentionBytes?: bigint } = {},
): Promise<Stream> {
  const request = { backend: 'stream', table: `stream-${streamCount++}` }
  const { shards, shardingKey, retentionBytes } = options
  await engine.create({
    ...request,
    ...(shards === undefined ? {} : { shards }),
    schema: {
      ...(shardingKey === undefined ? {} : { key: { shardingKey: [shardingKey] } }),
      ...(retentionBytes === undefined
        ? {}
        : { fields: [{ name: 'options', properties: { retention_bytes: retentionBytes } }] }),
    },
  })
  return request
}

async function framesOf(request: ReadRequest): Promise<Frame[]> {
  const frames: Frame[] = []
  for await (const frame of engine.read(request)) frames.push(frame)
  return frames
}

/** The rows of a read without their arrival times, which depend on the clock. */
async function rowsOf(stream: Stream, options: Partial<ReadRequest> = {}): Promise<Record<string, unknown>[]> {
  const frames = await framesOf({ ...stream, seek: 'earliest', shardId: '0', ...options })
  return frames.flatMap((frame) =>
    [...frame.rows({ includeIndex: true })].map(({ stream_time: _, ...row }) => row as Record<string, unknown>),
  )
}

function put(stream: Stream, data: string, args: Record<string, string> = {}) {
  return engine.execute({ ...stream, command: 'put', args: { data, ...args } })
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'NONE',
    (error: { code: string }) => error.code,
  )
}

async function messageOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => '',
    (error: Error) => error.message,
  )
}

const ints = (name: string, values: (number | null)[]) =>
  sliceColumn(
    name,
    values.map((value) => (value === null ? null : BigInt(value))),
    'int64',
  )

describe('records', () => {
  test('the example: a JSON object and a text', async () => {
    const stream = await newStream()
    await put(stream, '{"cpu":1,"s":"a"}')
    await put(stream, 'hello')
    const [frame, ...others] = await framesOf({ ...stream, seek: 'earliest', shardId: '0' })
    expect(others).toEqual([])
    expect(frame!.names).toEqual(['cpu', 's', 'raw_data', 'stream_time'])
    expect(frame!.columns.map(({ dtype }) => dtype)).toEqual(['int64', 'string', 'string', 'time'])
    expect(frame!.columns.slice(0, 3).map((column) => column.values())).toEqual([
      [1n, null],
      ['a', null],
      [null, 'hello'],
    ])
    expect(frame!.indices.map(({ name }) => name)).toEqual(['seq_number'])
    expect(frame!.indices[0]!.values()).toEqual([1n, 2n])
    expect(frame!.labels.get('last_seq')).toBe(2n)
    expect(frame!.labels.has('next_marker')).toBe(false)
  })

  test('the columns of a frame read back in the types they were written in, the index among them', async () => {
    const stream = await newStream()
    const columns = [
      ints('i', [1, null, 2 ** 40]),
      sliceColumn('f', [0.5, Number.NaN, null], 'float64'),
      sliceColumn('s', ['a', null, 'ü'], 'string'),
      sliceColumn('b', [true, false, null], 'bool'),
      sliceColumn('t', [0n, 1n, null], 'time'),
      sliceColumn('none', [null, null, null]),
    ]
    const indices = [sliceColumn('', [10n, 20n, 30n], 'time')]
    await engine.write(stream, new Frame({ columns, indices, labels: { dropped: 'x' } }))
    const [frame] = await framesOf({ ...stream, seek: 'earliest', shardId: '0' })
    expect(frame!.names).toEqual(['b', 'f', 'i', 'idx', 's', 't', 'stream_time'])
    expect(frame!.column('i').values()).toEqual([1n, null, 2n ** 40n])
    expect(frame!.column('f').values()).toEqual([0.5, Number.NaN, null])
    expect(frame!.column('s').values()).toEqual(['a', null, 'ü'])
    expect(frame!.column('b').values()).toEqual([true, false, null])
    expect(frame!.column('t').values()).toEqual([{ timeNs: 0n }, { timeNs: 1n }, null])
    expect(frame!.column('idx').values()).toEqual([{ timeNs: 10n }, { timeNs: 20n }, { timeNs: 30n }])
  })

  test('JSON members: integers, floats, nested values, nulls, repeated names', async () => {
    const stream = await newStream()
    await put(stream, ' {"big":9223372036854775807,"huge":92233720368547758080,"one":1.0,"e":1e2,"neg":-5} ')
    await put(stream, '{"a":[1, {"b":"]}"}],"o":{"x":1},"n":null,"t":true,"when":"2024-01-01T00:00:00Z","r":1,"r":2}')
    await put(stream, '{"esc\\"aped":"\\u0041\\\\","#data":"mine","##":"too"}')
    expect(await rowsOf(stream, { columns: ['big', 'huge', 'one', 'e', 'neg'], limit: 1n })).toEqual([
      { seq_number: 1n, big: 9223372036854775807n, huge: 92233720368547758080, one: 1, e: 100, neg: -5n },
    ])
    expect(
      await rowsOf(stream, { columns: ['a', 'o', 'n', 't', 'when', 'r'], seek: 'seq', sequence: 2n, limit: 1n }),
    ).toEqual([
      { seq_number: 2n, a: '[1, {"b":"]}"}]', o: '{"x":1}', n: null, t: true, when: '2024-01-01T00:00:00Z', r: 2n },
    ])
    expect(await rowsOf(stream, { columns: ['esc"aped', '#data', '##'], seek: 'seq', sequence: 3n })).toEqual([
      { seq_number: 3n, 'esc"aped': 'A\\', '#data': 'mine', '##': 'too' },
    ])
  })

  test.each(['', 'null', '[1]', '3', '"text"', '{"a":1', 'NaN', '{"a":1}x'])('raw data: %j', async (data) => {
    const stream = await newStream()
    await put(stream, data)
    expect(await rowsOf(stream)).toEqual([{ seq_number: 1n, raw_data: data }])
  })

  test('a record without members is a record', async () => {
    const stream = await newStream()
    await put(stream, '{}')
    await put(stream, '{"n":null}')
    expect(await rowsOf(stream)).toEqual([{ seq_number: 1n }, { seq_number: 2n }])
  })

  test('members named like what the stream tells are replaced by it', async () => {
    const stream = await newStream()
    await put(stream, '{"seq_number":"x","stream_time":"y","a":1}')
    const [frame] = await framesOf({ ...stream, seek: 'earliest', shardId: '0' })
    expect(frame!.names).toEqual(['a', 'stream_time'])
    expect(frame!.column('stream_time').dtype).toBe('time')
  })

  test('a member of several types: numbers are floats, any other mix is text', async () => {
    const stream = await newStream()
    await put(stream, '{"n":1,"m":1}')
    await put(stream, '{"n":2.5,"m":true}')
    await engine.write(stream, new Frame({ columns: [ints('n', [3]), sliceColumn('m', [5_000_000n], 'time')] }))
    await put(stream, '{"m":"text"}')
    expect(await rowsOf(stream)).toEqual([
      { seq_number: 1n, n: 1, m: '1' },
      { seq_number: 2n, n: 2.5, m: 'true' },
      { seq_number: 3n, n: 3, m: '1970-01-01T00:00:00.005Z' },
      { seq_number: 4n, n: null, m: 'text' },
    ])
  })

  test('a name twice in a frame is refused, and nothing of the frame is stored', async () => {
    const stream = await newStream()
    const twice = new Frame({ columns: [ints('a', [1]), ints('a', [2])] })
    expect(await messageOf(engine.write(stream, twice))).toContain('row iteration error: duplicate column name - "a"')
    const both = new Frame({ columns: [ints('a', [1])], indices: [ints('a', [2])] })
    expect(await messageOf(engine.write(stream, both))).toContain(
      'row iteration error: duplicate name in columns and indices - "a"',
    )
    expect(await rowsOf(stream)).toEqual([])
  })

  test('no records: no frames', async () => {
    const stream = await newStream({ shards: 3n })
    expect(await framesOf({ ...stream, seek: 'earliest', shardId: '2' })).toEqual([])
    expect(await framesOf({ ...stream, seek: 'earliest' })).toEqual([])
  })
})

describe('where records go', () => {
  test('rows are spread evenly, sequences are dense in each shard', async () => {
    const stream = await newStream({ shards: 4n })
    for (let i = 0; i < 5; i++) await put(stream, `{"i":${i}}`)
    const { frameCount, rowCount } = await engine.write(stream, [
      new Frame({ columns: [ints('i', [5, 6, 7, 8, 9, 10, 11])] }),
      new Frame({ columns: [ints('i', [])] }),
    ])
    expect([frameCount, rowCount]).toEqual([2, 7])
    const shards = await Promise.all(['0', '1', '2', '3'].map((shardId) => rowsOf(stream, { shardId })))
    expect(shards.map((rows) => rows.map(({ seq_number }) => seq_number))).toEqual(
      Array.from({ length: 4 }, () => [1n, 2n, 3n]),
    )
    expect(
      shards
        .flat()
        .map(({ i }) => Number(i))
        .sort((a, b) => a - b),
    ).toEqual([...Array(12).keys()])
  })

  test('put tells shard and sequence; records of one key stay together, under all spellings', async () => {
    const stream = await newStream({ shards: 8n })
    const places = new Set<string>()
    for (const args of [{ partition: 'k' }, { partition_key: 'k' }, { partition: 'other', partition_key: 'k' }]) {
      const answer = await put(stream, 'x', { ...args, client_info: 'c', clientinfo: 'd' })
      places.add(String(answer!.column('shard_id').at(0)))
    }
    expect(places.size).toBe(1)
    const shardId = [...places][0]!
    expect(await rowsOf(stream, { shardId, columns: ['partition_key', 'client_info', 'raw_data'] })).toEqual(
      [1n, 2n, 3n].map((seq_number) => ({ seq_number, partition_key: 'k', client_info: 'c', raw_data: 'x' })),
    )
  })

  test('put_many stores all records in one commit and tells the place of each', async () => {
    const stream = await newStream({ shards: 2n })
    const answer = await engine.execute({
      ...stream,
      command: ' PUT_MANY ',
      args: {
        data: '["text", {"a":12345678901234567890, "b":[1,2]}, 7, "{\\"a\\":1}"]',
        partition_keys: '["x","y","x","y"]',
      },
    })
    const places = [...answer!.rows()]
    expect(places[0]!['shard_id']).toBe(places[2]!['shard_id'])
    expect(places[1]!['shard_id']).toBe(places[3]!['shard_id'])
    const rows = await framesOf({ ...stream, seek: 'earliest' })
    expect(
      rows
        .flatMap((frame) => [...frame.column('raw_data').values()])
        .filter((value) => value !== null)
        .sort(),
    ).toEqual(['7', 'text'])
    expect(await codeOf(engine.execute({ ...stream, command: 'put_many', args: { data: '{"a":1}' } }))).toBe(
      'INVALID_ARGUMENT',
    )
    expect((await engine.execute({ ...stream, command: 'put_many', args: { data: '[]' } }))!.length).toBe(0)
  })

  test('rows of a frame go to the shard of their key, whatever its type, and like records put with it', async () => {
    const stream = await newStream({ shards: 8n, shardingKey: 'k' })
    const keys = Array.from({ length: 100 }, (_, i) => i % 10)
    await engine.write(stream, new Frame({ columns: [ints('k', keys), ints('i', [...keys.keys()])] }))
    await engine.write(
      stream,
      new Frame({ columns: [sliceColumn('k', keys.map(String)), ints('i', [...keys.keys()])] }),
    )
    for (const key of [0, 1, 2]) {
      await put(stream, `{"k":${key},"i":100}`)
      await put(stream, 'raw', { partition: String(key) })
    }
    const shardOfKey = new Map<string, number>()
    let count = 0
    for (let shard = 0; shard < 8; shard++) {
      const lastOfKey = new Map<string, number>()
      for (const { k, partition_key, i } of await rowsOf(stream, {
        shardId: String(shard),
        columns: ['k', 'partition_key', 'i'],
      })) {
        count++
        const key = String(k ?? partition_key)
        expect(shardOfKey.get(key) ?? shard).toBe(shard)
        shardOfKey.set(key, shard)
        if (i === null) continue
        const last = lastOfKey.get(key) ?? -1
        expect(Number(i) > last || Number(i) < 10).toBe(true)
        lastOfKey.set(key, Number(i))
      }
    }
    expect(count).toBe(206)
    expect(new Set(shardOfKey.values()).size).toBeGreaterThan(3)
  })

  test('order of a key holds in a read of all shards while shards are added', async () => {
    const stream = await newStream({ shards: 2n })
    const expected = new Map<string, number[]>()
    for (let i = 0; i < 120; i++) {
      if (i % 40 === 39)
        await engine.execute({ ...stream, command: 'add_shards', args: { shards: BigInt(3 + Math.floor(i / 40)) } })
      const key = `key-${i % 7}`
      await put(stream, `{"key":"${key}","i":${i}}`, { partition_key: key })
      expected.set(key, [...(expected.get(key) ?? []), i])
    }
    const found = new Map<string, number[]>()
    for (const frame of await framesOf({ ...stream, seek: 'earliest', messageLimit: 7n })) {
      expect(frame.length).toBeLessThanOrEqual(7)
      for (const { key, i } of frame.rows()) found.set(String(key), [...(found.get(String(key)) ?? []), Number(i)])
    }
    expect(found).toEqual(expected)
    expect(await codeOf(engine.execute({ ...stream, command: 'add_shards', args: { shards: 1n } }))).toBe(
      'INVALID_ARGUMENT',
    )
  })
})

describe('seeking', () => {
  async function numbered(count: number, shards = 1n): Promise<Stream> {
    const stream = await newStream({ shards })
    for (let i = 1; i <= count; i++) {
      await put(stream, `{"i":${i}}`)
      nowMs += 1000
    }
    return stream
  }
  const is = (rows: Record<string, unknown>[]) => rows.map(({ i }) => Number(i))

  test('earliest, latest, a sequence number, a time', async () => {
    const startMs = nowMs
    const stream = await numbered(5)
    expect(is(await rowsOf(stream, { seek: 'EARLIEST' }))).toEqual([1, 2, 3, 4, 5])
    expect(await rowsOf(stream, { seek: 'latest' })).toEqual([])
    expect(await rowsOf(stream, { seek: 'Late' })).toEqual([])
    expect(is(await rowsOf(stream, { seek: 'seq', sequence: 3n }))).toEqual([3, 4, 5])
    expect(await rowsOf(stream, { seek: 'sequence', sequence: 6n })).toEqual([])
    expect(is(await rowsOf(stream, { seek: 'time', start: String(startMs + 2500) }))).toEqual([3, 4, 5])
    expect(
      is(await rowsOf(stream, { seek: 'time', start: String(startMs + 2000), end: String(startMs + 3000) })),
    ).toEqual([3, 4])
    expect(is(await rowsOf(stream, { end: new Date(startMs + 999).toISOString() }))).toEqual([1])
    expect(await rowsOf(stream, { seek: 'time', start: 'now' })).toEqual([])
  })

  test.each([0n, 7n, -1n, 2n ** 60n])('a sequence number that the shard does not hold fails: %s', async (sequence) => {
    const stream = await numbered(5)
    const error = await messageOf(framesOf({ ...stream, seek: 'seq', sequence, shardId: '0' }))
    expect(error).toMatch(/^Error in Seek operation - /)
  })

  test('shards that are not there fail, and so do reads that say too little', async () => {
    const stream = await newStream({ shards: 2n })
    const seek = 'earliest'
    expect(await codeOf(framesOf({ ...stream, seek, shardId: '2' }))).toBe('SHARD_NOT_FOUND')
    expect(await codeOf(framesOf({ ...stream, seek, shardId: '-1' }))).toBe('INVALID_ARGUMENT')
    expect(await codeOf(framesOf({ ...stream, seek, shardId: 'x' }))).toBe('INVALID_ARGUMENT')
    const missing = 'missing essential parameters, need: table, seek, shard parameters'
    expect(await messageOf(framesOf({ ...stream, shardId: '0' }))).toContain(missing)
    expect(await messageOf(framesOf({ ...stream, seek: 'seq', sequence: 1n }))).toContain(missing)
    expect(await messageOf(framesOf({ ...stream, seek: 'soon', shardId: '0' }))).toContain(
      "Stream seek type soon is invalid, use 'earliest' | 'latest' | 'seq'/'sequence' | 'time'",
    )
    expect(await messageOf(framesOf({ ...stream, seek: 'time', shardId: '0' }))).toContain('Invalid time string')
    const unknown = framesOf({ backend: 'stream', table: 'no-such', seek, shardId: '0' })
    expect(await messageOf(unknown)).toMatch(/^Error in Seek operation - no stream at /)
  })

  test('a limit is exact, and its marker goes on where it ended', async () => {
    const stream = await numbered(10)
    for (const options of [{ shardId: '0' }, {}]) {
      const read: number[] = []
      let marker = ''
      let readCount = 0
      do {
        const frames = await framesOf({ ...stream, seek: 'earliest', ...options, limit: 3n, messageLimit: 2n, marker })
        read.push(...frames.flatMap((frame) => frame.column('i').values().map(Number)))
        marker = String(frames.at(-1)?.labels.get('next_marker') ?? '')
        for (const frame of frames.slice(0, -1)) expect(frame.labels.has('next_marker')).toBe(false)
        readCount++
      } while (marker !== '')
      expect(read).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
      expect(readCount).toBe(4)
    }
    const whole = await framesOf({ ...stream, seek: 'earliest', shardId: '0', limit: 10n })
    expect(whole.at(-1)!.labels.has('next_marker')).toBe(false)
    expect(await codeOf(framesOf({ ...stream, seek: 'earliest', shardId: '0', marker: 'x' }))).toBe('INVALID_ARGUMENT')
    expect(await codeOf(framesOf({ ...stream, seek: 'earliest', limit: -1n }))).toBe('INVALID_ARGUMENT')
  })

  test('message_limit bounds every frame, and the label names its last record', async () => {
    const stream = await numbered(5)
    const frames = await framesOf({ ...stream, seek: 'earliest', shardId: '0', messageLimit: 2n })
    expect(frames.map(({ length }) => length)).toEqual([2, 2, 1])
    expect(frames.map(({ labels }) => labels.get('last_seq'))).toEqual([2n, 4n, 5n])
  })

  test('all shards together come in order of arrival, with shard and sequence as index', async () => {
    const stream = await numbered(7, 3n)
    const [frame] = await framesOf({ ...stream, seek: 'earliest' })
    expect(frame!.indices.map(({ name }) => name)).toEqual(['shard_id', 'seq_number'])
    expect(frame!.column('i').values()).toEqual([1n, 2n, 3n, 4n, 5n, 6n, 7n])
    const keys = [...frame!.rows({ includeIndex: true })].map(({ shard_id, seq_number }) => `${shard_id}:${seq_number}`)
    expect(new Set(keys).size).toBe(7)
  })

  test('wanted columns alone are read, unknown ones are null', async () => {
    const stream = await numbered(2)
    const frames = await framesOf({ ...stream, seek: 'earliest', shardId: '0', columns: ['nope', 'i'] })
    expect(frames[0]!.names).toEqual(['nope', 'i'])
    expect(frames[0]!.column('nope').values()).toEqual([null, null])
    const [index] = await framesOf({ ...stream, seek: 'earliest', shardId: '0', columns: ['seq_number'] })
    expect(index!.column('seq_number').values()).toEqual([1n, 2n])
  })
})

describe('much of it', () => {
  test.each([1n, 5n])(
    'frames of many rows come back whole, before and after a merge, with %s shards',
    async (shards) => {
      const stream = await newStream({ shards })
      const rowCount = 3000
      const frames = Array.from({ length: 40 }, (_, f) => {
        const numbers = Array.from({ length: rowCount }, (__, i) => f * rowCount + i)
        return new Frame({
          columns: [
            ints('i', numbers),
            sliceColumn(
              'text',
              numbers.map((n) => (n % 3 === 0 ? null : `text ${n}`)),
              'string',
            ),
            ...(f % 2 === 0
              ? [
                  sliceColumn(
                    'even',
                    numbers.map((n) => n % 5 === 0),
                    'bool',
                  ),
                ]
              : []),
          ],
        })
      })
      await engine.write(stream, frames)
      const check = async (): Promise<void> => {
        let next = 0
        const seen = new Set<bigint>()
        for (const shardId of Array.from({ length: Number(shards) }, (_, shard) => String(shard))) {
          let sequence = 1n
          let last = -1n
          for (const frame of await framesOf({ ...stream, seek: 'earliest', shardId })) {
            const numbers = frame.column('i').ints()
            const sequences = frame.indices[0]!.ints()
            const texts = frame.column('text').values()
            const evens = frame.names.includes('even') ? frame.column('even').values() : null
            for (let row = 0; row < frame.length; row++) {
              const n = numbers[row]!
              if (sequences[row] !== sequence++ || n <= last) throw new Error(`out of order at ${n}`)
              last = n
              seen.add(n)
              if (texts[row] !== (n % 3n === 0n ? null : `text ${n}`)) throw new Error(`text of ${n}: ${texts[row]}`)
              const even = (n / BigInt(rowCount)) % 2n === 0n ? n % 5n === 0n : null
              if ((evens?.[row] ?? null) !== even) throw new Error(`even of ${n}: ${evens?.[row]}`)
            }
          }
        }
        expect(seen.size).toBe(40 * rowCount)
        for (const frame of await framesOf({ ...stream, seek: 'earliest', columns: ['i'] })) {
          for (const n of frame.column('i').ints())
            if (Number(n) !== next++) throw new Error(`merged read: ${n} at ${next - 1}`)
        }
        expect(next).toBe(40 * rowCount)
      }
      await check()
      await engine.execute({ ...stream, command: 'compact' })
      await check()
    },
  )

  test('single records merge into blocks, and stay in order', async () => {
    const stream = await newStream({ shards: 3n })
    await Promise.all(Array.from({ length: 2000 }, (_, i) => put(stream, `{"i":${i},"k${i % 3}":"v"}`)))
    const before = await rowsOf(stream, { shardId: '1' })
    await engine.execute({ ...stream, command: 'compact' })
    expect(await rowsOf(stream, { shardId: '1' })).toEqual(before)
    const all = await framesOf({ ...stream, seek: 'earliest' })
    expect(all.reduce((sum, { length }) => sum + length, 0)).toBe(2000)
    const times = all.flatMap((frame) => [...frame.column('stream_time').times()])
    for (let i = 1; i < times.length; i++) expect(times[i]! >= times[i - 1]!).toBe(true)
  })

  test('wide and large records go through', async () => {
    const stream = await newStream()
    const wide = Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`m${i}`, i]))
    await put(stream, JSON.stringify(wide))
    const large = 'x'.repeat(9 * 2 ** 20)
    await put(stream, large)
    await put(stream, JSON.stringify({ large }))
    const [row] = await rowsOf(stream, { limit: 1n })
    expect(Object.keys(row!).length).toBe(2001)
    const rows = await rowsOf(stream, { seek: 'seq', sequence: 2n, columns: ['raw_data', 'large'] })
    expect(rows[0]!['raw_data']).toBe(large)
    expect(rows[1]!['large']).toBe(large)
    await engine.execute({ ...stream, command: 'compact' })
    expect((await rowsOf(stream, { columns: ['large'] }))[2]!['large']).toBe(large)
    expect(await codeOf(put(stream, 'x'.repeat(32 * 2 ** 20)))).toBe('FRAME_TOO_LARGE')
  })
})
