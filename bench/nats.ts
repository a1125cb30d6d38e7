// A NATS server with JetStream of the bench's own (when it is installed), and as much of its protocol as a load needs:
// publishes that are acknowledged, and one consumer that reads all.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { freePort } from './redis.js'

const stream = 'bench'
const subject = 'bench.records'
const inbox = '_INBOX.bench'

export function natsVersion(): string | null {
  const { status, stdout } = spawnSync('nats-server', ['--version'], { encoding: 'utf8' })
  return status === 0 ? (/v(\d\S*)/.exec(stdout)?.[1] ?? 'unknown') : null
}

export class Nats {
  readonly #child: ChildProcess
  readonly #socket: Socket
  #rest: Buffer = Buffer.alloc(0)
  #waiting: { count: number; resolve: (last: string) => void; reject: (error: Error) => void } | null = null

  private constructor(child: ChildProcess, socket: Socket) {
    this.#child = child
    this.#socket = socket
    socket.on('data', (chunk) => this.#take(chunk))
    const fail = (error?: Error) => this.#waiting?.reject(error ?? new Error('NATS has closed the connection'))
    socket.on('error', fail)
    socket.on('close', () => fail())
  }

  /** A server with one stream of one subject, stored in files. */
  static async start(folder: string): Promise<Nats> {
    mkdirSync(folder, { recursive: true })
    const port = await freePort()
    const child = spawn('nats-server', ['-a', '127.0.0.1', '-p', String(port), '-js', '-sd', folder], {
      stdio: 'ignore',
    })
    const stop = () => child.kill('SIGKILL')
    process.once('exit', stop)
    child.once('exit', () => process.off('exit', stop))
    for (let tries = 0; ; tries++) {
      const socket = connect({ host: '127.0.0.1', port, noDelay: true })
      try {
        await once(socket, 'connect')
        const nats = new Nats(child, socket)
        socket.write(`CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\nSUB ${inbox}.* 1\r\n`)
        await nats.#ask(`$JS.API.STREAM.CREATE.${stream}`, { name: stream, subjects: [subject], storage: 'file' })
        return nats
      } catch (error) {
        socket.destroy()
        if (tries === 100 || child.exitCode !== null) throw error
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
  }

  /** Publishes records and resolves when each is acknowledged. */
  async publish(records: readonly string[]): Promise<void> {
    const answered = this.#answers(records.length)
    this.#socket.write(
      records.map((record) => `PUB ${subject} ${inbox}.ack ${Buffer.byteLength(record)}\r\n${record}\r\n`).join(''),
    )
    await answered
  }

  /** Reads `count` records from the first on, some thousands a pull. */
  async readAll(count: number): Promise<void> {
    await this.#ask(`$JS.API.CONSUMER.CREATE.${stream}`, {
      stream_name: stream,
      config: { name: 'reader', deliver_policy: 'all', ack_policy: 'none', max_waiting: 512 },
    })
    const batch = 10_000
    for (let read = 0; read < count; read += batch) {
      const wanted = Math.min(batch, count - read)
      const answered = this.#answers(wanted)
      const request = JSON.stringify({ batch: wanted })
      this.#socket.write(
        `PUB $JS.API.CONSUMER.MSG.NEXT.${stream}.reader ${inbox}.pull ${request.length}\r\n${request}\r\n`,
      )
      await answered
    }
  }

  async #ask(name: string, body: object): Promise<void> {
    const text = JSON.stringify(body)
    const answered = this.#answers(1)
    this.#socket.write(`PUB ${name} ${inbox}.ask ${Buffer.byteLength(text)}\r\n${text}\r\n`)
    const answer = await answered
    if (answer.includes('"error"')) throw new Error(`NATS: ${answer}`)
  }

  #answers(count: number): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiting = { count, resolve, reject }
    })
  }

  /** Counts messages: `MSG subject sid [reply] length`, with a head of headers `HMSG … headers length`. */
  #take(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    let at = 0
    for (;;) {
      const lineEnd = bytes.indexOf('\r\n', at)
      if (lineEnd < 0) break
      const isMessage = bytes[at] === 0x4d || bytes[at] === 0x48 // M, H
      if (!isMessage) {
        const line = bytes.toString('latin1', at, lineEnd)
        if (line === 'PING') this.#socket.write('PONG\r\n')
        if (line.startsWith('-ERR')) this.#waiting?.reject(new Error(`NATS: ${line}`))
        at = lineEnd + 2
        continue
      }
      const line = bytes.toString('latin1', at, lineEnd)
      const byteLength = Number(line.slice(line.lastIndexOf(' ') + 1))
      const end = lineEnd + 2 + byteLength + 2
      if (end > bytes.length) break
      const waiting = this.#waiting
      if (waiting !== null && --waiting.count === 0) {
        this.#waiting = null
        waiting.resolve(bytes.toString('utf8', lineEnd + 2, end - 2))
      }
      at = end
    }
    this.#rest = bytes.subarray(at)
  }

  async stop(): Promise<void> {
    this.#socket.removeAllListeners('close')
    this.#socket.destroy()
    this.#child.kill('SIGKILL')
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit')
  }
}
