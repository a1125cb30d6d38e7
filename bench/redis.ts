// A Redis server of the bench's own (when it is installed), and as much of its protocol as a load needs: commands in a row,
// answers counted.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'

/** `always`: each write is synced before it is answered. `everysec`: once a second. */
export type RedisSync = 'always' | 'everysec'

export function redisVersion(): string | null {
  const { status, stdout } = spawnSync('redis-server', ['--version'], { encoding: 'utf8' })
  return status === 0 ? (/v=(\S+)/.exec(stdout)?.[1] ?? 'unknown') : null
}

export class Redis {
  readonly #child: ChildProcess
  readonly #socket: Socket
  readonly #replies: ReplyCounter

  private constructor(child: ChildProcess, socket: Socket) {
    this.#child = child
    this.#socket = socket
    this.#replies = new ReplyCounter(socket)
  }

  static async start(folder: string, sync: RedisSync): Promise<Redis> {
    mkdirSync(folder, { recursive: true })
    const port = await freePort()
    const options = [
      '--bind',
      '127.0.0.1',
      '--port',
      String(port),
      '--dir',
      folder,
      '--save',
      '',
      '--appendonly',
      'yes',
    ]
    const child = spawn('redis-server', [...options, '--appendfsync', sync, '--loglevel', 'warning'], {
      stdio: 'ignore',
    })
    const stop = () => child.kill('SIGKILL')
    process.once('exit', stop)
    child.once('exit', () => process.off('exit', stop))
    for (let tries = 0; ; tries++) {
      const socket = connect({ host: '127.0.0.1', port, noDelay: true })
      try {
        await once(socket, 'connect')
        return new Redis(child, socket)
      } catch (error) {
        socket.destroy()
        if (tries === 100 || child.exitCode !== null) throw error
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
  }

  /** Sends commands and resolves when all of them are answered; rejects when one answer is an error. */
  async run(commands: Uint8Array, count: number): Promise<void> {
    const answered = this.#replies.wait(count)
    this.#socket.write(commands)
    await answered
  }

  async stop(): Promise<void> {
    this.#socket.destroy()
    this.#child.kill('SIGKILL')
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit')
  }
}

/** One command as Redis reads it. */
export function redisCommand(...words: readonly string[]): string {
  return `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`
}

/** Counts whole answers: lines, bulk strings, and arrays of them. */
class ReplyCounter {
  #rest: Buffer = Buffer.alloc(0)
  /** Parts that are still missing of an array. */
  #openParts = 0
  readonly #waiting: { count: number; resolve: () => void; reject: (error: Error) => void }[] = []

  constructor(socket: Socket) {
    socket.on('data', (chunk) => this.#take(chunk))
    const fail = (error?: Error) => {
      for (const { reject } of this.#waiting.splice(0)) reject(error ?? new Error('Redis has closed the connection'))
    }
    socket.on('error', fail)
    socket.on('close', () => fail())
  }

  wait(count: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ count, resolve, reject })
    })
  }

  #take(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    let at = 0
    for (;;) {
      const lineEnd = bytes.indexOf('\r\n', at)
      if (lineEnd < 0) break
      const kind = bytes[at]
      let end = lineEnd + 2
      if (kind === 0x24 /* $ */) {
        const byteLength = Number(bytes.toString('latin1', at + 1, lineEnd))
        if (byteLength >= 0) end += byteLength + 2
        if (end > bytes.length) break
      }
      if (kind === 0x2d /* - */) {
        const error = new Error(`Redis: ${bytes.toString('utf8', at + 1, lineEnd)}`)
        for (const { reject } of this.#waiting.splice(0)) reject(error)
      }
      const inArray = this.#openParts > 0
      if (inArray) this.#openParts--
      if (kind === 0x2a /* * */) this.#openParts += Number(bytes.toString('latin1', at + 1, lineEnd))
      if (this.#openParts === 0) this.#answered()
      at = end
    }
    this.#rest = bytes.subarray(at)
  }

  #answered(): void {
    const [first] = this.#waiting
    if (first === undefined || --first.count > 0) return
    this.#waiting.shift()
    first.resolve()
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('a listening socket has an address')
  return address.port
}
