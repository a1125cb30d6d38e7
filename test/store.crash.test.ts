// The lmdb store and what goes wrong around it: kills, a second process, a full or failing disk, a lost thread.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { afterAll, expect, test } from 'vitest'
import type { FramesError } from '../dist/engine/errors.js'
import { LmdbFaults } from '../dist/engine/stores/lmdb-faults.js'
import { type LmdbOptions, type LmdbStore, openLmdbStore } from '../dist/engine/stores/lmdb.js'
import { openLmdbReader } from '../dist/engine/stores/lmdb-reader.js'
import { lockFolder } from '../dist/engine/stores/lock.js'
import type { Store } from '../dist/engine/stores/store.js'
import { numberedBatch } from './store.batches.mjs'
import { bytes, codeOf, put, text } from './store.cases.js'

const root = mkdtempSync(join(tmpdir(), 'framesd-crash-'))
const children = new Set<ChildProcess>()
afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(root, { recursive: true, force: true })
})
let folderCount = 0
const newFolder = () => join(root, `data-${folderCount++}`)

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31)
console.log(`store.crash.test SEED=${seed}`)
let state = seed
/** Random in [0, 1): a linear congruential generator (Numerical Recipes) is enough to choose moments. */
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return state / 2 ** 32
}

async function withStore(options: LmdbOptions, body: (store: LmdbStore) => Promise<void>): Promise<void> {
  const store = await openLmdbStore(options)
  try {
    await body(store)
  } finally {
    await store.close()
  }
}

/** Runs a writer from batch `first` on and kills it; the highest numbers it said were durable, and how often it compacted. */
async function killWriter(
  folder: string,
  first: number,
  lifeMs: number,
  mode = '',
): Promise<{ acked: number; compactions: number; windowAcked: number }> {
  const script = fileURLToPath(new URL('store.writer.mjs', import.meta.url))
  const child = spawn(process.execPath, [script, folder, String(first), mode], { stdio: ['ignore', 'pipe', 'inherit'] })
  children.add(child)
  let output = ''
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk: Buffer) => {
      if (output === '') setTimeout(() => child.kill('SIGKILL'), lifeMs)
      output += chunk
    })
    child.on('error', reject)
    child.on('close', () => resolve())
  })
  children.delete(child)
  const lines = output.split('\n').slice(0, -1) // what follows the last newline is a torn line
  expect(lines[0]).toBe('open')
  const numbers = lines.filter((line) => /^\d+$/.test(line)).map(Number)
  return {
    acked: Math.max(first - 1, ...numbers),
    compactions: lines.filter((line) => line === 'compacted').length,
    windowAcked: Math.max(-1, ...lines.flatMap((line) => /^window (\d+)$/.exec(line)?.[1] ?? []).map(Number)),
  }
}

/** Checks that the store holds batches 0 to some number, each whole; the number. */
async function lastWholeBatch(store: Store, from: number): Promise<number> {
  const found = new Map<string, Uint8Array>()
  const start = bytes(String(from).padStart(9, '0'))
  for (const partition of await store.partitions('p')) {
    for (const { key, value } of await store.scan(partition, { start, limit: 1e6 })) {
      found.set(`${partition}/${text(key)}`, value)
    }
  }
  for (let n = from; ; n++) {
    const { partition, puts } = numberedBatch(n)
    const values = puts.map(({ key }) => found.get(`${partition}/${text(key)}`))
    if (values.every((value) => value === undefined)) {
      expect(found.size).toBe(0) // nothing behind a gap
      return n - 1
    }
    for (const [i, { key, value }] of puts.entries()) {
      expect(values[i] !== undefined && Buffer.compare(values[i], value) === 0, `batch ${n} is whole`).toBe(true)
      found.delete(`${partition}/${text(key)}`)
    }
  }
}

