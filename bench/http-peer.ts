// A server of another make that the bench starts (where it is installed) and talks to over HTTP: one process, one temporary
// folder, free ports of loopback, connections that stay open.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { delimiter, join } from 'node:path'

export function isInstalled(program: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((folder) => existsSync(join(folder, program)))
}

export class HttpPeer {
  readonly #name: string
  readonly #port: number
  readonly #child: ChildProcess
  readonly #agent = new Agent({ keepAlive: true, noDelay: true })

  private constructor(name: string, port: number, child: ChildProcess) {
    this.#name = name
    this.#port = port
    this.#child = child
  }

  /** Resolves when `pingPath` is answered. */
  static async start(program: string, args: readonly string[], port: number, pingPath: string): Promise<HttpPeer> {
    const child = spawn(program, args, { stdio: 'ignore' })
    const stop = () => child.kill('SIGKILL')
    process.once('exit', stop)
    child.once('exit', () => process.off('exit', stop))
    const peer = new HttpPeer(program, port, child)
    for (let tries = 0; ; tries++) {
      try {
        await peer.call('GET', pingPath)
        return peer
      } catch (error) {
        if (tries === 200 || child.exitCode !== null) throw error
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
  }

  /** Rejects with what the server says when its answer is no success. */
  call(method: 'GET' | 'POST', path: string, body: Uint8Array | null = null): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const headers = body === null ? {} : { 'content-length': body.byteLength }
      const options = { host: '127.0.0.1', port: this.#port, agent: this.#agent, method, path, headers }
      const call = request(options, (answer) => {
        const parts: Buffer[] = []
        answer.on('data', (part: Buffer) => parts.push(part))
        answer.on('error', reject)
        answer.on('end', () => {
          const bytes = parts.length === 1 ? parts[0] : Buffer.concat(parts)
          if (answer.statusCode !== undefined && answer.statusCode < 300) resolve(bytes)
          else reject(new Error(`${this.#name}: ${answer.statusCode} ${bytes.toString().slice(0, 500)}`))
        })
      })
      call.on('error', reject)
      call.end(body)
    })
  }

  /** Sends bodies, `count` of them at a time. */
  async sendAll(path: string, bodies: readonly Uint8Array[], count: number): Promise<void> {
    let next = 0
    const sendSome = async () => {
      while (next < bodies.length) await this.call('POST', path, bodies[next++])
    }
    await Promise.all(Array.from({ length: count }, sendSome))
  }

  /** SIGTERM lets it write down what it holds. */
  async stop(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    this.#agent.destroy()
    this.#child.kill(signal)
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit')
  }
}
