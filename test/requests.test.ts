import { readFileSync } from 'node:fs'
import { create, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { frameMessage, splitMessages } from '../dist/engine/codec/message-stream.js'
import { FramesError } from '../dist/engine/errors.js'
import { ExecRequestSchema, ReadRequestSchema } from '../dist/proto/gen/frames_pb.js'
import { type Json, JsonError, JsonNumber, parseJson } from '../dist/server/wire/json.js'
import {
  createForm,
  decodeWriteHead,
  decodeWriteMessage,
  deleteForm,
  executeForm,
  historyForm,
  type RequestForm,
  readForm,
} from '../dist/server/wire/requests.js'

/** What JSON.parse would have made of it. */
function plain(json: Json): unknown {
  if (json instanceof JsonNumber) return Number(json.text)
  if (Array.isArray(json)) return json.map(plain)
  if (json instanceof Map) return Object.fromEntries([...json].map(([key, value]) => [key, plain(value)]))
  return json
}

const golden = (name: string) => readFileSync(new URL(`golden/${name}`, import.meta.url))
const goldenRequests = [
  'read_request_kv.bin',
  'create_request_csv_schema.bin',
  'delete_request.bin',
  'exec_request_args.bin',
  'history_request.bin',
  'write_request_header_with_initial_data.bin',
].map(golden)

const decoders: ((bytes: Uint8Array) => unknown)[] = [
  ...[readForm, createForm, deleteForm, executeForm, historyForm].map((form) => form.fromBytes),
  decodeWriteHead,
  decodeWriteMessage,
]

/** The bytes with some of them changed, removed or repeated. */
const damaged = fc
  .tuple(fc.constantFrom(...goldenRequests), fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }), fc.nat(2))))
  .map(([bytes, edits]) => {
    let edited = Buffer.from(bytes)
    for (const [place, byte, kind] of edits) {
      const at = edited.length === 0 ? 0 : place % edited.length
      if (kind === 0) edited[at] = byte
      else if (kind === 1) edited = Buffer.concat([edited.subarray(0, at), edited.subarray(at + 1)])
      else edited = Buffer.concat([edited.subarray(0, at), Buffer.from([byte]), edited.subarray(at)])
    }
    return edited
  })

/** Calls, and fails unless it returned or threw an error the caller can act on. */
function refusesOrAnswers(call: () => unknown): void {
  try {
    call()
  } catch (error) {
    if (!(error instanceof FramesError)) throw error
  }
}

describe('JSON', () => {
  test('every JSON text parses to what JSON.parse makes of it', () => {
    fc.assert(
      fc.property(fc.json(), fc.constantFrom(0, 1), (text, indent) => {
        const spaced = JSON.stringify(JSON.parse(text), null, indent)
        expect(plain(parseJson(spaced))).toEqual(JSON.parse(spaced))
      }),
      { numRuns: 2000 },
    )
  })

  test('texts that are no JSON are refused exactly where JSON.parse refuses them', () => {
    const scraps = fc.array(
      fc.constantFrom(
        '{',
        '}',
        '[',
        ']',
        ',',
        ':',
        '"',
        '\\',
        '\\u00',
        'a',
        '0',
        '-',
        '1',
        '.',
        'e',
        '+',
        'true',
        'null',
        ' ',
        '\n',
        '\u0001',
      ),
    )
    fc.assert(
      fc.property(scraps, (parts) => {
        const text = parts.join('')
        let isJson = true
        try {
          JSON.parse(text)
        } catch {
          isJson = false
        }
        let isTaken = true
        try {
          parseJson(text)
        } catch (error) {
          expect(error).toBeInstanceOf(JsonError)
          isTaken = false
        }
        expect(isTaken).toBe(isJson)
      }),
      { numRuns: 5000 },
    )
  })

  test('a key named __proto__ is a key', () => {
    const parsed = parseJson('{"__proto__":{"polluted":true},"constructor":1}')
    expect(parsed instanceof Map && [...parsed.keys()]).toEqual(['__proto__', 'constructor'])
    expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false)
  })
})