test('what was acknowledged before a kill -9 is there, whole, and nothing out of order', {
  timeout: 120_000,
}, async () => {
  const folder = newFolder()
  let next = 0
  for (let kill = 0; kill < 20; kill++) {
    const { acked } = await killWriter(folder, next, random() * 150)
    await withStore({ path: folder }, async (store) => {
      const last = await lastWholeBatch(store, next)
      expect(last).toBeGreaterThanOrEqual(acked)
      next = last + 1
    })
  }
  await withStore({ path: folder }, async (store) => {
    expect(await lastWholeBatch(store, 0)).toBe(next - 1)
  })
  console.log(`${next} batches survived 20 kills`)
})

test('what was stored is there after closing and opening again', async () => {
  const path = newFolder()
  await withStore({ path }, async (store) => {
    await Promise.all(Array.from({ length: 100 }, (_, n) => store.commit(numberedBatch(n))))
  })
  await withStore({ path }, async (store) => expect(await lastWholeBatch(store, 0)).toBe(99))
})

test('a worker reads a commit as soon as it has resolved, each time', async () => {
  const path = newFolder()
  await withStore({ path }, async (store) => {
    const turn = new Int32Array(new SharedArrayBuffer(4))
    // Like an idle worker of the pool, it waits with Atomics and its event loop never turns.
    const worker = new Worker(
      `import { parentPort, workerData } from 'node:worker_threads'
       const { readerUrl, path, turn, count } = workerData
       const { openLmdbReader } = await import(readerUrl)
       const reader = openLmdbReader(path)
       const key = Buffer.from('n')
       for (let n = 1; n <= count; n++) {
         Atomics.wait(turn, 0, n - 1)
         reader.beginJob()
         const value = reader.get('p', key)
         parentPort.postMessage(value === null ? 0 : Number(Buffer.from(value).toString()))
         reader.endJob()
       }
       reader.close()`,
      {
        eval: true,
        execArgv: ['--input-type=module'],
        workerData: {
          readerUrl: new URL('../dist/engine/stores/lmdb-reader.js', import.meta.url).href,
          path: store.workerAccess!.path,
          turn,
          count: 300,
        },
      },
    )
    const ended = new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject))
    let seen = 0
    for (let n = 1; n <= 300; n++) {
      await store.commit(put('p', ['n', `${n}`]))
      const answer = new Promise((resolve) => worker.once('message', resolve))
      Atomics.store(turn, 0, n)
      Atomics.notify(turn, 0)
      if ((await answer) === n) seen++
    }
    expect(seen).toBe(300)
    await ended
  })
})

test('a folder in use is refused to a second store, in this process and in another', async () => {
  const path = newFolder()
  await withStore({ path }, async (store) => {
    await store.commit(put('p', ['a', '1']))
    expect(await codeOf(openLmdbStore({ path }))).toBe('STORE_IN_USE')
    const script = `import { openLmdbStore } from ${JSON.stringify(new URL('../dist/engine/stores/lmdb.js', import.meta.url).href)}
      await openLmdbStore({ path: process.argv[1] }).catch((error) => { console.log(error.code); process.exit(3) })`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk
    })
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(3)
    expect(output.trim()).toBe('STORE_IN_USE')
    await store.commit(put('p', ['a', '2'])) // the first is unharmed
    expect((await store.read('p', [bytes('a')])).map(text)).toEqual(['2'])
  })
  expect(await codeOf(withStore({ path }, async () => undefined))).toBe('none')
  expect(readdirSync(path).filter((name) => !name.startsWith('data.'))).toEqual([])
})

test('a folder that cannot be made is an error that names it', async () => {
  const folder = newFolder()
  mkdirSync(folder, { recursive: true })
  const file = join(folder, 'file')
  writeFileSync(file, '')
  for (const path of [file, join(file, 'below'), '']) {
    await expect(openLmdbStore({ path })).rejects.toMatchObject({ code: 'STORE_FOLDER' })
  }
})

test.runIf(process.platform === 'linux')(
  'a folder that no system would make is refused, not tried for ever',
  async () => {
    await expect(openLmdbStore({ path: '/proc/framesd/data' })).rejects.toMatchObject({ code: 'STORE_FOLDER' })
  },
)

