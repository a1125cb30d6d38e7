// What every Store promises; run for memory and lmdb.
import { expect, test } from 'vitest'
import type { Batch, Entry, Store } from '../dist/engine/stores/store.js'

export const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'latin1'))
export const text = (value: Uint8Array | null | undefined) => (value ? Buffer.from(value).toString('latin1') : value)

export function put(partition: string, ...pairs: [string, string][]): Batch {
  return { partition, puts: pairs.map(([key, value]) => ({ key: bytes(key), value: bytes(value) })) }
}

/** The keys of a scan as text. */
export const keysOf = (entries: readonly Entry[]) => entries.map(({ key }) => text(key))

/** The error code that a promise fails with, or 'none'. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'none',
    (error: { code?: string; message: string }) => error.code ?? error.message,
  )
}

export interface OpenStore {
  readonly store: Store
  /** The memory that the store was told of, if it takes one. */
  readonly memory: WebAssembly.Memory
}

/** `open` gives an empty store that the cases close. `skip` names promises that an implementation does not keep, with the reason. */
export function storeCases(name: string, open: () => Promise<OpenStore>, skip: Record<string, string> = {}) {
  const promise = (statement: string, body: (store: Store, memory: WebAssembly.Memory) => Promise<void>) =>
    test.skipIf(statement in skip)(`${name}: ${statement}`, async () => {
      const { store, memory } = await open()
      try {
        await body(store, memory)
      } finally {
        await store.close()
      }
    })

  promise('a value is read back after its commit, and null where there is none', async (store) => {
    await store.commit(put('p', ['a', '1'], ['b', '2']))
    expect((await store.read('p', [bytes('b'), bytes('c'), bytes('a')])).map(text)).toEqual(['2', null, '1'])
    expect(await store.read('q', [bytes('a')])).toEqual([null])
    expect(await store.read('p', [])).toEqual([])
  })

  promise('a later put replaces, a delete removes, and deleting what is not there is no error', async (store) => {
    await store.commit(put('p', ['a', '1'], ['b', '2']))
    await store.commit({ ...put('p', ['a', '3']), deletes: [bytes('b'), bytes('zz')] })
    expect((await store.read('p', [bytes('a'), bytes('b')])).map(text)).toEqual(['3', null])
    await store.commit({ ...put('p', ['c', '1']), deletes: [bytes('c')] })
    expect(await store.read('p', [bytes('c')])).toEqual([null])
  })

  promise('keys are ordered byte by byte, with 0x00 and 0xff, also the empty key', async (store) => {
    const keys = [
      '',
      '\x00',
      '\x00\x00',
      '\x00\xff',
      '\x01',
      'a',
      'a\x00',
      'aa',
      'b',
      '\x7f',
      '\x80',
      '\xff',
      '\xff\xff',
    ]
    await store.commit(put('p', ...[...keys].reverse().map((key): [string, string] => [key, `v${key}`])))
    await store.commit(put('o', ['\xff', 'o']))
    await store.commit(put('q', ['\x00', 'q']))
    const entries = await store.scan('p', { limit: 100 })
    expect(keysOf(entries)).toEqual(keys)
    expect(entries.map(({ value }) => text(value))).toEqual(keys.map((key) => `v${key}`))
    expect(keysOf(await store.scan('p', { limit: 100, reverse: true }))).toEqual([...keys].reverse())
  })

  promise('a range gives its start and not its end, forwards and backwards', async (store) => {
    await store.commit(put('p', ...['a', 'b', 'c', 'd'].map((key): [string, string] => [key, key])))
    const scan = async (start: string | null, end: string | null, reverse: boolean) =>
      keysOf(
        await store.scan('p', {
          ...(start !== null && { start: bytes(start) }),
          ...(end !== null && { end: bytes(end) }),
          reverse,
          limit: 10,
        }),
      ).join('')
    const cases: [string | null, string | null, string][] = [
      ['b', 'd', 'bc'],
      [null, 'c', 'ab'],
      ['c', null, 'cd'],
      ['a\x00', 'c\x00', 'bc'],
      ['b', 'b', ''],
      ['d', 'a', ''],
      ['e', null, ''],
      [null, 'a', ''],
      ['\x00', '\xff', 'abcd'],
    ]
    for (const [start, end, expected] of cases) {
      expect(await scan(start, end, false)).toBe(expected)
      expect(await scan(start, end, true)).toBe([...expected].reverse().join(''))
    }
    expect(await store.scan('empty', { limit: 10, reverse: true })).toEqual([])
  })

  promise('a scan stops at its limit of entries or bytes, and can leave out the values', async (store) => {
    await store.commit(put('p', ...['a', 'b', 'c', 'd'].map((key): [string, string] => [key, key.repeat(100)])))
    expect(keysOf(await store.scan('p', { limit: 2 }))).toEqual(['a', 'b'])
    expect(keysOf(await store.scan('p', { limit: 2, reverse: true }))).toEqual(['d', 'c'])
    expect(await store.scan('p', { limit: 0 })).toEqual([])
    expect(keysOf(await store.scan('p', { limit: 9, byteLengthMax: 150 }))).toEqual(['a', 'b'])
    expect(keysOf(await store.scan('p', { limit: 9, byteLengthMax: 1 }))).toEqual(['a'])
    const [entry] = await store.scan('p', { limit: 1, keysOnly: true, start: bytes('b') })
    expect([text(entry.key), entry.value.byteLength]).toEqual(['b', 0])
  })

  promise('a scan goes through ten thousand keys written in random order', async (store) => {
    const keys = Array.from({ length: 10_000 }, (_, i) => ((i * 7919) % 10_000).toString().padStart(5, '0'))
    for (let i = 0; i < keys.length; i += 1000) {
      await store.commit(put('p', ...keys.slice(i, i + 1000).map((key): [string, string] => [key, key])))
    }
    const sorted = [...keys].sort()
    expect(keysOf(await store.scan('p', { limit: 20_000 }))).toEqual(sorted)
    const range = { start: bytes('03000'), end: bytes('07000'), limit: 20_000, reverse: true }
    expect(keysOf(await store.scan('p', range))).toEqual(sorted.slice(3000, 7000).reverse())
    await store.commit({ partition: 'p', puts: [], deletes: sorted.slice(10, 9990).map(bytes) })
    expect(keysOf(await store.scan('p', { limit: 20_000 }))).toEqual([...sorted.slice(0, 10), ...sorted.slice(9990)])
  })

  promise('a batch whose precondition fails writes nothing of itself', async (store) => {
    await store.commit(put('p', ['a', '1']))
    const write = { ...put('p', ['a', '2'], ['b', '2']), deletes: [bytes('a')] }
    const expects: [string, string | null][][] = [
      [['a', '2']],
      [['a', null]],
      [['a', '']],
      [['a', '11']],
      [['b', '']],
      [
        ['a', '1'],
        ['b', 'x'],
      ],
    ]
    for (const pairs of expects) {
      const expected = pairs.map(([key, value]) => ({ key: bytes(key), value: value === null ? null : bytes(value) }))
      expect(await codeOf(store.commit({ ...write, expect: expected }))).toBe('COMMIT_CONFLICT')
    }
    expect(keysOf(await store.scan('p', { limit: 10 }))).toEqual(['a'])
    const expected = [
      { key: bytes('a'), value: bytes('1') },
      { key: bytes('b'), value: null },
    ]
    await store.commit({ ...put('p', ['a', '2']), expect: expected })
    expect((await store.read('p', [bytes('a')])).map(text)).toEqual(['2'])
  })

  promise('a precondition of a commit sees the commits before it, although none is settled yet', async (store) => {
    const chain = (n: number, from: string | null, to: string) =>
      store.commit({
        ...put('p', ['version', to], [`log${n}`, to]),
        expect: [{ key: bytes('version'), value: from === null ? null : bytes(from) }],
      })
    const commits = [chain(0, null, '1')]
    for (let n = 1; n < 100; n++) commits.push(chain(n, String(n), String(n + 1)))
    await Promise.all(commits)
    expect((await store.read('p', [bytes('version')])).map(text)).toEqual(['100'])
  })

  promise('when one commit of a chain fails, those that build on it fail, and no others', async (store) => {
    const chain = (partition: string, from: string | null, to: string) =>
      codeOf(
        store.commit({
          ...put(partition, ['version', to]),
          expect: [{ key: bytes('version'), value: from === null ? null : bytes(from) }],
        }),
      )
    const codes = await Promise.all([
      chain('p', null, '1'),
      chain('p', 'wrong', '2'),
      chain('q', null, '1'),
      chain('p', '2', '3'),
      chain('q', '1', '2'),
      chain('p', '1', '4'),
    ])
    expect(codes).toEqual(['none', 'COMMIT_CONFLICT', 'none', 'COMMIT_CONFLICT', 'none', 'none'])
    expect((await store.read('p', [bytes('version')])).map(text)).toEqual(['4'])
    expect((await store.read('q', [bytes('version')])).map(text)).toEqual(['2'])
  })

  promise('commits settle in the order of their calls, across partitions', async (store) => {
    const settled: number[] = []
    await Promise.all(
      Array.from({ length: 200 }, (_, n) => store.commit(put(`p${n % 7}`, ['k', `${n}`])).then(() => settled.push(n))),
    )
    expect(settled).toEqual(Array.from({ length: 200 }, (_, n) => n))
  })

  promise('a thousand commits at once are all there', async (store) => {
    await Promise.all(Array.from({ length: 1000 }, (_, n) => store.commit(put('p', [`k${n}`, `v${n}`]))))
    const keys = Array.from({ length: 1000 }, (_, n) => bytes(`k${n}`))
    expect((await store.read('p', keys)).map(text)).toEqual(keys.map((_, n) => `v${n}`))
  })

  promise('what one read returns is of one moment', async (store) => {
    await store.commit(put('p', ['a', '0'], ['b', '0']))
    let writing = true
    const writer = (async () => {
      for (let n = 1; writing; n++) await store.commit(put('p', ['a', `${n}`], ['b', `${n}`]))
    })()
    for (let i = 0; i < 300; i++) {
      const [a, b] = await store.read('p', [bytes('a'), bytes('b')])
      expect(text(a)).toBe(text(b))
    }
    writing = false
    await writer
  })

  promise('a value may be empty, or 17 MiB, and comes back whole', async (store) => {
    const large = new Uint8Array(17 * 2 ** 20)
    for (let i = 0; i < large.length; i += 4099) large[i] = i
    await store.commit({
      partition: 'p',
      puts: [
        { key: bytes('empty'), value: new Uint8Array() },
        { key: bytes('large'), value: large },
      ],
    })
    const [empty, back] = await store.read('p', [bytes('empty'), bytes('large')])
    expect(empty?.byteLength).toBe(0)
    expect(Buffer.compare(back!, large)).toBe(0)
    const entries = await store.scan('p', { limit: 10 })
    expect(entries.map(({ value }) => value.byteLength)).toEqual([0, large.byteLength])
    expect(Buffer.compare(entries[1].value, large)).toBe(0)
    const expected = [{ key: bytes('large'), value: large }]
    await store.commit({ ...put('p', ['large', 'small']), expect: expected })
    expect((await store.read('p', [bytes('large')])).map(text)).toEqual(['small'])
  })

  promise('values may be views of the shared memory, of another one and of larger buffers', async (store, memory) => {
    const shared = new Uint8Array(memory.buffer)
    for (let i = 0; i < 2_000_000; i++) shared[i] = i * 31 + (i >> 8)
    const other = new Uint8Array(new SharedArrayBuffer(100)).fill(7)
    const values = [shared.subarray(3, 3), shared.subarray(1, 4000), shared.subarray(4097, 1_900_000), other]
    const puts = values.map((value, i) => ({ key: bytes(`k${i}`), value: value.subarray() }))
    await store.commit({ partition: 'p', puts: [...puts, { key: bytes('m'), value: Buffer.from('xyz').subarray(1) }] })
    const copies = values.map((value) => Uint8Array.from(value))
    await store.commit({
      ...put('p', ['n', 'n']),
      expect: values.map((value, i) => ({ key: bytes(`k${i}`), value })),
    })
    shared.fill(0) // both commits have settled
    other.fill(0)
    const back = await store.read('p', [...puts.map(({ key }) => key), bytes('m'), bytes('n')])
    for (const [i, copy] of copies.entries()) expect(Buffer.compare(back[i]!, copy)).toBe(0)
    expect(back.slice(4).map(text)).toEqual(['yz', 'n'])
  })

  promise('partitions are listed in order by prefix, once they hold a key', async (store) => {
    expect(await store.partitions('')).toEqual([])
    const names = Array.from({ length: 300 }, (_, n) => `t${n.toString().padStart(3, '0')}`)
    await Promise.all([...names].reverse().map((name) => store.commit(put(name, ['\xff', ''], ['\x00', '']))))
    await store.commit(put('a', ['k', 'v']))
    await store.commit(put('a-b', ['k', 'v']))
    expect(await store.partitions('')).toEqual(['a', 'a-b', ...names])
    expect(await store.partitions('t29')).toEqual(names.slice(290, 300))
    expect(await store.partitions('a')).toEqual(['a', 'a-b'])
    expect(await store.partitions('zz')).toEqual([])
    await store.commit({ partition: 'a', puts: [], deletes: [bytes('k')] })
    expect(await store.partitions('a')).toEqual(['a-b'])
  })

  promise('dropping a partition removes its keys and no others', async (store) => {
    const pairs = Array.from({ length: 2000 }, (_, n): [string, string] => [`k${n}`, 'v'])
    for (const name of ['p', 'p-', 'o']) await store.commit(put(name, ...pairs))
    await store.dropPartition('p')
    await store.dropPartition('never was')
    expect(await store.partitions('')).toEqual(['o', 'p-'])
    expect(await store.scan('p', { limit: 1 })).toEqual([])
    expect(await store.scan('p-', { limit: 5000 })).toHaveLength(2000)
  })

  promise('a drop takes with it what was committed before its call', async (store) => {
    const commits = Array.from({ length: 50 }, (_, n) => store.commit(put('p', [`k${n}`, 'v'.repeat(1000)])))
    const drop = store.dropPartition('p')
    await Promise.all([...commits, drop])
    expect(await store.partitions('')).toEqual([])
    await store.commit(put('p', ['again', '1']))
    expect(keysOf(await store.scan('p', { limit: 9 }))).toEqual(['again'])
  })

  promise('a closed store has carried out its commits and refuses more', async (store) => {
    const commits = Array.from({ length: 50 }, (_, n) => codeOf(store.commit(put('p', [`k${n}`, 'v']))))
    await store.close()
    expect(new Set(await Promise.all(commits))).toEqual(new Set(['none']))
    expect(await codeOf(store.commit(put('p', ['a', '1'])))).toBe('SHUTTING_DOWN')
    expect(await codeOf(store.read('p', [bytes('a')]))).toBe('SHUTTING_DOWN')
    expect(await codeOf(store.scan('p', { limit: 1 }))).toBe('SHUTTING_DOWN')
    await store.close()
  })
}
