// Headers of HTTP/2: the examples of RFC 7541, another implementation as the other end, and bytes that mean nothing.
import { once } from 'node:events'
import { connect, createServer, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http2'
import { type AddressInfo, connect as connectSocket, createServer as createTcpServer } from 'node:net'
import { describe, expect, test } from 'vitest'
import { errorCode, Http2Error } from '../dist/proto/http2/errors.js'
import { type BlockKind, blockProblem, type HeaderBlock } from '../dist/proto/http2/header-fields.js'
import { encodeHeaders, HeaderDecoder } from '../dist/proto/http2/hpack.js'
import { decodedByteLengthMax, decodeHuffman } from '../dist/proto/http2/huffman.js'
import { SeededRandom, seed } from './seeded-random.js'

const limits = { tableByteLengthMax: 4096, listByteLengthMax: 16_384 }

function hex(text: string): Buffer {
  return Buffer.from(text.replace(/\s/g, ''), 'hex')
}

function plain({ headers }: HeaderBlock): Record<string, string> {
  return { ...headers }
}

function huffman(bytes: Buffer): string {
  const target = Buffer.alloc(decodedByteLengthMax(bytes.byteLength))
  return target.toString('latin1', 0, decodeHuffman(bytes, 0, bytes.byteLength, target))
}

function compressionFailure(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    if (error instanceof Http2Error && error.code === errorCode.compression) return error.message
    throw error
  }
  throw new Error('nothing was wrong')
}

describe('the examples of RFC 7541', () => {
  test('C.2: single fields', () => {
    const decode = (text: string) => plain(new HeaderDecoder(limits).read(hex(text)))
    expect(decode('400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572')).toEqual({
      'custom-key': 'custom-header',
    })
    expect(decode('040c 2f73 616d 706c 652f 7061 7468')).toEqual({ ':path': '/sample/path' })
    expect(decode('1008 7061 7373 776f 7264 0673 6563 7265 74')).toEqual({ password: 'secret' })
    expect(decode('82')).toEqual({ ':method': 'GET' })
  })

  const first = { ':method': 'GET', ':scheme': 'http', ':path': '/', ':authority': 'www.example.com' }
  const requests = [
    first,
    { ...first, 'cache-control': 'no-cache' },
    {
      ...first,
      ':scheme': 'https',
      ':path': '/index.html',
      'custom-key': 'custom-value',
    },
  ]
  test.each([
    [
      'C.3: requests',
      [
        '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
        '8286 84be 5808 6e6f 2d63 6163 6865',
        '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
      ],
    ],
    [
      'C.4: requests, with the Huffman code',
      [
        '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
        '8286 84be 5886 a8eb 1064 9cbf',
        '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
      ],
    ],
  ])('%s', (_name, blocks) => {
    const decoder = new HeaderDecoder(limits)
    expect(blocks.map((block) => plain(decoder.read(hex(block))))).toEqual(requests)
  })

  const date = 'Mon, 21 Oct 2013 20:13:21 GMT'
  const location = 'https://www.example.com'
  const responses = [
    { ':status': '302', 'cache-control': 'private', date, location },
    { ':status': '307', 'cache-control': 'private', date, location },
    {
      ':status': '200',
      'cache-control': 'private',
      date: 'Mon, 21 Oct 2013 20:13:22 GMT',
      location,
      'content-encoding': 'gzip',
      'set-cookie': 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1',
    },
  ]
  test.each([
    [
      'C.5: responses, with evictions',
      [
        `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 54
         6e17 6874 7470 733a 2f2f 7777 772e 6578 616d 706c 652e 636f 6d`,
        '4803 3330 37c1 c0bf',
        `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f
         6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b
         2076 6572 7369 6f6e 3d31`,
      ],
    ],
    [
      'C.6: responses, with evictions and the Huffman code',
      [
        `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7
         8f0b 97c8 e9ae 82ae 43d3`,
        '4883 640e ffc1 c0bf',
        `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335
         dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`,
      ],
    ],
  ])('%s', (_name, blocks) => {
    const decoder = new HeaderDecoder({ ...limits, tableByteLengthMax: 256 })
    expect(blocks.map((block) => plain(decoder.read(hex(block))))).toEqual(responses)
  })
})