test('a folder with a path longer than a socket address may be is locked all the same', async () => {
  const folder = join(newFolder(), 'long'.repeat(30), 'er'.repeat(60))
  const lock = await lockFolder(folder)
  expect(await codeOf(lockFolder(folder))).toBe('STORE_IN_USE')
  expect(readdirSync(folder)).toHaveLength(1)
  await lock.release()
  expect(readdirSync(folder)).toHaveLength(0)
  await (await lockFolder(folder)).release()
})

test('the sockets of killed processes are taken over, and of many that come at once at most one gets in', async () => {
  const folder = newFolder()
  await killWriter(folder, 0, 0)
  const left = readdirSync(folder).filter((name) => name.startsWith('owner.'))
  expect(left).toHaveLength(1)
  mkdirSync(folder, { recursive: true })
  for (let round = 0; round < 10; round++) {
    const locks = await Promise.allSettled(Array.from({ length: 8 }, () => lockFolder(folder)))
    const won = locks.filter((one) => one.status === 'fulfilled')
    expect(won.length).toBeLessThanOrEqual(1)
    for (const lock of won) await lock.value.release()
  }
  const lock = await lockFolder(folder)
  expect(readdirSync(folder)).not.toContain(left[0])
  await lock.release()
})

test('a disk that is nearly full refuses commits that need room, and takes them again when there is some', async () => {
  const faults = new LmdbFaults()
  await withStore({ path: newFolder(), faults, reserveByteLength: 16 * 2 ** 20 }, async (store) => {
    const value = new Uint8Array(2 ** 20)
    const commit = (key: string, size: number) =>
      codeOf(store.commit({ partition: 'p', puts: [{ key: bytes(key), value: value.subarray(0, size) }] }))
    expect(await commit('first', 1000)).toBe('none')
    faults.setFreeByteLength(17 * 2 ** 20)
    // Together they would not fit; each that fits alone is taken.
    expect(await Promise.all([commit('a', 1000), commit('b', 2 ** 20), commit('c', 1000)])).toEqual([
      'none',
      'DISK_FULL',
      'none',
    ])
    faults.setFreeByteLength(10 * 2 ** 20)
    expect(await commit('d', 10)).toBe('DISK_FULL')
    expect(await codeOf(store.commit({ partition: 'p', puts: [], deletes: [bytes('a')] }))).toBe('none')
    expect(await codeOf(store.commit({ ...put('p', ['version', '2']), makesRoom: true }))).toBe('none')
    expect((await store.scan('p', { limit: 9, keysOnly: true })).map(({ key }) => text(key))).toEqual([
      'c',
      'first',
      'version',
    ])
    await store.dropPartition('p')
    faults.setFreeByteLength(null)
    expect(await commit('d', 10)).toBe('none')
    expect(await store.partitions('')).toEqual(['p'])
  })
})

test('a failed sync makes the store read-only until it is opened again', async () => {
  const faults = new LmdbFaults()
  const path = newFolder()
  await withStore({ path, faults }, async (store) => {
    await store.commit(put('p', ['a', '1']))
    faults.failSyncs(1)
    const codes = await Promise.all([1, 2, 3].map((n) => codeOf(store.commit(put('p', [`k${n}`, 'v'])))))
    expect(codes).toEqual(['STORE_READ_ONLY', 'STORE_READ_ONLY', 'STORE_READ_ONLY'])
    expect(await codeOf(store.commit(put('p', ['b', '1'])))).toBe('STORE_READ_ONLY')
    expect(await codeOf(store.dropPartition('p'))).toBe('STORE_READ_ONLY')
    expect((await store.read('p', [bytes('a'), bytes('k1')])).map(text)).toEqual(['1', null])
  })
  await withStore({ path }, async (store) => {
    expect(await codeOf(store.commit(put('p', ['b', '1'])))).toBe('none')
  })
})

