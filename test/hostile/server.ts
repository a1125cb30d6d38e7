// A real server as a process of its own, and raw ways to talk to it: bytes of our choice, status and text as they come.
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { request as requestHttp } from 'node:http'
import { fileURLToPath } from 'node:url'
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { Client as RpcClient, credentials, type ServiceError } from '@grpc/grpc-js'
import { splitMessages } from '../../dist/engine/codec/message-stream.js'
import { decodeFrame } from './frames.js'
import type { Frame } from '../../dist/proto/gen/frames_pb.js'
import {
  CreateRequestSchema,
  DeleteRequestSchema,
  ExecRequestSchema,
  InitialWriteRequestSchema,
  ReadRequestSchema,
  WriteRequestSchema,
} from '../../dist/proto/gen/frames_pb.js'

const program = fileURLToPath(new URL('../../dist/server/main.js', import.meta.url))
const children = new Set<ChildProcess>()

/** For the end of a test file: nothing that was started here goes on. */
export function killServers(): void {
  for (const child of children) child.kill('SIGKILL')
}

/** What a call was answered: the gRPC status and its text. */
export interface Answer {
  readonly code: number
  readonly text: string
}

export interface HttpAnswer {
  readonly status: number
  readonly body: Buffer
}

export type ReadInit = Omit<MessageInitShape<typeof ReadRequestSchema>, '$typeName'>
export type WriteInit = Omit<MessageInitShape<typeof InitialWriteRequestSchema>, '$typeName'>

const identity = (bytes: Buffer): Buffer => bytes
const service = '/pb.Frames/'
const ok: Answer = { code: 0, text: '' }

export function readBytes(fields: ReadInit): Buffer {
  const message = create(ReadRequestSchema, { backend: 'tsdb', start: '0', end: '13569465600000', ...fields })
  return Buffer.from(toBinary(ReadRequestSchema, message))
}

const initialWrite = (fields: WriteInit) => create(InitialWriteRequestSchema, { backend: 'tsdb', ...fields })

/** The head of a write as HTTP has it. */
export const initialWriteBytes = (fields: WriteInit): Uint8Array =>
  toBinary(InitialWriteRequestSchema, initialWrite(fields))

/** The head of a write as gRPC has it. */
export function headBytes(fields: WriteInit): Buffer {
  const value = initialWrite(fields)
  return Buffer.from(toBinary(WriteRequestSchema, create(WriteRequestSchema, { type: { case: 'request', value } })))
}

/** A WriteRequest around the bytes of a frame, whatever they are. */
export function frameMessageOf(frame: Uint8Array): Buffer {
  const length: number[] = []
  let rest = frame.byteLength
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) length.push((rest % 0x80) | 0x80)
  length.push(rest)
  return Buffer.concat([Buffer.from([0x12, ...length]), frame])
}

export class HostileServer {
  readonly child: ChildProcess
  readonly grpcPort: number
  readonly httpPort: number
  readonly #output: { text: string }
  readonly rpc: RpcClient

  private constructor(child: ChildProcess, output: { text: string }, httpPort: number, grpcPort: number) {
    this.child = child
    this.#output = output
    this.httpPort = httpPort
    this.grpcPort = grpcPort
    this.rpc = this.connect()
  }