describe('the Huffman code', () => {
  test('has a code for each byte', () => {
    // All bytes, as another implementation writes them.
    const all = hex(`
      ffc7fffd8fffffe2fffffe3fffffe4fffffe5fffffe6fffffe7fffffe8ffffeafffffff3fffffa7fffffabffffffdfffffebfffffecfffff
      edfffffeefffffefffffff0ffffff1ffffff2fffffffbfffffcffffffd3fffffd7fffffdbfffffdffffffe3fffffe7fffffebfffffed4fe3
      f9ffaffcabf1febfafefe7fdfd2cbb00089969b71d79fb9f7fff20ffbff3ff50ddbd7f061c58f265cd9f469d5af66dddbf871e5f9cff7ff7
      fffc3ff9ffe45fff4719242cb34e6e9d68a6a3d7dac426defe3cfaf7fffbfe7ffbffdffffffcfffe6ffff4bfff9ffffa3fffd3ffff53fffd
      5ffffb3fffeb7fffdaffffb7ffff73fffeeffffdeffffebffffbfffffd9ffffdbfffebffffe0ffffeeffffc3ffff8bffff1ffffe4fffee7f
      ffb1ffff97fffd9ffffcdffff9fffffbffffdafffeeffff4ffffb7fffee7fffe8ffffd3fffdeffffd5fffeeffffbdffffe1fffdfffff7fff
      ff5ffffecffff07fff87fffe0ffff17fffedffff87ffff77fffeffffeaffff8bfffe3ffff93ffff87fffcbffff37ffff1fffff83ffffe1ff
      febfffe3ffff3fffff2ffffa3ffffd9fffff17ffffc7fffff27ffffdefffffbffffff2fffff8fffffb7fff97fff8fffffe6fffffc1fffff8
      7ffffe7fffffc5ffffe5fffe4ffff2fffffd1fffff4ffffffefffffe3fffffc9fffff97fffb3ffffcffffb7fffcdffff4ffff9ffffd1ffff
      cffffeaffffafffffddffffeffffff4fffff5fffffabffffa7ffffd7fffff9bffffecfffffb7fffff3fffffe8fffffd3fffffabfffff5fff
      ffff7ffffecfffffdbfffffbbfffff7ffffff0fffffbbf`)
    expect(Buffer.from(huffman(all), 'latin1')).toEqual(Buffer.from(Array.from({ length: 256 }, (_, i) => i)))
  })

  test('is filled up with fewer than eight ones, and nothing else', () => {
    expect(huffman(hex(''))).toBe('')
    // 'a' is 00011: three ones, ones and eight more, a zero among them.
    expect(huffman(hex('1f'))).toBe('a')
    for (const wrong of ['1fff', '1e', '18', 'ff', 'ffff']) {
      expect(compressionFailure(() => huffman(hex(wrong)))).toMatch(/filled up wrongly/)
    }
    // The end of a text is thirty ones.
    expect(compressionFailure(() => huffman(hex('ffffffff')))).toMatch(/end/)
    expect(compressionFailure(() => huffman(hex('fffffffc')))).toMatch(/end/)
  })
})

describe('blocks that break the rules', () => {
  test.each([
    ['an index of zero', '80', /index/],
    ['an index without a field', 'be', /index/],
    ['an index far outside', 'ffffff7f', /index/],
    ['a name without a field', '7e0161', /index/],
    ['a number above any use', 'ffffffffff0f', /number/],
    ['a number that never ends', `ff${'80'.repeat(100)}`, /number/],
    ['a block that ends in an index', 'ff', /ends within/],
    ['a block that ends in a length', '007f', /ends within/],
    ['a block that ends before a name', '40', /ends within/],
    ['a block that ends before a value', '400161', /ends within/],
    ['a text longer than the block', '400361', /ends within/],
    ['a table larger than allowed', '3fe21f', /table/],
    ['a table that changes between fields', '8220', /within a block/],
  ])('%s', (_name, block, text) => {
    expect(compressionFailure(() => new HeaderDecoder(limits).read(hex(block)))).toMatch(text)
  })
})