test('a file that LMDB has given up takes no more writes until it is opened again', async () => {
  const faults = new LmdbFaults()
  const path = newFolder()
  await withStore({ path, faults }, async (store) => {
    await store.commit(put('p', ['a', '1']))
    faults.giveUp()
    const codes = await Promise.all([1, 2].map((n) => codeOf(store.commit(put('p', [`k${n}`, 'v'])))))
    expect(codes).toEqual(['STORE_READ_ONLY', 'STORE_READ_ONLY'])
    expect(await codeOf(store.dropPartition('p'))).toBe('STORE_READ_ONLY')
  })
  await withStore({ path }, async (store) => {
    expect((await store.read('p', [bytes('a'), bytes('k1')])).map(text)).toEqual(['1', null])
    expect(await codeOf(store.commit(put('p', ['b', '1'])))).toBe('none')
  })
})

test('what a failing or full disk is told with does not say where the data folder is', async () => {
  const faults = new LmdbFaults()
  const path = newFolder()
  await withStore({ path, faults }, async (store) => {
    const whatOf = (promise: Promise<unknown>) =>
      promise.then(String, (error: FramesError) => `${error.code}: ${error.what}`)
    faults.setFreeByteLength(10)
    const full = await whatOf(store.commit(put('p', ['a', '1'])))
    expect(full).toMatch(
      /^DISK_FULL: no room for \d+ bytes: 10 are free in the data folder, and \d+ are kept for deletes$/,
    )
    faults.setFreeByteLength(null)
    faults.failSyncs(1)
    const failed = await whatOf(store.commit(put('p', ['a', '1'])))
    expect(failed).toMatch(/^STORE_READ_ONLY: data\.\d+\.mdb takes no more writes/)
    expect(full + failed).not.toContain(path)
  })
})

test('the same error on a full disk refuses the commits and nothing more', async () => {
  const faults = new LmdbFaults()
  await withStore({ path: newFolder(), faults }, async (store) => {
    faults.setFreeByteLength(2 * 2 ** 20)
    faults.failSyncs(1)
    expect(await codeOf(store.commit({ ...put('p', ['a', '1']), makesRoom: true }))).toBe('DISK_FULL')
    faults.setFreeByteLength(null)
    expect(await codeOf(store.commit(put('p', ['a', '1'])))).toBe('none')
  })
})

test('when the storage thread is lost, commits under way and later calls fail with a typed error', async () => {
  const faults = new LmdbFaults()
  const path = newFolder()
  const store = await openLmdbStore({ path, faults, inFlightByteLengthMax: 200 })
  await store.commit(put('p', ['a', '1']))
  faults.crashThread()
  const codes = await Promise.all([1, 2, 3].map((n) => codeOf(store.commit(put('p', [`k${n}`, 'v'.repeat(100)])))))
  expect(codes).toEqual(['STORE_FAILED', 'STORE_FAILED', 'STORE_FAILED'])
  expect(await codeOf(store.commit(put('p', ['b', '1'])))).toBe('STORE_FAILED')
  expect(await codeOf(store.read('p', [bytes('a')]))).toBe('STORE_FAILED')
  await store.close()
  await withStore({ path }, async (again) => {
    expect((await again.read('p', [bytes('a'), bytes('k1')])).map(text)).toEqual(['1', null])
  })
})

test('a file that is no database is refused with its name', async () => {
  for (const content of [Buffer.alloc(8192, 'no database '), Buffer.alloc(0), Buffer.alloc(100_000)]) {
    const path = newFolder()
    mkdirSync(path)
    writeFileSync(join(path, 'data.0.mdb'), content)
    await expect(openLmdbStore({ path })).rejects.toThrow(/data\.0\.mdb is not an LMDB file/)
    await (await lockFolder(path)).release()
  }
})

