// Runs the interop suite: makes virtual environments with the published Python client, starts the built server on free
// ports over a data folder of its own, runs pytest against it, and stops it with SIGTERM. Arguments go to pytest. Then the
// same with the published Go client and `go test`. Where Python or Go is missing, or the clients cannot be had, it says so
// and that part is skipped; FRAMESD_INTEROP=required fails instead.
//
// The Python client runs on pandas 2 and, with some care of its caller, on pandas 3: all tests run on the one, and those of
// writing and reading on the other.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const suite = join(root, 'test/interop')
const environments = join(root, '.venv-interop')

/** Which pandas, what it needs, and which tests run on it; none named: all. */
const dialects = [
  { name: 'pandas-2', pythonMin: [3, 9], tests: [] },
  {
    name: 'pandas-3',
    pythonMin: [3, 11],
    tests: ['test_client_and_pandas.py', 'test_readme.py', 'test_write_and_read.py'],
  },
]

/** From the first line of the server to the line that says it is running. */
const startMs = 60_000
const stopMs = 60_000

class Unavailable extends Error {}

/** The first Python that is new enough and can make virtual environments. */
function findPython([major, minor]) {
  const check = `import sys, venv, ensurepip; sys.exit(0 if sys.version_info >= (${major}, ${minor}) else 1)`
  for (const command of ['python3', 'python']) {
    try {
      execFileSync(command, ['-c', check], { stdio: 'ignore' })
      return command
    } catch {
      // Not there, too old, or without venv: the next name, and at last the skip below.
    }
  }
  throw new Unavailable(`there is no python3 of version ${major}.${minor} or newer with the modules venv and ensurepip`)
}

/** The Python of a dialect's virtual environment, which is made once for each content of the pinned packages. */
function prepareEnvironment({ name, pythonMin }) {
  const environment = join(environments, name)
  const python = join(environment, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python')
  const requirements = join(suite, `${name}.txt`)
  const stamp = join(environment, '.requirements')
  const pinned = ['requirements.txt', `${name}.txt`].map((file) => readFileSync(join(suite, file), 'utf8')).join('\n')
  if (existsSync(python) && existsSync(stamp) && readFileSync(stamp, 'utf8') === pinned) return python
  const command = findPython(pythonMin)
  console.log(`interop: installing the published Python client with ${name} (once) ...`)
  rmSync(environment, { recursive: true, force: true })
  try {
    execFileSync(command, ['-m', 'venv', environment], { stdio: ['ignore', 'ignore', 'inherit'] })
    const options = ['--quiet', '--disable-pip-version-check', '--retries', '2', '--timeout', '30']
    execFileSync(python, ['-m', 'pip', 'install', ...options, '-r', requirements], {
      stdio: ['ignore', 'inherit', 'inherit'],
    })
  } catch (cause) {
    rmSync(environment, { recursive: true, force: true })
    throw new Unavailable(`test/interop/${name}.txt cannot be installed: is the package index reachable?`, { cause })
  }
  writeFileSync(stamp, pinned)
  return python
}

/** Starts the server on ports that the system picks; resolves with its addresses. */
async function startServer(dataDir) {
  const main = join(root, 'dist/server/main.js')
  if (!existsSync(main)) throw new Error('dist/ is not built; run: npm run build')
  const args = [main, '--data-dir', dataDir, '--http-addr', '127.0.0.1:0', '--grpc-addr', '127.0.0.1:0']
  const server = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  const exited = new Promise((resolve) => server.on('exit', (code, signal) => resolve({ code, signal })))
  const addresses = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the server did not start:\n${output}`)), startMs)
    const take = (chunk) => {
      output += chunk
      const match = /server running on http=(\S+), grpc=(\S+)/.exec(output)
      if (match === null) return
      clearTimeout(timer)
      resolve({ http: match[1], grpc: match[2] })
    }
    server.stdout.on('data', take)
    server.stderr.on('data', take)
    exited.then(({ code }) => {
      clearTimeout(timer)
      reject(new Error(`the server ended with ${code}:\n${output}`))
    })
  })
  try {
    return { server, exited, dataDir, output: () => output, ...(await addresses) }
  } catch (error) {
    server.kill('SIGKILL')
    throw error
  }
}

/** Asks the server to stop; a status other than 0 is a failure of the suite. */
async function stopServer({ server, exited }) {
  server.kill('SIGTERM')
  const timer = setTimeout(() => server.kill('SIGKILL'), stopMs)
  const { code, signal } = await exited
  clearTimeout(timer)
  if (code !== 0) throw new Error(`the server did not stop well after SIGTERM: ${signal ?? `status ${code}`}`)
}

/** Runs pytest against the server; resolves with its exit status. */
function runPytest(python, running, args, variables = {}) {
  const options = ['-m', 'pytest', '-p', 'no:cacheprovider', '--tb=short', '-q', ...args]
  const env = {
    ...process.env,
    FRAMESD_GRPC: `grpc://${running.grpc}`,
    FRAMESD_HTTP: `http://${running.http}`,
    FRAMESD_DATA: running.dataDir,
    PYTHONDONTWRITEBYTECODE: '1',
    ...variables,
  }
  // Credentials and sessions of whoever runs the tests are none of the server's business.
  for (const name of Object.keys(env)) if (name.startsWith('V3IO_')) delete env[name]
  const tests = spawn(python, options, { cwd: suite, env, stdio: 'inherit' })
  return new Promise((resolve, reject) => tests.on('error', reject).on('exit', (code) => resolve(code ?? 1)))
}