test('a table that shrinks forgets its oldest fields, and may grow again', () => {
  const decoder = new HeaderDecoder(limits)
  expect(plain(decoder.read(hex('400161 0162  400163 0164')))).toEqual({ a: 'b', c: 'd' })
  expect(plain(decoder.read(hex('be bf')))).toEqual({ c: 'd', a: 'b' })
  // To 34 bytes, which is one field, then back to 4096.
  expect(plain(decoder.read(hex('3f03 3fe11f be')))).toEqual({ c: 'd' })
  expect(compressionFailure(() => decoder.read(hex('bf')))).toMatch(/index/)
  // To nothing.
  expect(plain(decoder.read(hex('20')))).toEqual({})
  expect(compressionFailure(() => decoder.read(hex('be')))).toMatch(/index/)
})

test('a field larger than the table leaves it empty, and is told', () => {
  const decoder = new HeaderDecoder({ ...limits, tableByteLengthMax: 64 })
  decoder.read(hex('400161 0162'))
  const value = 'v'.repeat(40)
  expect(plain(decoder.read(Buffer.concat([hex('400161 28'), Buffer.from(value)])))).toEqual({ a: value })
  expect(compressionFailure(() => decoder.read(hex('be')))).toMatch(/index/)
})

test('the same bytes mean something else once the table has changed', () => {
  const decoder = new HeaderDecoder(limits)
  decoder.read(hex('400161 0162'))
  expect(plain(decoder.read(hex('be')))).toEqual({ a: 'b' })
  expect(plain(decoder.read(hex('be')))).toEqual({ a: 'b' })
  decoder.read(hex('400163 0164'))
  expect(plain(decoder.read(hex('be')))).toEqual({ c: 'd' })
  // A block that changes the table does so each time it comes.
  for (let i = 0; i < 3; i++) decoder.read(hex('400165 0166'))
  expect(plain(decoder.read(hex('be c0 c1')))).toEqual({ e: 'f, f', c: 'd' })
})

test('what a block says is made once, unless that holds much memory', () => {
  const decoder = new HeaderDecoder(limits)
  const small = encodeHeaders([['name', 'value']])
  expect(decoder.read(small)).toBe(decoder.read(small))
  decoder.read(Buffer.concat([hex('400161 7f8107'), Buffer.alloc(1024, 'v')]))
  const large = hex('be')
  expect(plain(decoder.read(large))).toEqual({ a: 'v'.repeat(1024) })
  expect(decoder.read(large)).not.toBe(decoder.read(large))
})

test('what is sent may be changed afterwards', () => {
  const decoder = new HeaderDecoder(limits)
  const bytes = encodeHeaders([['name', 'value']])
  const { headers } = decoder.read(bytes)
  bytes.fill(0)
  expect({ ...headers }).toEqual({ name: 'value' })
  expect(plain(decoder.read(encodeHeaders([['name', 'value']])))).toEqual({ name: 'value' })
})

test('fields above the limit are told of and not kept, and the table stays in step', () => {
  const decoder = new HeaderDecoder({ ...limits, listByteLengthMax: 100 })
  const atLimit = decoder.read(encodeHeaders([['name', 'v'.repeat(64)]]))
  expect([atLimit.isTooLarge, { ...atLimit.headers }]).toEqual([false, { name: 'v'.repeat(64) }])
  const above = decoder.read(
    Buffer.concat([encodeHeaders([['name', 'v'.repeat(65)]]), hex('400161 0162'), encodeHeaders([['x', 'y']])]),
  )
  expect([above.isTooLarge, { ...above.headers }]).toEqual([true, {}])
  expect(plain(decoder.read(hex('be')))).toEqual({ a: 'b' })
  // Three bytes that stand for many.
  const many = decoder.read(Buffer.alloc(3, 0xbe))
  expect([many.isTooLarge, { ...many.headers }]).toEqual([true, {}])
})

