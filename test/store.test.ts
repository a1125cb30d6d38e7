import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { FramesError } from '../dist/engine/errors.js'
import { createMemory } from '../dist/engine/kernels/kernels.js'
import { openLmdbStore } from '../dist/engine/stores/lmdb.js'
import { Faults, openMemoryStore } from '../dist/engine/stores/memory.js'
import { bytes, codeOf, put, storeCases, text } from './store.cases.js'

const root = mkdtempSync(join(tmpdir(), 'framesd-store-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
let folderCount = 0
const newFolder = () => join(root, `data-${folderCount++}`)

storeCases('memory', async () => ({ store: openMemoryStore(), memory: createMemory(4 * 2 ** 20) }))

storeCases('lmdb', async () => {
  const memory = createMemory(4 * 2 ** 20)
  return { store: await openLmdbStore({ path: newFolder(), memory }), memory }
})

// So little may be under way that nearly every commit waits for the one before.
storeCases('lmdb with one batch under way', async () => {
  const memory = createMemory(4 * 2 ** 20)
  return { store: await openLmdbStore({ path: newFolder(), memory, inFlightByteLengthMax: 1 }), memory }
})

test('memory: the n-th commit fails as told, writes nothing, and the next one goes on', async () => {
  const faults = new Faults()
  const store = openMemoryStore({ faults })
  faults.fail('commit', new FramesError('DISK_FULL', 'no room'), { n: 2 })
  const codes = await Promise.all([1, 2, 3].map((n) => codeOf(store.commit(put('p', [`k${n}`, 'v'])))))
  expect(codes).toEqual(['none', 'DISK_FULL', 'none'])
  expect(
    (
      await store.read(
        'p',
        [1, 2, 3].map((n) => bytes(`k${n}`)),
      )
    ).map(text),
  ).toEqual(['v', null, 'v'])
  expect(faults.callCount('commit')).toBe(3)
})

test('memory: reads and scans fail and wait as told', async () => {
  const faults = new Faults()
  const store = openMemoryStore({ faults })
  faults.fail('read', new FramesError('STORE_FAILED', 'gone'), { times: 2 })
  faults.fail('scan', new FramesError('DATA_DAMAGED', 'bad page'))
  const reads = [1, 2, 3].map(() => codeOf(store.read('p', [bytes('a')])))
  expect(await Promise.all(reads)).toEqual(['STORE_FAILED', 'STORE_FAILED', 'none'])
  expect(await codeOf(store.scan('p', { limit: 1 }))).toBe('DATA_DAMAGED')

  faults.delay('commit', 20)
  const settled: string[] = []
  const slow = store.commit(put('p', ['a', '1'])).then(() => settled.push('slow'))
  faults.delay('commit', 0)
  const quick = store.commit(put('p', ['a', '2'])).then(() => settled.push('quick'))
  await Promise.all([slow, quick])
  expect(settled).toEqual(['slow', 'quick'])
})

test('memory: a stored value can travel to a worker without a copy', async () => {
  const store = openMemoryStore()
  await store.commit(put('p', ['a', 'value']))
  const [value] = await store.read('p', [bytes('a')])
  expect(value?.buffer).toBeInstanceOf(SharedArrayBuffer)
  expect(store.workerAccess).toBeNull()
})
