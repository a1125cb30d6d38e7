// Makes a clone ready: installs the packages of the lock file when they are not there yet, then builds what is
// older than its sources. Every script of package.json that needs either calls this first, so one command is enough.
import { execFileSync } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'

const root = new URL('..', import.meta.url)
const installed = new URL('node_modules/.package-lock.json', root)
const lock = new URL('package-lock.json', root)

const [major] = process.versions.node.split('.').map(Number)
if (major < 20) {
  console.error(`framesd needs Node.js 20 or newer; this is ${process.version}`)
  process.exit(1)
}
if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(lock).mtimeMs) {
  console.log('installing packages (once) ...')
  // Not `npm ci`: it refuses a lock file that lacks the binaries of other systems. Install scripts are not needed.
  const options = ['--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']
  execFileSync('npm', ['install', ...options], { cwd: root, stdio: 'inherit' })
}
await import('./build.mjs')
