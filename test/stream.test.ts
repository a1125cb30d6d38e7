// Streams through the engine: what is written is what is read, in order, once, and where it was said to be.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, Frame, openEngine, type ReadRequest, sliceColumn } from '../dist/engine/index.js'

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
      { seq_number: 1n, big: 9223372036854775807n, huge: 9.223372036854776e19, one: 1, e: 100, neg: -5n },
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
    expect(index!.indices[0]!.values()).toEqual([1n, 2n])
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

  test('texts without a gap come back whole in messages of bounded size, however their lengths differ', async () => {
    const stream = await newStream()
    // Pages of few different bytes, of many, of equal texts, and one of which some rows are most.
    const textOf = (i: number): string => {
      if (i < 12_000) return `${i}`.padStart(100, '0123456789abcdef')
      if (i < 20_000) return `${'~'.repeat(i % 50)}AZ é ${i} ${String.fromCharCode(0x21 + (i % 94))}`
      if (i < 25_000) return 'the same'
      return i % 5000 < 4900 ? `t${i}` : `${i}`.repeat(10_000)
    }
    const texts = Array.from({ length: 30_000 }, (_, i) => textOf(i))
    const slices = Array.from({ length: 30 }, (_, f) => texts.slice(1000 * f, 1000 * (f + 1)))
    await engine.write(
      stream,
      slices.map((slice) => new Frame({ columns: [sliceColumn('text', slice)] })),
    )
    const check = async (): Promise<void> => {
      for (const first of [1, 777, 4096, 4097, 20_001]) {
        let next = first - 1
        const seek = { seek: 'seq', sequence: BigInt(first), shardId: '0' }
        for (const frame of await framesOf({ ...stream, ...seek })) {
          const found = frame.column('text').values()
          expect(found).toEqual(texts.slice(next, next + frame.length))
          next += frame.length
          const byteLength = found.reduce<number>((sum, text) => sum + Buffer.byteLength(String(text)), 0)
          expect(byteLength).toBeLessThan(1.3 * 2 ** 20)
        }
        expect(next).toBe(texts.length)
      }
    }
    await check()
    await engine.execute({ ...stream, command: 'compact' })
    await check()
  })

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

describe('filters', () => {
  test('only records for which the filter holds are read, exactly as many as the limit says', async () => {
    const stream = await newStream({ shards: 3n })
    const numbers = Array.from({ length: 9000 }, (_, i) => i)
    await engine.write(
      stream,
      Array.from(
        { length: 9 },
        (_, f) => new Frame({ columns: [ints('i', numbers.slice(1000 * f, 1000 * f + 1000))] }),
      ),
    )
    await put(stream, '{"i":"text"}')
    const filter = 'i >= 100 AND i < 8000'
    const all = await framesOf({ ...stream, seek: 'earliest', filter, columns: ['i'] })
    expect(all.flatMap((frame) => frame.column('i').strings().map(Number))).toEqual(numbers.slice(100, 8000))
    const read: number[] = []
    let marker = ''
    do {
      const frames = await framesOf({ ...stream, seek: 'earliest', filter, columns: ['i'], limit: 3000n, marker })
      const found = frames.flatMap((frame) => frame.column('i').strings().map(Number))
      read.push(...found)
      marker = String(frames.at(-1)?.labels.get('next_marker') ?? '')
      expect(found.length).toBe(marker === '' ? 7900 % 3000 : 3000)
    } while (marker !== '')
    expect(read).toEqual(numbers.slice(100, 8000))
    const rows = await rowsOf(stream, { filter: 'seq_number == 5', shardId: '1', columns: ['seq_number'] })
    expect(rows).toEqual([{ seq_number: 5n }])
    expect(await codeOf(framesOf({ ...stream, seek: 'earliest', filter: 'i >' }))).toBe('INVALID_ARGUMENT')
  })
})