test('names that objects know are names as any other', () => {
  const fields = ['__proto__', 'constructor', 'tostring', 'hasownproperty'].map((name) => [name, 'x'] as const)
  const decoder = new HeaderDecoder(limits)
  expect(decoder.read(encodeHeaders([['a', 'b']])).headers['constructor']).toBeUndefined()
  const { headers } = decoder.read(encodeHeaders(fields))
  expect(fields.map(([name]) => headers[name])).toEqual(['x', 'x', 'x', 'x'])
  expect(Object.keys(headers)).toEqual(fields.map(([name]) => name))
  expect(headers['valueOf']).toBeUndefined()
})

test('values of one name are joined', () => {
  const block = encodeHeaders([
    ['a', '1'],
    ['cookie', 'x=1'],
    ['a', ''],
    ['cookie', 'y=2'],
  ])
  expect(plain(new HeaderDecoder(limits).read(block))).toEqual({ a: '1, ', cookie: 'x=1; y=2' })
})

describe('requests, responses and trailers', () => {
  const requestProblem = (block: HeaderBlock) => blockProblem(block, 'request')
  const responseProblem = (block: HeaderBlock) => blockProblem(block, 'response')
  const trailersProblem = (block: HeaderBlock) => blockProblem(block, 'trailers')
  const decoded = (fields: readonly (readonly [string, string])[]) =>
    new HeaderDecoder(limits).read(encodeHeaders(fields))
  const request = [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', '/a'],
    [':authority', 'b'],
    ['te', 'trailers'],
  ] as const

  test('are told apart', () => {
    expect(requestProblem(decoded(request))).toBeNull()
    expect(requestProblem(decoded(request.slice(0, 3)))).toBeNull()
    expect(responseProblem(decoded([[':status', '200']]))).toBeNull()
    expect(trailersProblem(decoded([['grpc-status', '0']]))).toBeNull()
    for (let missing = 0; missing < 3; missing++) {
      expect(requestProblem(decoded(request.filter((_, i) => i !== missing)))).toMatch(/without/)
    }
    expect(requestProblem(decoded([...request.slice(0, 2), [':path', '']]))).toMatch(/empty/)
    expect(requestProblem(decoded([[':status', '200'], ...request]))).toMatch(/not of requests/)
    expect(requestProblem(decoded([[':protocol', 'x'], ...request]))).toMatch(/not of requests/)
    expect(responseProblem(decoded([]))).toMatch(/status/)
    expect(responseProblem(decoded([[':status', '20']]))).toMatch(/status/)
    expect(
      responseProblem(
        decoded([
          [':status', '200'],
          [':path', '/'],
        ]),
      ),
    ).toMatch(/status/)
    expect(trailersProblem(decoded([[':status', '200']]))).toMatch(/pseudo/)
  })

  test('with a malformed field are none', () => {
    const wrong: readonly (readonly [string, string])[][] = [
      [['te', 'gzip']],
      [['connection', 'close']],
      [['transfer-encoding', 'chunked']],
      [[':method', 'GET']],
      [[':path', '/']],
    ]
    for (const fields of wrong) expect(requestProblem(decoded([...request, ...fields]))).not.toBeNull()
    expect(trailersProblem(decoded([['upgrade', 'x']]))).not.toBeNull()
    // What the encoder does not write: an upper-case name, an empty one, a line feed, a zero.
    for (const field of ['00 0141 0162', '00 00 0162', '00 0161 010a', '00 0161 0100', '00 0120 0162']) {
      expect(trailersProblem(new HeaderDecoder(limits).read(hex(field)))).not.toBeNull()
    }
  })
})

