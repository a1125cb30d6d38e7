// Server reflection (v1 and v1alpha), from the descriptor inside the generated code: no file is needed at run time.
import { create, toBinary } from '@bufbuild/protobuf'
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'
import { type ServiceDefinition, status, type UntypedServiceImplementation } from '@grpc/grpc-js'
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader'
import { ReflectionService } from '@grpc/reflection'
import { FramesError } from '../engine/index.js'
import { file_frames } from '../proto/gen/frames_pb.js'
import { MessageBuffers, messagePrefixByteLength, writePrefix } from './grpc-messages.js'
import { type RequestBounds, RequestMessages } from './rpc-requests.js'
import { type RpcStream, statusOnly } from './rpc-stream.js'

/** What @grpc/reflection does with a call: it listens to messages, and writes one for each. */
type Handler = (stream: ReflectionStream) => void

interface ReflectionMethod {
  readonly requestDeserialize: (bytes: Buffer) => unknown
  readonly responseSerialize: (message: unknown) => Buffer
}

/** The methods of server reflection by their paths. */
export function reflectionMethods(bounds: RequestBounds): Map<string, (rpc: RpcStream) => void> {
  const descriptors = create(FileDescriptorSetSchema, { file: [file_frames.proto] })
  const contract = loadFileDescriptorSetFromBuffer(Buffer.from(toBinary(FileDescriptorSetSchema, descriptors)))
  const methods = new Map<string, (rpc: RpcStream) => void>()
  const server = {
    addService(service: ServiceDefinition, handlers: UntypedServiceImplementation): void {
      for (const [name, method] of Object.entries(service)) {
        const handler = handlers[name] as unknown as Handler
        methods.set(method.path, (rpc) => void serve(rpc, method, handler, bounds))
      }
    },
  }
  new ReflectionService(contract).addToServer(server)
  return methods
}

/** The half of a grpc-js call that @grpc/reflection uses. */
class ReflectionStream {
  readonly #rpc: RpcStream
  readonly #method: ReflectionMethod
  readonly #listeners = new Map<string, (message?: unknown) => void>()
  /** There is room for the next answer. */
  room: Promise<void> | null = null

  constructor(rpc: RpcStream, method: ReflectionMethod) {
    this.#rpc = rpc
    this.#method = method
  }

  on(event: 'data' | 'end', listener: (message?: unknown) => void): void {
    this.#listeners.set(event, listener)
  }

  tell(event: 'data' | 'end', message?: unknown): void {
    this.#listeners.get(event)?.(message)
  }

  write(message: unknown): void {
    const bytes = this.#method.responseSerialize(message)
    const output = Buffer.allocUnsafe(messagePrefixByteLength + bytes.byteLength)
    writePrefix(output, 0, bytes.byteLength)
    output.set(bytes, messagePrefixByteLength)
    this.room = this.#rpc.send(output, () => undefined)
  }

  end(): void {
    this.#rpc.finish()
  }
}

async function serve(rpc: RpcStream, method: ReflectionMethod, handler: Handler, bounds: RequestBounds): Promise<void> {
  const { limits } = bounds
  const requests = new RequestMessages(
    rpc,
    { ...bounds, limits: { ...limits, messageByteLengthMax: limits.controlByteLengthMax } },
    new MessageBuffers(0),
  )
  rpc.onBroken((error) => {
    if (error.kind === 'deadline') rpc.fail(statusOnly(status.DEADLINE_EXCEEDED, error.message))
    else rpc.fail(statusOnly(status.RESOURCE_EXHAUSTED, error.message))
  })
  rpc.read(requests)
  const stream = new ReflectionStream(rpc, method)
  handler(stream)
  try {
    for (;;) {
      const bytes = await requests.next()
      if (bytes === null) break
      stream.tell('data', method.requestDeserialize(bytes))
      requests.forget()
      if (stream.room !== null) await stream.room
    }
    stream.tell('end')
  } catch (error) {
    const code = error instanceof FramesError ? status.RESOURCE_EXHAUSTED : status.INTERNAL
    rpc.fail(statusOnly(code, `the request cannot be read: ${error instanceof Error ? error.message : String(error)}`))
  }
}
