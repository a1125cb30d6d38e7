// The server of the demo, in a process of its own: what a user would start.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('../main.js', import.meta.url))
const startMsMax = 60_000

export interface ServerProcess {
  readonly httpPort: number
  readonly grpcPort: number
  /** Resolves when the process has ended, for whatever reason. */
  readonly ended: Promise<void>
  stop(): Promise<void>
}

/** The server said why it cannot start. */
export class ServerRefused extends Error {
  override readonly name = 'ServerRefused'
}

/** Whether a server may listen on a port of this machine. */
export async function isPortFree(port: number): Promise<boolean> {
  const probe = createServer()
  try {
    probe.listen(port, '127.0.0.1')
    await once(probe, 'listening')
    return true
  } catch {
    return false
  } finally {
    probe.close()
  }
}

/** Starts the server; port 0 is any free one. Throws ServerRefused with what it printed. */
export async function startServerProcess(options: {
  dataDir: string
  httpPort: number
  grpcPort: number
}): Promise<ServerProcess> {
  const { dataDir, httpPort, grpcPort } = options
  const addresses = ['--http-addr', `127.0.0.1:${httpPort}`, '--grpc-addr', `127.0.0.1:${grpcPort}`]
  const child = spawn(process.execPath, [program, '--data-dir', dataDir, ...addresses, '--log-level', 'error'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  // It never outlives the demo, however that ends.
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  ended.then(() => process.removeListener('exit', kill))
  const ports = await portsOf(child, ended)
  return {
    ...ports,
    ended,
    async stop() {
      child.kill('SIGTERM')
      await ended
    },
  }
}

/** Waits for the line that says where the server listens. */
async function portsOf(child: ChildProcess, ended: Promise<void>): Promise<{ httpPort: number; grpcPort: number }> {
  let complaint = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(0, 4000)
  })
  let timer: NodeJS.Timeout | undefined
  try {
    return await new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new ServerRefused('the server did not start in a minute')), startMsMax)
      ended.then(() => reject(new ServerRefused(complaint.trim() || 'the server ended before it listened')))
      child.once('error', reject)
      // Goes on reading afterwards: a pipe that nobody empties would stop the server.
      createInterface({ input: child.stdout! }).on('line', (line) => {
        const match = /http=\S*:(\d+), grpc=\S*:(\d+)/.exec(line)
        if (match !== null) resolve({ httpPort: Number(match[1]), grpcPort: Number(match[2]) })
      })
    })
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  } finally {
    clearTimeout(timer)
  }
}
