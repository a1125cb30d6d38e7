// Builds dist/: kernels.wasm (AssemblyScript) and the typed list of its exports, then the TypeScript, then the bundle of
// what runs in worker threads.
// Each half is skipped when nothing it reads is newer than its last build.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'

const root = fileURLToPath(new URL('..', import.meta.url))

/** The newest modification time below a path, in ms; 0 when it is not there. */
function newestMs(path) {
  if (!existsSync(path)) return 0
  const stat = statSync(path)
  if (!stat.isDirectory()) return stat.mtimeMs
  let newest = stat.mtimeMs
  for (const name of readdirSync(path)) newest = Math.max(newest, newestMs(join(path, name)))
  return newest
}

/** Runs `build` unless the stamp of its last success is newer than every source. */
async function buildIfOlder(stamp, sources, build) {
  const stampPath = join(root, 'dist', stamp)
  if (newestMs(stampPath) > Math.max(...sources.map((source) => newestMs(join(root, source))))) return
  // The stamp carries the time the build began: what is edited while a compiler runs is built again.
  const began = new Date()
  await build()
  writeFileSync(stampPath, '')
  utimesSync(stampPath, began, began)
  console.log(`built ${stamp.slice(1)} in ${Date.now() - began.getTime()} ms`)
}

function run(tool, ...args) {
  execFileSync(process.execPath, [join(root, 'node_modules', tool), ...args], { cwd: root, stdio: 'inherit' })
}

/** Turns the compiler's declaration of the exports into one interface, so that a kernel is typed by its own source. */
function writeKernelTypes() {
  const declared = readFileSync(join(root, 'dist/kernels.d.ts'), 'utf8')
  const start = declared.indexOf('{') + 1
  const body = declared.slice(start, declared.indexOf('\n}', start)).replaceAll('export function ', '')
  const text = `// Generated from kernels/ by npm run build; do not edit.\nexport interface KernelExports {${body}\n}\n`
  const path = join(root, 'engine/kernels/exports.ts')
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text)
  for (const name of ['kernels.d.ts', 'kernels.js']) rmSync(join(root, 'dist', name))
}

mkdirSync(join(root, 'dist'), { recursive: true })
await buildIfOlder('.kernels', ['kernels', 'asconfig.json'], () => {
  run('assemblyscript/bin/asc.js', '--target', 'release')
  writeKernelTypes()
})
/**
 * One file for a worker thread instead of some 150 modules: a thread is ready after 60 ms of processor time instead of 200.
 * What it shares with the store's reader, which it loads by name, is in a file that both import.
 */
async function bundleThreads() {
  const bundle = await rolldown({
    input: {
      worker: join(root, 'dist/engine/pool/worker.js'),
      'lmdb-reader': join(root, 'dist/engine/stores/lmdb-reader.js'),
    },
    platform: 'node',
    external: ['lmdb'],
    logLevel: 'warn',
  })
  await bundle.write({ dir: join(root, 'dist/threads'), cleanDir: true, sourcemap: true })
  await bundle.close()
}

const sources = ['engine', 'server', 'client', 'bench', 'proto', 'tsconfig.json', 'package.json', '.ci/build.mjs']
await buildIfOlder('.typescript', sources, async () => {
  run('typescript/bin/tsc', '-p', 'tsconfig.json')
  await bundleThreads()
})
