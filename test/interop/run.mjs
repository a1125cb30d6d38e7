// Runs the interop suite: makes a virtual environment with the published Python client, starts the built server on free
// ports over a data folder of its own, runs pytest against it, and stops it with SIGTERM. Arguments go to pytest.
// Where Python or the package index cannot be reached it says so and is skipped; FRAMESD_INTEROP=required fails instead.
import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const suite = join(root, 'test/interop')
const environment = join(root, '.venv-interop')
const requirements = join(suite, 'requirements.txt')
const isWindows = process.platform === 'win32'
const python = join(environment, isWindows ? 'Scripts/python.exe' : 'bin/python')
/** From the first line of the server to the line that says it is running. */
const startMs = 60_000
const stopMs = 60_000

class Unavailable extends Error {}

/** The first Python that is new enough for the pinned packages and can make virtual environments. */
function findPython() {
  const check = 'import sys, venv, ensurepip; sys.exit(0 if sys.version_info >= (3, 9) else 1)'
  for (const command of ['python3', 'python']) {
    try {
      execFileSync(command, ['-c', check], { stdio: 'ignore' })
      return command
    } catch {
      // Not there, too old, or without venv: the next name, and at last the skip below.
    }
  }
  throw new Unavailable('there is no python3 of version 3.9 or newer with the modules venv and ensurepip')
}

/** Makes the virtual environment, once for each content of requirements.txt. */
function prepareEnvironment() {
  const stamp = join(environment, '.requirements')
  const wanted = createHash('sha256').update(readFileSync(requirements)).digest('hex')
  if (existsSync(python) && existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  const command = findPython()
  console.log('interop: installing the published Python client (once) ...')
  rmSync(environment, { recursive: true, force: true })
  execFileSync(command, ['-m', 'venv', environment], { stdio: ['ignore', 'ignore', 'inherit'] })
  try {
    const options = ['--quiet', '--disable-pip-version-check', '--retries', '2', '--timeout', '30']
    execFileSync(python, ['-m', 'pip', 'install', ...options, '-r', requirements], {
      stdio: ['ignore', 'inherit', 'inherit'],
    })
  } catch {
    rmSync(environment, { recursive: true, force: true })
    throw new Unavailable('pip could not install test/interop/requirements.txt: is the package index reachable?')
  }
  writeFileSync(stamp, wanted)
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
    return { server, exited, output: () => output, ...(await addresses) }
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
function runPytest(running, args, variables = {}) {
  const options = ['-m', 'pytest', '-p', 'no:cacheprovider', '--tb=short', '-q', ...args]
  const env = {
    ...process.env,
    FRAMESD_GRPC: `grpc://${running.grpc}`,
    FRAMESD_HTTP: `http://${running.http}`,
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

async function main() {
  try {
    prepareEnvironment()
  } catch (error) {
    if (!(error instanceof Unavailable) || process.env.FRAMESD_INTEROP === 'required') throw error
    const line = '!'.repeat(100)
    console.log(`${line}\n!!! INTEROP SKIPPED: ${error.message}\n${line}`)
    return 0
  }
  const dataDir = mkdtempSync(join(tmpdir(), 'framesd-interop-'))
  const args = process.argv.slice(2)
  let status = 1
  try {
    status = await withServer(dataDir, (running) => runPytest(running, args))
    // With arguments only what they name is run.
    for (const isRestarted of ['0', '1']) {
      if (status !== 0 || args.length > 0) break
      const variables = { FRAMESD_RESTARTED: isRestarted }
      status = await withServer(dataDir, (running) => runPytest(running, ['after_restart.py'], variables))
    }
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
  console.log(status === 0 ? 'interop: the published Python client passed, over gRPC and HTTP' : 'interop: FAILED')
  return status
}

process.exitCode = await main()