test('a file that was cut, or damaged in its tree while nobody closed it, is refused and does not end the process', async () => {
  const original = newFolder()
  await withStore({ path: original }, async (store) => {
    for (let n = 0; n < 300; n++) void store.commit(numberedBatch(n))
  })
  const whole = readFileSync(join(original, 'data.0.mdb'))

  const cut = newFolder()
  mkdirSync(cut)
  writeFileSync(join(cut, 'data.0.mdb'), whole.subarray(0, 5 * 4096))
  expect(await codeOf(openLmdbStore({ path: cut }))).toBe('DATA_DAMAGED')

  for (let round = 0; round < 3; round++) {
    const damaged = newFolder()
    await killWriter(damaged, 0, 0) // leaves the socket of a process that is gone
    const content = Buffer.from(whole)
    const branchPages = []
    for (let page = 2; page < content.length / 4096; page++) {
      const flags = content.readUInt16LE(page * 4096 + 18)
      if (content.readBigUInt64LE(page * 4096) === BigInt(page) && flags === 1) branchPages.push(page)
    }
    expect(branchPages.length).toBeGreaterThan(0)
    for (const page of branchPages) content.fill(0xa5, page * 4096 + 24, page * 4096 + 200)
    writeFileSync(join(damaged, 'data.0.mdb'), content)
    expect(await codeOf(openLmdbStore({ path: damaged }))).toBe('DATA_DAMAGED')
  }
})

test('compacting gives the space of what was deleted back, and the store goes on in another file', async () => {
  const path = newFolder()
  const value = new Uint8Array(256 * 1024).fill(1)
  const commit = (store: Store, n: number) =>
    store.commit({ partition: n % 2 ? 'odd' : 'even', puts: [{ key: bytes(`k${n}`), value }] })
  await withStore({ path }, async (store) => {
    await Promise.all(Array.from({ length: 80 }, (_, n) => commit(store, n)))
    await store.dropPartition('odd')
    const before = await store.space()
    expect(before.fileByteLength).toBeGreaterThan(80 * value.byteLength)
    expect(before.usedByteLength).toBeLessThan(41 * value.byteLength)

    const oldPath = store.workerAccess!.path
    const reader = openLmdbReader(oldPath)
    await Promise.all(Array.from({ length: 10 }, (_, n) => store.commit(put('p', [`before${n}`, 'v']))))
    const compaction = store.compactFile()
    const late = Promise.all(Array.from({ length: 10 }, (_, n) => store.commit(put('p', [`after${n}`, 'v']))))
    expect(text((await store.read('even', [bytes('k0')]))[0]?.subarray(0, 2))).toBe('\x01\x01')
    await Promise.all([compaction, late])

    const after = await store.space()
    expect(after.fileByteLength).toBeLessThan(41 * value.byteLength)
    expect(store.workerAccess!.path).not.toBe(oldPath)
    expect(await store.scan('p', { limit: 100 })).toHaveLength(20)
    reader.beginJob() // an older job still reads what it was promised
    expect(reader.get('even', bytes('k0'))?.byteLength).toBe(value.byteLength)
    expect(reader.get('p', bytes('before9'))?.byteLength).toBe(1)
    reader.endJob()
    reader.close()
    const newReader = openLmdbReader(store.workerAccess!.path)
    newReader.beginJob()
    expect(newReader.get('p', bytes('after9'))?.byteLength).toBe(1)
    newReader.endJob()
    newReader.close()
    await store.compactFile()
  })
  expect(readdirSync(path).sort()).toEqual(['data.2.mdb', 'data.2.mdb-lock'])
  await withStore({ path }, async (store) => {
    expect(await store.partitions('')).toEqual(['even', 'p'])
    expect(await store.scan('even', { limit: 100, keysOnly: true })).toHaveLength(40)
  })
})

test('a job that has ended holds no snapshot: pages are used again and the file does not grow', async () => {
  await withStore({ path: newFolder() }, async (store) => {
    const commit = (n: number) =>
      store.commit({ partition: 'p', puts: [{ key: bytes('k'), value: new Uint8Array(256 * 1024).fill(n) }] })
    await commit(0)
    const reader = openLmdbReader(store.workerAccess!.path)
    reader.beginJob()
    expect(reader.get('p', bytes('k'))?.[0]).toBe(0)
    reader.endJob()
    for (let n = 1; n <= 100; n++) {
      await commit(n)
      await store.space()
      expect((await store.read('p', [bytes('k')]))[0]?.[0]).toBe(n)
    }
    expect((await store.space()).fileByteLength).toBeLessThan(2 ** 21)
    reader.beginJob()
    expect(reader.get('p', bytes('k'))?.[0]).toBe(100)
    await commit(101)
    expect(reader.get('p', bytes('k'))?.[0]).toBe(100) // one job sees one moment
    reader.endJob()
    reader.close()
  })
})