  /** Starts the program on free ports; rejects with all that it printed when it ends instead. */
  static async start(dataDir: string, options: { readonly timeoutMs?: number } = {}): Promise<HostileServer> {
    const address = '127.0.0.1:0'
    const args = [program, '--data-dir', dataDir, '--grpc-addr', address, '--http-addr', address]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    children.add(child)
    child.once('exit', () => children.delete(child))
    const output = { text: '' }
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no start: ${output.text}`)), options.timeoutMs ?? 30_000)
      child.once('exit', (code) => {
        clearTimeout(timer)
        reject(new Error(`ended with ${code}: ${output.text}`))
      })
      const take = (chunk: Buffer): void => {
        output.text += chunk
        const ports = /server running on http=127\.0\.0\.1:(\d+), grpc=127\.0\.0\.1:(\d+)/.exec(output.text)
        if (ports === null) return
        clearTimeout(timer)
        resolve(new HostileServer(child, output, Number(ports[1]), Number(ports[2])))
        child.stdout!.off('data', take).on('data', (more: Buffer) => {
          output.text += more
        })
      }
      child.stdout!.on('data', take)
      child.stderr!.on('data', (chunk: Buffer) => {
        output.text += chunk
      })
    })
  }

  /** All that the process has printed. */
  get output(): string {
    return this.#output.text
  }

  /** A connection of its own. */
  connect(): RpcClient {
    return new RpcClient(`127.0.0.1:${this.grpcPort}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      'grpc.enable_retries': 0,
      'grpc.use_local_subchannel_pool': 1,
    })
  }

  /** Memory of the process that is not a file's, in bytes. */
  memoryByteLength(): number {
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8')
    const kiB = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
    return 1024 * (kiB('RssAnon') + kiB('RssShmem'))
  }

  unary(method: string, bytes: Uint8Array, rpc = this.rpc): Promise<Answer> {
    return new Promise((resolve) => {
      rpc.makeUnaryRequest(service + method, identity, identity, Buffer.from(bytes), (error) =>
        resolve(error === null ? ok : answerOf(error)),
      )
    })
  }

  create(table: string, fields: Omit<MessageInitShape<typeof CreateRequestSchema>, '$typeName'> = {}): Promise<Answer> {
    const message = create(CreateRequestSchema, { backend: 'tsdb', table, rate: '1/s', ...fields })
    return this.unary('Create', toBinary(CreateRequestSchema, message))
  }

  delete(table: string, fields: Omit<MessageInitShape<typeof DeleteRequestSchema>, '$typeName'> = {}): Promise<Answer> {
    const message = create(DeleteRequestSchema, { backend: 'tsdb', table, ...fields })
    return this.unary('Delete', toBinary(DeleteRequestSchema, message))
  }

  execute(table: string, command: string): Promise<Answer> {
    const message = create(ExecRequestSchema, { backend: 'tsdb', table, command })
    return this.unary('Exec', toBinary(ExecRequestSchema, message))
  }

  /** Messages of a Write stream, as they are. */
  writeRaw(messages: Iterable<Uint8Array>, rpc = this.rpc): Promise<Answer> {
    return new Promise((resolve) => {
      const call = rpc.makeClientStreamRequest(`${service}Write`, identity, identity, (error) => {
        resolve(error === null ? ok : answerOf(error))
        isDone = true
        wake()
      })
      let isDone = false
      let wake = (): void => {}
      call.on('error', () => {})
      call.on('drain', () => wake())
      const send = async (): Promise<void> => {
        for (const message of messages) {
          if (isDone) return
          if (!call.write(Buffer.from(message)))
            await new Promise<void>((goOn) => {
              wake = goOn
            })
        }
        call.end()
      }
      void send()
    })
  }

  write(table: string, frames: Iterable<Uint8Array>, rpc = this.rpc): Promise<Answer> {
    function* messages() {
      yield headBytes({ table })
      for (const frame of frames) yield frameMessageOf(frame)
    }
    return this.writeRaw(messages(), rpc)
  }

  async readRaw(request: Uint8Array, rpc = this.rpc): Promise<{ answer: Answer; frames: Buffer[] }> {
    const call = rpc.makeServerStreamRequest(`${service}Read`, identity, identity, Buffer.from(request))
    const frames: Buffer[] = []
    return await new Promise((resolve) => {
      call.on('data', (frame: Buffer) => frames.push(frame))
      call.on('error', (error: ServiceError) => resolve({ answer: answerOf(error), frames }))
      call.on('end', () => resolve({ answer: ok, frames }))
    })
  }

  async read(fields: ReadInit, rpc = this.rpc): Promise<{ answer: Answer; frames: Frame[] }> {
    const { answer, frames } = await this.readRaw(readBytes(fields), rpc)
    return { answer, frames: frames.map(decodeFrame) }
  }

  http(path: string, body: Uint8Array | string, headers: Record<string, string> = {}): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      const options = { host: '127.0.0.1', port: this.httpPort, path, method: 'POST', headers, agent: false as const }
      const request = requestHttp(options, (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => resolve({ status: response.statusCode!, body: Buffer.concat(chunks) }))
      })
      request.on('error', reject)
      request.end(body)
    })
  }

  async httpText(path: string, body: Uint8Array | string): Promise<string> {
    const answer = await this.http(path, body)
    return `${answer.status} ${answer.body}`
  }

  /** The frames of an HTTP read. */
  async httpRead(fields: object): Promise<Frame[]> {
    const body = JSON.stringify({ backend: 'tsdb', start: '0', end: '13569465600000', ...fields })
    const answer = await this.http('/read', body)
    if (answer.status !== 200) throw new Error(`${answer.status} ${answer.body}`)
    const frames: Frame[] = []
    const source = (async function* () {
      yield answer.body
    })()
    for await (const message of splitMessages(source, 2 ** 27)) frames.push(decodeFrame(message))
    return frames
  }

  /** Sends a signal and waits for the end: exit status and how it came. */
  async end(signal: NodeJS.Signals): Promise<{ status: number | null; ms: number }> {
    const startMs = performance.now()
    const ended = new Promise<number | null>((resolve) => this.child.once('exit', (status) => resolve(status)))
    this.child.kill(signal)
    const status = await ended
    return { status, ms: performance.now() - startMs }
  }
}

function answerOf(error: ServiceError): Answer {
  return { code: error.code, text: error.details }
}