test('a block that is wrong for its stream ends that only, once all of it was read', () => {
  const decoder = new HeaderDecoder({ ...limits, listByteLengthMax: 150 })
  const wrong: [Buffer, BlockKind, number][] = [
    [hex('82 400161 0162'), 'trailers', errorCode.protocol],
    [hex('84 82 400163 0164'), 'request', errorCode.protocol],
    [
      Buffer.concat([encodeHeaders([['long', 'v'.repeat(150)]]), hex('400165 0166')]),
      'trailers',
      errorCode.enhanceYourCalm,
    ],
  ]
  for (const [block, kind, code] of wrong) {
    expect(() => decoder.decode(block, kind)).toThrow(expect.objectContaining({ code, isOfStream: true }))
  }
  expect({ ...decoder.decode(hex('be bf c0'), 'trailers') }).toEqual({ e: 'f', c: 'd', a: 'b' })
})

test('what no header can hold is not written', () => {
  const wrong: readonly (readonly [string, string])[] = [
    ['a', 'b\nc'],
    ['a', '\0'],
    ['a', '\u010a'],
    ['A', 'b'],
    ['', 'b'],
    ['a b', 'c'],
  ]
  for (const field of wrong) expect(() => encodeHeaders([field])).toThrow(TypeError)
})

const nameCharacters = 'abcdefghijklmnopqrstuvwxyz0123456789-_.'

function randomFields(random: SeededRandom): [string, string][] {
  const names = new Set<string>()
  return random.list(random.integer(0, 12), (): [string, string] => {
    let name = random.chance(0.3)
      ? random.pick(['accept', 'user-agent', 'etag', 'x-long-lived'])
      : `x${random.list(random.integer(0, 12), () => nameCharacters[random.integer(0, nameCharacters.length)]).join('')}`
    while (names.has(name)) name += 'x'
    names.add(name)
    const shape = random.next()
    if (shape < 0.3) return [name, random.pick(['0', 'gzip', 'text/html', ''])]
    const byteLength = random.chance(0.1) ? random.integer(500, 3000) : random.integer(0, 60)
    const codes = random.list(byteLength, () =>
      shape < 0.6 ? random.integer(0x21, 0x7f) : random.integer(0xa1, 0x100),
    )
    return [name, Buffer.from(codes).toString('latin1')]
  })
}