/** Starts a server, runs `use`, and stops the server again; resolves with the status that `use` gave. */
async function withServer(dataDir, use) {
  const running = await startServer(dataDir)
  let status = 1
  try {
    status = await use(running)
  } finally {
    try {
      await stopServer(running)
    } finally {
      if (status !== 0) console.log(`last lines of the server:\n${running.output().split('\n').slice(-20).join('\n')}`)
    }
  }
  return status
}

/** Runs a dialect's tests; resolves with 0 when all of them passed. */
async function runDialect(python, { tests }) {
  const dataDir = mkdtempSync(join(tmpdir(), 'framesd-interop-'))
  const args = process.argv.slice(2)
  try {
    let status = await withServer(dataDir, (running) => runPytest(python, running, [...tests, ...args]))
    // With arguments only what they name is run.
    for (const isRestarted of ['0', '1']) {
      if (status !== 0 || args.length > 0 || tests.length > 0) return status
      const variables = { FRAMESD_RESTARTED: isRestarted }
      status = await withServer(dataDir, (running) => runPytest(python, running, ['after_restart.py'], variables))
    }
    return status
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
}

/** Downloads and compiles the tests of the published Go client. */
function prepareGo() {
  const cwd = join(suite, 'go')
  try {
    execFileSync('go', ['version'], { stdio: 'ignore' })
  } catch (cause) {
    throw new Unavailable('there is no go', { cause })
  }
  console.log('interop: building the tests of the published Go client ...')
  try {
    execFileSync('go', ['mod', 'download'], { cwd, stdio: ['ignore', 'inherit', 'inherit'] })
  } catch (cause) {
    throw new Unavailable('the modules of test/interop/go cannot be had: is the module proxy reachable?', { cause })
  }
  execFileSync('go', ['vet', './...'], { cwd, stdio: ['ignore', 'inherit', 'inherit'] })
}

/** Runs the tests of the Go client; resolves with 0 when all of them passed. */
async function runGo() {
  const dataDir = mkdtempSync(join(tmpdir(), 'framesd-interop-go-'))
  try {
    return await withServer(dataDir, ({ grpc, http }) => {
      const env = { ...process.env, FRAMESD_GRPC: grpc, FRAMESD_HTTP: http }
      for (const name of Object.keys(env)) if (name.startsWith('V3IO_')) delete env[name]
      const tests = spawn('go', ['test', '-count=1', './...'], { cwd: join(suite, 'go'), env, stdio: 'inherit' })
      return new Promise((resolve, reject) => tests.on('error', reject).on('exit', (code) => resolve(code ?? 1)))
    })
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
}

/** What `prepare` makes, or null where it cannot be had, said loudly. */
function preparedOrSkipped(name, prepare) {
  try {
    return { ready: prepare() }
  } catch (error) {
    if (!(error instanceof Unavailable) || process.env.FRAMESD_INTEROP === 'required') throw error
    const line = '!'.repeat(100)
    console.log(`${line}\n!!! INTEROP SKIPPED (${name}): ${error.message}\n${line}`)
    return null
  }
}

async function main() {
  for (const dialect of dialects) {
    // Arguments name tests of the first dialect.
    if (process.argv.length > 2 && dialect !== dialects[0]) break
    const prepared = preparedOrSkipped(dialect.name, () => prepareEnvironment(dialect))
    if (prepared === null) continue
    const status = await runDialect(prepared.ready, dialect)
    if (status !== 0) {
      console.log(`interop: FAILED on ${dialect.name}`)
      return status
    }
    console.log(`interop: the published Python client passed on ${dialect.name}, over gRPC and HTTP`)
  }
  if (process.argv.length > 2 || preparedOrSkipped('Go', prepareGo) === null) return 0
  const status = await runGo()
  console.log(`interop: the published Go client ${status === 0 ? 'passed' : 'FAILED'}, over gRPC and HTTP`)
  return status
}

process.exitCode = await main()