describe('requests from bytes', () => {
  test('damaged messages are refused or read, and nothing else happens', () => {
    fc.assert(
      fc.property(damaged, fc.constantFrom(...decoders), (bytes, decode) => refusesOrAnswers(() => decode(bytes))),
      { numRuns: 3000 },
    )
  })

  test('random bytes are refused or read, and nothing else happens', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(...decoders), (bytes, decode) =>
        refusesOrAnswers(() => decode(bytes)),
      ),
      { numRuns: 3000 },
    )
  })

  test('groups nested without end are refused', () => {
    // Starts of a group in field 120, which no message has.
    const nested = Buffer.alloc(4_000_000)
    for (let at = 0; at < nested.length; at += 2) nested.writeUInt16LE(0x07c3, at)
    for (const decode of decoders) expect(() => decode(nested)).toThrow(FramesError)
  })
})

describe('requests read by hand', () => {
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.string(), fc.constant(''), fc.constant('__proto__'))
  const int64 = fc.oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.constantFrom(0n, 1n, -1n, 2n ** 28n))
  const value = fc.oneof(
    text.map((value) => ({ value: { case: 'sval', value } as const })),
    int64.map((value) => ({ value: { case: 'ival', value } as const })),
    int64.map((value) => ({ value: { case: 'tval', value } as const })),
    fc.double().map((value) => ({ value: { case: 'fval', value } as const })),
    fc.boolean().map((value) => ({ value: { case: 'bval', value } as const })),
    fc.constant({}),
  )
  const session = fc.record({ container: text, user: text, token: text }, { requiredKeys: [] })
  const reads = fc
    .record(
      {
        session,
        backend: text,
        table: text,
        columns: fc.array(text),
        filter: text,
        limit: int64,
        multiIndex: fc.boolean(),
        start: text,
        segments: fc.array(int64, { maxLength: 2 }),
      },
      { requiredKeys: [] },
    )
    .map((fields) => toBinary(ReadRequestSchema, create(ReadRequestSchema, fields)))
  const executes = fc
    .record(
      { session, backend: text, table: text, command: text, expression: text, args: fc.dictionary(text, value) },
      { requiredKeys: [] },
    )
    .map((fields) => toBinary(ExecRequestSchema, create(ExecRequestSchema, fields)))

  /** Bytes that are no Buffer go to the library. */
  function compare(form: RequestForm<unknown>, bytes: Uint8Array): void {
    const read = (of: Uint8Array): unknown => {
      try {
        return form.fromBytes(of)
      } catch (error) {
        return String(error)
      }
    }
    expect(read(Buffer.from(bytes))).toStrictEqual(read(Uint8Array.from(bytes)))
  }

  test('are what the library reads', () => {
    fc.assert(fc.property(reads, (bytes) => compare(readForm, bytes)))
    fc.assert(fc.property(executes, (bytes) => compare(executeForm, bytes)))
    compare(readForm, golden('read_request_kv.bin'))
    compare(executeForm, golden('exec_request_args.bin'))
  })

  test('are what the library reads where fields come twice, and in parts', () => {
    const twice = (requests: fc.Arbitrary<Uint8Array>) => fc.tuple(requests, requests).map((two) => Buffer.concat(two))
    fc.assert(fc.property(twice(reads), (bytes) => compare(readForm, bytes)))
    fc.assert(fc.property(twice(executes), (bytes) => compare(executeForm, bytes)))
  })

  test('are refused where the library refuses them, whatever has been damaged', () => {
    const damaged = (requests: fc.Arbitrary<Uint8Array>) =>
      fc.tuple(requests, fc.nat(), fc.nat(255), fc.boolean()).map(([bytes, at, byte, isCut]) => {
        const copy = Buffer.from(bytes)
        if (copy.byteLength > 0) copy[at % copy.byteLength] = byte
        return isCut ? copy.subarray(0, at % (copy.byteLength + 1)) : copy
      })
    fc.assert(
      fc.property(damaged(reads), (bytes) => compare(readForm, bytes)),
      { numRuns: 2000 },
    )
    fc.assert(
      fc.property(damaged(executes), (bytes) => compare(executeForm, bytes)),
      { numRuns: 2000 },
    )
  })
})

describe('the message stream of HTTP bodies', () => {
  test('gives the same messages however it is cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 10 }),
        fc.array(fc.nat(60)),
        async (messages, cuts) => {
          const body = Buffer.concat(messages.map((message) => frameMessage(message)))
          async function* chunks() {
            let at = 0
            for (const cut of cuts) {
              yield body.subarray(at, at + cut)
              at += cut
            }
            yield body.subarray(at)
          }
          const taken: Buffer[] = []
          for await (const message of splitMessages(chunks(), 40)) taken.push(Buffer.from(message))
          expect(taken).toEqual(messages.map((message) => Buffer.from(message)))
        },
      ),
      { numRuns: 500 },
    )
  })
})