describe('another implementation', () => {
  test('reads what is written here', async () => {
    const random = new SeededRandom(seed)
    const decoder = new HeaderDecoder({ ...limits, listByteLengthMax: 1024 * 1024 })
    for (let round = 0; round < 300; round++) {
      const fields = randomFields(random)
      expect(plain(decoder.read(encodeHeaders(fields))), `SEED=${seed}`).toEqual(Object.fromEntries(fields))
    }
    // One of them over the wire, as the headers of an answer.
    const fields = randomFields(random)
    const server = createTcpServer((socket) => {
      const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
        const head = Buffer.alloc(9)
        head.writeUIntBE(payload.byteLength, 0, 3)
        head[3] = type
        head[4] = flags
        head.writeUInt32BE(stream, 5)
        return Buffer.concat([head, payload])
      }
      socket.once('data', () => {
        const block = encodeHeaders([[':status', '200'], ...fields])
        socket.write(Buffer.concat([frame(4, 0, 0, Buffer.alloc(0)), frame(4, 1, 0, Buffer.alloc(0))]))
        socket.write(frame(1, 5, 1, block.subarray(0, 16_384)))
      })
      socket.on('error', () => {})
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const stream = session.request({ ':path': '/' })
    const [headers] = (await once(stream, 'response')) as [IncomingHttpHeaders]
    expect({ ...headers }, `SEED=${seed}`).toMatchObject(Object.fromEntries(fields))
    session.destroy()
    server.close()
  })

  test('is read here: requests of one connection, with its table and its Huffman code', async () => {
    const random = new SeededRandom(seed)
    for (const tableByteLengthMax of [4096, 0, 100, 1000, 60_000]) {
      const decoder = new HeaderDecoder({ tableByteLengthMax, listByteLengthMax: 1024 * 1024 })
      const blocks = await headerBlocksOfNode(random, tableByteLengthMax)
      for (const [fields, block] of blocks) {
        const { headers, problem } = decoder.read(block)
        expect(problem).toBeNull()
        const expected = Object.fromEntries(fields)
        expect({ ...headers }, `SEED=${seed} table ${tableByteLengthMax}`).toMatchObject(expected)
      }
      expect(blocks.length).toBe(200)
    }
  })
})

/** Header blocks as node:http2 sends them, with the fields they hold. */
async function headerBlocksOfNode(
  random: SeededRandom,
  tableByteLengthMax: number,
): Promise<(readonly [[string, string][], Buffer])[]> {
  const bytes: Buffer[] = []
  const server = createServer({ settings: { headerTableSize: tableByteLengthMax, maxHeaderListSize: 1024 * 1024 } })
  server.on('stream', (stream) => stream.respond({ ':status': 200 }, { endStream: true }))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const relay = createTcpServer((incoming) => {
    incoming.on('data', (chunk: Buffer) => bytes.push(chunk))
    incoming.pipe(connectSocket((server.address() as AddressInfo).port, '127.0.0.1')).pipe(incoming)
  })
  relay.listen(0, '127.0.0.1')
  await once(relay, 'listening')
  const session = connect(`http://127.0.0.1:${(relay.address() as AddressInfo).port}`)
  await once(session, 'remoteSettings')
  const common = randomFields(random)
  const all: [string, string][][] = []
  for (let call = 0; call < 200; call++) {
    const own = randomFields(random)
    const fields = [...new Map([...common, ...own])]
    const headers: OutgoingHttpHeaders = { ':path': '/', ...Object.fromEntries(fields) }
    const stream = session.request(headers, { endStream: true })
    stream.resume()
    await once(stream, 'close')
    all.push(fields)
  }
  session.close()
  await once(session, 'close')
  relay.close()
  server.close()
  const blocks = headerBlocks(Buffer.concat(bytes))
  return all.map((fields, i) => [fields, blocks[i]] as const)
}

/** The header blocks in what a client has sent. */
function headerBlocks(bytes: Buffer): Buffer[] {
  const blocks: Buffer[] = []
  let pieces: Buffer[] = []
  for (let at = 24; at < bytes.byteLength; ) {
    const byteLength = bytes.readUIntBE(at, 3)
    const [type, flags] = [bytes[at + 3], bytes[at + 4]]
    let payload = bytes.subarray(at + 9, at + 9 + byteLength)
    at += 9 + byteLength
    if (type !== 1 && type !== 9) continue
    if (type === 1 && (flags & 0x20) !== 0) payload = payload.subarray(5)
    pieces.push(payload)
    if ((flags & 4) === 0) continue
    blocks.push(Buffer.concat(pieces))
    pieces = []
  }
  return blocks
}

test('bytes that mean nothing are refused or decoded, and never anything else', () => {
  const random = new SeededRandom(seed)
  let refusedCount = 0
  const rounds = 20_000
  for (let round = 0; round < rounds; round++) {
    const decoder = new HeaderDecoder({ tableByteLengthMax: random.pick([0, 64, 4096]), listByteLengthMax: 300 })
    try {
      for (let block = 0; block < 4; block++) {
        const bytes = Buffer.from(random.list(random.integer(0, 40), () => random.integer(0, 256)))
        // Half of them are a mutation of what is right.
        const right = encodeHeaders(randomFields(random).slice(0, 3))
        if (random.chance(0.5) && right.byteLength > 0)
          right[random.integer(0, right.byteLength)] = random.integer(0, 256)
        const { headers, isTooLarge } = decoder.read(random.chance(0.5) ? bytes : right)
        const byteLength = Object.entries(headers).reduce((sum, [name, value]) => sum + name.length + value.length, 0)
        expect(byteLength).toBeLessThanOrEqual(isTooLarge ? 0 : 300)
      }
    } catch (error) {
      if (!(error instanceof Http2Error) || error.code !== errorCode.compression) {
        throw new Error(`SEED=${seed}`, { cause: error })
      }
      refusedCount++
    }
  }
  expect(refusedCount).toBeGreaterThan(rounds / 10)
  expect(refusedCount).toBeLessThan(rounds)
})