describe('following', () => {
  test('a read that follows gets records as they come, and ends when none have come for a while', async () => {
    const stream = await newStream({ shards: 2n })
    await put(stream, '{"i":0}')
    for (const options of [{ seek: 'latest' }, { seek: 'latest', shardId: '1' }]) {
      const got: bigint[] = []
      const reading = (async () => {
        for await (const frame of engine.read({ ...stream, ...options, followMs: 500 }))
          got.push(
            ...frame
              .column('i')
              .values()
              .map((value) => value as bigint),
          )
      })()
      for (let i = 1; i <= 5; i++) {
        await new Promise((resolve) => setTimeout(resolve, 20))
        await engine.write(stream, new Frame({ columns: [ints('i', [2 * i, 2 * i + 1])] }))
      }
      await reading
      const wanted = [2n, 3n, 4n, 5n, 6n, 7n, 8n, 9n, 10n, 11n]
      expect(got.length).toBe(options.shardId === undefined ? 10 : 5)
      expect(wanted.filter((n) => got.includes(n))).toEqual(got)
    }
  })

  test('a limit or an end bound ends it, too', async () => {
    const stream = await newStream()
    const limited = framesOf({ ...stream, seek: 'earliest', shardId: '0', limit: 2n, followMs: 60_000 })
    const bounded = framesOf({ ...stream, seek: 'earliest', shardId: '0', end: String(nowMs), followMs: 60_000 })
    await put(stream, '{"i":1}')
    nowMs += 10_000
    await put(stream, '{"i":2}')
    expect((await limited).reduce((sum, { length }) => sum + length, 0)).toBe(2)
    expect((await bounded).reduce((sum, { length }) => sum + length, 0)).toBe(1)
  })

  test('it stops when the caller goes, and when the stream is deleted', async () => {
    const stream = await newStream()
    const controller = new AbortController()
    const options = { ...stream, seek: 'latest', shardId: '0', followMs: 60_000 }
    const given = (async () => {
      for await (const _ of engine.read(options, { signal: controller.signal })) throw new Error('there is no record')
    })()
    const deleted = framesOf(options)
    await new Promise((resolve) => setTimeout(resolve, 20))
    controller.abort()
    expect(await codeOf(given)).toBe('CANCELLED')
    await engine.delete(stream)
    expect(await codeOf(deleted)).toBe('TABLE_NOT_FOUND')
  })
})

describe('consumer groups', () => {
  test('positions are kept a group and shard', async () => {
    const stream = await newStream({ shards: 2n })
    await engine.write(stream, new Frame({ columns: [ints('i', [1, 2, 3, 4, 5, 6])] }))
    const commit = (args: Record<string, string | bigint>) => engine.execute({ ...stream, command: 'commit', args })
    await commit({ group: 'g', shard_id: '1', sequence: 2n })
    await commit({ group: 'g', shard: 0n, sequence: 3n })
    await commit({ group: 'h', shard_id: 0n, sequence: 1n })
    const offsets = async (group: string) => [
      ...(await engine.execute({ ...stream, command: 'offsets', args: { group } }))!.rows(),
    ]
    expect(await offsets('g')).toEqual([
      { shard_id: 0n, sequence: 3n, lag: 0n },
      { shard_id: 1n, sequence: 2n, lag: 1n },
    ])
    expect((await offsets('h')).map(({ sequence }) => sequence)).toEqual([1n, 0n])
    expect((await offsets('new')).map(({ lag }) => lag)).toEqual([3n, 3n])
    expect(await codeOf(commit({ group: 'g', shard_id: '2', sequence: 1n }))).toBe('SHARD_NOT_FOUND')
    expect(await codeOf(commit({ group: 'g', shard_id: '0', sequence: 4n }))).toBe('INVALID_ARGUMENT')
    expect(await codeOf(commit({ group: 'g', shard_id: '0', sequence: -1n }))).toBe('INVALID_ARGUMENT')
    expect(await codeOf(commit({ shard_id: '0', sequence: 1n }))).toBe('INVALID_ARGUMENT')
  })
})

