// The import directions of ARCHITECTURE.md, kept true: every import line of the sources is held against the table here.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')

/** May be imported by everything in engine/. */
const leaves = [
  'engine/assert.ts',
  'engine/cancellation.ts',
  'engine/errors.ts',
  'engine/limits.ts',
  'engine/options.ts',
  'engine/steps.ts',
  'engine/time.ts',
]

/** What each folder or file may import beside itself: folders end with a slash. The first row that fits a file counts. */
const rules: readonly (readonly [from: string, allowed: readonly string[], packages: readonly string[]])[] = [
  ['kernels/', [], []],
  ['engine/assert.ts', [], []],
  ['engine/cancellation.ts', [], []],
  ['engine/errors.ts', leaves, []],
  ['engine/limits.ts', leaves, []],
  ['engine/options.ts', leaves, []],
  ['engine/steps.ts', [], []],
  ['engine/time.ts', leaves, []],
  ['engine/memory/', [...leaves], []],
  ['engine/kernels/', [...leaves, 'engine/memory/'], []],
  ['engine/frame/', [...leaves, 'engine/memory/'], []],
  ['engine/requests.ts', [...leaves, 'engine/frame/'], []],
  ['engine/request-shape.ts', [...leaves, 'engine/requests.ts', 'engine/frame/'], []],
  ['engine/engine-api.ts', ['engine/cancellation.ts', 'engine/requests.ts', 'engine/frame/wire-messages.ts'], []],
  ['engine/stores/lmdb-file.ts', [...leaves, 'engine/stores/'], ['lmdb']],
  ['engine/stores/', [...leaves], []],
  // Handlers of jobs are named in codec and in the backends' worker halves; they see the pool's message types only.
  [
    'engine/codec/',
    [...leaves, 'engine/frame/', 'engine/memory/', 'engine/kernels/', 'engine/pool/context.ts', 'engine/pool/job.ts'],
    ['apache-arrow'],
  ],
  ['engine/expression/', [...leaves, 'engine/memory/', 'engine/frame/', 'engine/kernels/'], []],
  [
    'engine/pool/handlers.ts',
    [
      ...leaves,
      'engine/pool/',
      'engine/backends/kv/jobs.ts',
      'engine/backends/kv/merge-jobs.ts',
      'engine/backends/kv/read-jobs.ts',
      'engine/backends/csv/jobs.ts',
      'engine/backends/tsdb/jobs.ts',
      'engine/backends/stream/jobs.ts',
      'engine/blocks/reader.ts',
      'engine/blocks/verify.ts',
      'engine/codec/jobs.ts',
      'engine/history/jobs.ts',
    ],
    [],
  ],
  ['engine/pool/', [...leaves, 'engine/memory/', 'engine/kernels/', 'engine/stores/store.ts'], ['piscina']],
  [
    'engine/blocks/',
    [
      ...leaves,
      'engine/memory/',
      'engine/frame/',
      'engine/kernels/',
      'engine/pool/pool.ts',
      'engine/pool/job.ts',
      'engine/pool/context.ts',
      'engine/stores/store.ts',
      'engine/stores/keys.ts',
    ],
    ['msgpackr'],
  ],
  [
    'engine/backends/',
    [
      ...leaves,
      'engine/requests.ts',
      'engine/memory/',
      'engine/frame/',
      'engine/kernels/',
      'engine/codec/',
      'engine/expression/',
      'engine/pool/pool.ts',
      'engine/pool/job.ts',
      'engine/pool/context.ts',
      'engine/blocks/',
      'engine/stores/store.ts',
    ],
    ['msgpackr'],
  ],
  [
    'engine/history/',
    [
      ...leaves,
      'engine/requests.ts',
      'engine/memory/',
      'engine/frame/',
      'engine/kernels/',
      'engine/codec/',
      'engine/pool/pool.ts',
      'engine/pool/job.ts',
      'engine/pool/context.ts',
      'engine/blocks/',
      'engine/stores/store.ts',
      'engine/backends/backend.ts',
    ],
    [],
  ],
  ['engine/', ['engine/'], []],
  [
    'server/',
    ['engine/index.ts', 'proto/gen/', 'proto/http2/'],
    ['@bufbuild/protobuf', '@grpc/grpc-js', '@grpc/reflection', '@grpc/proto-loader', 'pino', 'yaml', 'vega-datasets'],
  ],
  [
    'client/',
    [
      ...leaves,
      'engine/engine-api.ts',
      'engine/requests.ts',
      'engine/request-shape.ts',
      'engine/frame/',
      'engine/codec/',
      'engine/kernels/',
      'engine/memory/',
      'proto/gen/',
      'proto/http2/',
    ],
    ['@bufbuild/protobuf'],
  ],
  ['proto/gen/', [], ['@bufbuild/protobuf']],
  ['proto/http2/', [], []],
]