test('on a full disk a drop makes room for new commits, without a rewrite of the file', async () => {
  const faults = new LmdbFaults()
  await withStore({ path: newFolder(), faults }, async (store) => {
    const commit = (partition: string, n: number) =>
      codeOf(store.commit({ partition, puts: [{ key: bytes(`k${n}`), value: new Uint8Array(256 * 1024) }] }))
    for (let n = 0; n < 100; n++) void commit('old', n)
    await store.commit(put('p', ['a', '1']))
    faults.setFreeByteLength(8 * 2 ** 20)
    expect(await commit('new', 0)).toBe('DISK_FULL')
    await store.dropPartition('old')
    const { fileByteLength } = await store.space()
    let count = 0
    while ((await commit('new', count)) === 'none') count++
    expect(count).toBeGreaterThan(20)
    expect((await store.space()).fileByteLength).toBeLessThan(fileByteLength + 2 ** 20)
  })
})

test('a compaction for which there is no room fails and changes nothing', async () => {
  const faults = new LmdbFaults()
  const path = newFolder()
  await withStore({ path, faults }, async (store) => {
    await store.commit(put('p', ['a', '1']))
    faults.setFreeByteLength(2 ** 20)
    expect(await codeOf(store.compactFile())).toBe('DISK_FULL')
    faults.setFreeByteLength(null)
    await store.commit(put('p', ['b', '1']))
    expect(await store.scan('p', { limit: 9 })).toHaveLength(2)
  })
  expect(readdirSync(path).sort()).toEqual(['data.0.mdb', 'data.0.mdb-lock'])
})

/** All that a store holds, partition by partition in the order of keys. */
async function contentOf(store: Store): Promise<Map<string, Buffer>> {
  const content = new Map<string, Buffer>()
  for (const partition of await store.partitions('')) {
    for (const { key, value } of await store.scan(partition, { limit: 1e6 })) {
      content.set(`${partition}/${text(key)}`, Buffer.from(value))
    }
  }
  return content
}

/** Hundreds of random puts, deletes, drops and refused batches, carried out in a model, too. */
async function changeAtRandom(store: Store, model: Map<string, Buffer>, count: number): Promise<void> {
  let settled: Promise<unknown>[] = []
  for (let n = 0; n < count; n++) {
    const partition = `r${Math.floor(random() * 4)}`
    if (random() < 0.02) {
      await Promise.all(settled)
      settled = []
      await store.dropPartition(partition)
      for (const name of [...model.keys()]) if (name.startsWith(`${partition}/`)) model.delete(name)
      continue
    }
    const key = () => `k${Math.floor(random() * 200)}`
    const puts = Array.from({ length: Math.floor(random() * 4) }, () => {
      const byteLength = random() < 0.02 ? 1_300_000 : Math.floor(random() * 20_000)
      return { key: key(), value: Buffer.alloc(byteLength, Math.floor(random() * 256)) }
    })
    const deletes = Array.from({ length: Math.floor(random() * 3) }, key)
    const batch = {
      partition,
      puts: puts.map((entry) => ({ key: bytes(entry.key), value: entry.value })),
      deletes: deletes.map(bytes),
    }
    if (random() < 0.05) {
      const expect = [{ key: bytes('never'), value: bytes('there') }]
      settled.push(store.commit({ ...batch, expect }).catch(({ code }) => code))
      continue
    }
    settled.push(store.commit(batch))
    for (const { key, value } of puts) model.set(`${partition}/${key}`, value)
    for (const key of deletes) model.delete(`${partition}/${key}`)
  }
  await Promise.all(settled)
}

function expectSame(content: Map<string, Buffer>, model: Map<string, Buffer>): void {
  expect([...content.keys()]).toEqual([...model.keys()].sort((a, b) => (a < b ? -1 : 1)))
  for (const [name, value] of model) expect(content.get(name)!.equals(value), name).toBe(true)
}

