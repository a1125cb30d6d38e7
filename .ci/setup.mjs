// Makes a clone ready: installs the exact packages of the lock file when they are not there yet, then builds what is
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
  execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: root, stdio: 'inherit' })
}
await import('./build.mjs')