/** Files that stand outside the table: they may import anything, and nobody imports them. */
const unbound = ['bench/', 'server/demo']

function* sources(folder: string): Generator<string> {
  for (const name of readdirSync(join(root, folder))) {
    const path = `${folder}/${name}`
    if (statSync(join(root, path)).isDirectory()) yield* sources(path)
    else if (path.endsWith('.ts')) yield path
  }
}

interface ImportLine {
  readonly file: string
  readonly target: string
}

function importsOf(file: string): ImportLine[] {
  const text = readFileSync(join(root, file), 'utf8')
  const found: ImportLine[] = []
  for (const match of text.matchAll(
    /^\s*(?:import|export)\s(?:[^'"]*?\sfrom\s)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm,
  )) {
    const specifier = match[1] ?? match[2]!
    if (!specifier.startsWith('.')) {
      found.push({ file, target: specifier })
      continue
    }
    const path = relative(root, resolve(root, file, '..', specifier)).replace(/\.js$/, '.ts')
    found.push({ file, target: path.endsWith('.ts') ? path : `${path}.ts` })
  }
  return found
}

function problemOf({ file, target }: ImportLine): string | null {
  if (target.startsWith('node:')) return null
  const rule = rules.find(([from]) => file === from || (from.endsWith('/') && file.startsWith(from)))
  if (rule === undefined) return `${file}: no rule says what it may import`
  const [from, allowed, packages] = rule
  const isOwn = from.endsWith('/') && target.startsWith(from)
  if (isOwn) {
    // A backend never meets another backend.
    const [backend, other] = [file, target].map((path) => /^engine\/backends\/([^/]+)\//.exec(path)?.[1])
    return backend !== undefined && other !== undefined && backend !== other ? `${file} imports ${target}` : null
  }
  const isAllowed = allowed.some((path) => (path.endsWith('/') ? target.startsWith(path) : target === path))
  const isPackage = packages.some((name) => target === name || target.startsWith(`${name}/`))
  return isAllowed || isPackage ? null : `${file} imports ${target}`
}

const files = ['kernels', 'engine', 'server', 'client', 'proto/gen', 'proto/http2'].flatMap((folder) => [
  ...sources(folder),
])

test('the table speaks of all sources', () => {
  expect(files.length).toBeGreaterThan(80)
})

test('imports point one way', () => {
  const lines = files.filter((file) => !unbound.some((path) => file.startsWith(path))).flatMap(importsOf)
  expect(lines.length).toBeGreaterThan(200)
  expect(lines.map(problemOf).filter((problem) => problem !== null)).toEqual([])
})

test('a broken direction is noticed', () => {
  expect(problemOf({ file: 'engine/stores/memory.ts', target: 'engine/frame/frame.ts' })).not.toBeNull()
  expect(problemOf({ file: 'engine/blocks/table.ts', target: 'engine/backends/tsdb/plan.ts' })).not.toBeNull()
  expect(problemOf({ file: 'server/grpc.ts', target: 'engine/engine.ts' })).not.toBeNull()
  expect(problemOf({ file: 'engine/backends/tsdb/plan.ts', target: 'engine/backends/kv/item.ts' })).not.toBeNull()
  expect(problemOf({ file: 'engine/engine.ts', target: '@grpc/grpc-js' })).not.toBeNull()
})

test('each kernel has a name of its own: of two with one name, asc takes one and says nothing', () => {
  const files = [...readFileSync(join(root, 'kernels/index.ts'), 'utf8').matchAll(/^export \* from '\.\/([\w-]+)'$/gm)]
  const exported = files.flatMap(([, file]) => {
    const source = readFileSync(join(root, 'kernels', `${file}.ts`), 'utf8')
    const names = [...source.matchAll(/^export (?:(?:function|const|let|class|enum) (\w+)|\{([^}]*)\})/gm)]
    return names.flatMap(
      ([, name, list]) => name ?? list!.split(',').flatMap((entry) => entry.trim().split(' ').at(-1)!),
    )
  })
  expect(exported.length).toBeGreaterThan(files.length)
  expect(exported.filter((name, index) => name !== '' && exported.indexOf(name) !== index)).toEqual([])
})