test('commits, deletes and drops go on while the file is copied, and the new file has all of them', {
  timeout: 60_000,
}, async () => {
  const faults = new LmdbFaults()
  const path = newFolder()
  const model = new Map<string, Buffer>()
  await withStore({ path, faults }, async (store) => {
    await changeAtRandom(store, model, 300)
    for (let round = 0; round < 3; round++) {
      faults.holdCopies(true)
      let copied = false
      const oldPath = store.workerAccess!.path
      const copy = store.compactFile().then(() => {
        copied = true
      })
      await changeAtRandom(store, model, 300) // it resolves: no commit waits for the copy
      expect(copied).toBe(false)
      expect(store.workerAccess!.path).toBe(oldPath)
      expectSame(await contentOf(store), model)
      faults.holdCopies(false)
      await Promise.all([copy, changeAtRandom(store, model, 200)]) // steps between turns
      expect(store.workerAccess!.path).not.toBe(oldPath)
      expectSame(await contentOf(store), model)
      await changeAtRandom(store, model, 50)
    }
    // Not held: the copy is written at the same time as commits are.
    for (let round = 0; round < 5; round++) {
      await Promise.all([store.compactFile(), changeAtRandom(store, model, 150)])
      expectSame(await contentOf(store), model)
    }
  })
  await withStore({ path }, async (store) => expectSame(await contentOf(store), model))
  expect(readdirSync(path)).toHaveLength(2)
})

test('a copy that a full disk or a failed sync ends leaves the old file, with all that was committed meanwhile', async () => {
  const faults = new LmdbFaults()
  const path = newFolder()
  const model = new Map<string, Buffer>()
  await withStore({ path, faults }, async (store) => {
    await changeAtRandom(store, model, 100)
    faults.holdCopies(true)
    const full = codeOf(store.compactFile())
    await changeAtRandom(store, model, 100)
    faults.setFreeByteLength(10)
    expect(await full).toBe('DISK_FULL')
    faults.holdCopies(false)
    expect(
      readdirSync(path)
        .filter((name) => /^data/.test(name))
        .sort(),
    ).toEqual(['data.0.mdb', 'data.0.mdb-lock'])
    faults.setFreeByteLength(null)
    await changeAtRandom(store, model, 20)
    expectSame(await contentOf(store), model)

    faults.holdCopies(true)
    const failed = codeOf(store.compactFile())
    await changeAtRandom(store, model, 20)
    faults.failSyncs(1)
    expect(await codeOf(store.commit(put('p', ['a', '1'])))).toBe('STORE_READ_ONLY')
    faults.holdCopies(false)
    expect(await failed).toBe('STORE_READ_ONLY')
    expectSame(await contentOf(store), model)
  })
  expect(readdirSync(path).sort()).toEqual(['data.0.mdb', 'data.0.mdb-lock'])
  await withStore({ path }, async (store) => expectSame(await contentOf(store), model))
})

test('a commit for which the disk has no room beside a copy waits for its end', async () => {
  const faults = new LmdbFaults()
  await withStore({ path: newFolder(), faults }, async (store) => {
    await store.commit(put('p', ['a', '1']))
    faults.holdCopies(true)
    const copy = store.compactFile()
    await store.commit(put('p', ['b', '1']))
    faults.setFreeByteLength(8 * 2 ** 20)
    let settled = false
    const commit = store.commit(put('p', ['c', '1'])).then(() => {
      settled = true
    })
    await store.read('p', [bytes('a')])
    await store.read('p', [bytes('a')])
    expect(settled).toBe(false)
    faults.setFreeByteLength(null) // as the end of a copy makes room
    faults.holdCopies(false)
    await Promise.all([copy, commit])
    expect(await store.scan('p', { limit: 9 })).toHaveLength(3)
  })
})

