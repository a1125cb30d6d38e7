// Bare gRPC calls, to hold real ones against: the same library, the same size of message, and nothing else.
import { Client, credentials } from '@grpc/grpc-js'

export const echoPath = '/bench.Bench/Echo'
export const bytesPath = '/bench.Bench/Bytes'
const identity = (bytes: Buffer): Buffer => bytes
const byteLengthMax = 128 * 1024 * 1024

export class EchoClient {
  readonly #client: Client

  /** windowByteLength: what may come before it is read; grpc-js's own 64 KiB unless given. */
  constructor(address: string, windowByteLength?: number) {
    this.#client = new Client(address, credentials.createInsecure(), {
      'grpc.max_receive_message_length': byteLengthMax,
      ...(windowByteLength === undefined ? {} : { 'grpc-node.flow_control_window': windowByteLength }),
    })
  }

  call(message: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(echoPath, identity, identity, message, (error, answer) => {
        if (error !== null) reject(error)
        else if (answer === undefined) reject(new Error('an empty answer'))
        else resolve(answer)
      })
    })
  }

  /** Ready-made messages of these lengths. */
  bytes(byteLengths: readonly number[]): AsyncIterable<Buffer> {
    const request = Buffer.from(JSON.stringify(byteLengths))
    return this.#client.makeServerStreamRequest(bytesPath, identity, identity, request)
  }

  close(): void {
    this.#client.close()
  }
}