describe('retention', () => {
  const describeRows = async (stream: Stream) => [...(await engine.execute({ ...stream, command: 'describe' }))!.rows()]

  test('records older than the retention go; sequences and times go on', async () => {
    const request = { backend: 'stream', table: `stream-${streamCount++}` }
    await engine.create({ ...request, shards: 2n, retentionHours: 1n })
    for (let i = 0; i < 20; i++) {
      await put(request, `{"i":${i}}`)
      nowMs += 600_000
    }
    await engine.execute({ ...request, command: 'compact' })
    // The last record arrived ten minutes ago; five others within the hour.
    const [frame] = await framesOf({ ...request, seek: 'earliest' })
    expect(frame!.column('i').values()).toEqual([14n, 15n, 16n, 17n, 18n, 19n])
    expect(await describeRows(request)).toMatchObject([
      { shard_id: 0n, first_sequence: 8n, last_sequence: 10n, record_count: 3n, retention_hours: 1n },
      { shard_id: 1n, first_sequence: 8n, last_sequence: 10n, record_count: 3n },
    ])
    expect(await messageOf(framesOf({ ...request, seek: 'seq', sequence: 7n, shardId: '0' }))).toMatch(/^Error in Seek/)
    nowMs += 3_600_000
    await engine.execute({ ...request, command: 'compact' })
    expect(await framesOf({ ...request, seek: 'earliest' })).toEqual([])
    const before = nowMs
    nowMs -= 86_400_000
    const answer = await put(request, '{"i":20}')
    expect(answer!.column('seq_number').at(0)).toBe(11n)
    const [later] = await framesOf({
      ...request,
      seek: 'seq',
      sequence: 11n,
      shardId: String(answer!.column('shard_id').at(0)),
    })
    expect(later!.column('stream_time').times()[0]! > BigInt(before - 3_600_000 - 600_001) * 1_000_000n).toBe(true)
    nowMs = before
  })

  test('a bound of bytes keeps the newest records', async () => {
    const stream = await newStream({ retentionBytes: 300_000n })
    for (let f = 0; f < 40; f++) {
      const texts = Array.from({ length: 100 }, (_, i) =>
        `${f}:${i}:${Math.random()}`.padEnd(200, String(Math.random())),
      )
      await engine.write(stream, new Frame({ columns: [sliceColumn('text', texts)] }))
    }
    await engine.execute({ ...stream, command: 'compact' })
    const [{ first_sequence, last_sequence, bytes }] = (await describeRows(stream)) as [Record<string, bigint>]
    expect(last_sequence).toBe(4000n)
    expect(Number(first_sequence)).toBeGreaterThan(1000)
    expect(Number(first_sequence)).toBeLessThan(3990)
    expect(Number(bytes)).toBeGreaterThan(100_000)
    const frames = await framesOf({ ...stream, seek: 'earliest', shardId: '0' })
    expect(frames[0]!.indices[0]!.at(0)).toBe(first_sequence)
  })
})

describe('streams come and go', () => {
  test('if_exists and if_missing', async () => {
    const stream = await newStream({ shards: 2n })
    await put(stream, 'x')
    expect(await messageOf(engine.create(stream))).toContain('already exists')
    await engine.create({ ...stream, shards: 5n, ifExists: 'ignore' })
    expect((await engine.execute({ ...stream, command: 'describe' }))!.length).toBe(2)
    await engine.delete({ ...stream, filter: 'ignored' })
    expect(await codeOf(engine.delete(stream))).toBe('TABLE_NOT_FOUND')
    await engine.delete({ ...stream, ifMissing: 'ignore' })
    await engine.create(stream)
    expect((await put(stream, 'y'))!.column('seq_number').at(0)).toBe(1n)
    expect(await codeOf(engine.delete({ ...stream, start: '0' }))).toBe('REFUSED_PARAMETER')
  })

  test.each([
    [{ shards: -1n }, "'shards' must be a positive integer (got -1)"],
    [{ retentionHours: -2n }, "'retention_hours' must be a positive integer (got -2)"],
    [{ shards: 1_000_000n }, 'a stream of 1000000 shards is not possible'],
  ])('refused at creation: %o', async (options, text) => {
    expect(await messageOf(engine.create({ backend: 'stream', table: 'refused', ...options }))).toContain(text)
  })

  test('writes and commands that cannot be are refused', async () => {
    const stream = await newStream()
    expect(await codeOf(engine.openWrite({ backend: 'stream', table: 'no-such' }))).toBe('TABLE_NOT_FOUND')
    expect(await messageOf(engine.openWrite({ ...stream, partitionKeys: ['a'] }))).toContain(
      'PartitionKeys cannot be used',
    )
    expect(await codeOf(engine.openWrite({ ...stream, more: true }))).toBe('NONE')
    expect(await messageOf(engine.execute({ ...stream, command: 'pop' }))).toContain(
      "streaming backend doesn't support execute command 'pop'",
    )
    expect(await messageOf(engine.execute({ ...stream, command: 'put' }))).toContain(
      "missing a required parameter - 'table' (stream name) and/or 'data' argument (record data)",
    )
    expect(await codeOf(engine.read({ ...stream, seek: 'earliest', groupBy: 'a' }).next())).toBe('REFUSED_PARAMETER')
  })
})