test('calls for a copy that come during one have one of their own, and a close waits for all of them', async () => {
  const faults = new LmdbFaults()
  const path = newFolder()
  await withStore({ path, faults }, async (store) => {
    await store.commit({ partition: 'old', puts: [{ key: bytes('k'), value: new Uint8Array(4 * 2 ** 20) }] })
    faults.holdCopies(true)
    const first = store.compactFile()
    await store.dropPartition('old')
    const later = [store.compactFile(), store.compactFile()]
    await store.commit(put('p', ['a', '1']))
    faults.holdCopies(false)
    await Promise.all([first, ...later])
    expect(store.workerAccess!.path).toBe(join(path, 'data.2.mdb'))
    expect((await store.space()).fileByteLength).toBeLessThan(2 ** 20)
    void store.compactFile()
    void store.commit(put('p', ['b', '1']))
    void store.compactFile()
  })
  expect(readdirSync(path).sort()).toEqual(['data.4.mdb', 'data.4.mdb-lock'])
  await withStore({ path }, async (store) => expect(await store.scan('p', { limit: 9 })).toHaveLength(2))
})

test('a large transaction behind a copy leaves a file that can be opened and written', async () => {
  const path = newFolder()
  const batch = (first: number, count: number, seedOfSizes: number) => ({
    partition: 'p',
    puts: Array.from({ length: count }, (_, n) => ({
      key: bytes(`k${(first + n) % 600}`),
      value: Buffer.alloc(((n + seedOfSizes) * 1009) % 9000, n),
    })),
  })
  for (let round = 0; round < 3; round++) {
    await withStore({ path }, async (store) => {
      for (let n = 0; n < 30; n++) await store.commit(batch(n * 20, 20, round))
      await store.compactFile()
      await store.commit(batch(0, 600, round + 1)) // frees nearly all pages that the copy has written
    })
    await withStore({ path }, async (store) => {
      for (let n = 0; n < 60; n++) await store.commit(batch(n * 10, 5, n))
      const { puts } = batch(590, 5, 59)
      const found = await store.read(
        'p',
        puts.map(({ key }) => key),
      )
      for (const [i, { value }] of puts.entries()) expect(Buffer.compare(found[i]!, value)).toBe(0)
      expect(await store.scan('p', { limit: 1e6, keysOnly: true })).toHaveLength(600)
    })
  }
})

test('files that a crash left behind do not count and go away', async () => {
  const path = newFolder()
  await withStore({ path }, (store) => store.commit(put('p', ['a', 'old'])))
  const old = readFileSync(join(path, 'data.0.mdb'))
  await withStore({ path }, async (store) => {
    await store.compactFile()
    await store.commit(put('p', ['a', 'new']))
  })
  writeFileSync(join(path, 'data.0.mdb'), old)
  writeFileSync(join(path, 'data.2.new'), 'half a copy')
  await withStore({ path }, async (store) => {
    expect((await store.read('p', [bytes('a')])).map(text)).toEqual(['new'])
    await store.compactFile()
  })
  expect(readdirSync(path).sort()).toEqual(['data.2.mdb', 'data.2.mdb-lock'])
})

test('a kill -9 in the middle of compactions loses nothing', { timeout: 120_000 }, async () => {
  const folder = newFolder()
  let next = 0
  let compactionCount = 0
  for (let kill = 0; kill < 20; kill++) {
    const { acked, compactions, windowAcked } = await killWriter(folder, next, random() * 400, 'compact')
    compactionCount += compactions
    await withStore({ path: folder }, async (store) => {
      const last = await lastWholeBatch(store, next)
      expect(last).toBeGreaterThanOrEqual(acked)
      next = last + 1
      // What was deleted during a copy has not come back.
      const keys = (await store.scan('window', { limit: 1e6, keysOnly: true })).map(({ key }) => Number(text(key)))
      const newest = keys.at(-1) ?? -1
      expect(newest).toBeGreaterThanOrEqual(windowAcked)
      expect(keys).toEqual([newest - 2, newest - 1, newest].filter((n) => n >= 0))
    })
    expect(readdirSync(folder)).toHaveLength(2)
  }
  await withStore({ path: folder }, async (store) => {
    expect(await lastWholeBatch(store, 0)).toBe(next - 1)
  })
  console.log(`${next} batches survived 20 kills and ${compactionCount} compactions`)
})
