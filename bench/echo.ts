// A bare gRPC call, to hold a real one against: the same library, the same size of message, and nothing else.
import { Client, credentials } from '@grpc/grpc-js'

export const echoPath = '/bench.Bench/Echo'
export const streamPath = '/bench.Bench/Stream'
const identity = (bytes: Buffer): Buffer => bytes

export class EchoClient {
  readonly #client: Client

  constructor(address: string) {
    this.#client = new Client(address, credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      // As the client of framesd.
      'grpc-node.flow_control_window': 8 * 1024 * 1024,
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

  /** Takes ready-made messages of these lengths; how many bytes came. */
  async stream(byteLengths: readonly number[]): Promise<number> {
    const request = Buffer.from(JSON.stringify(byteLengths))
    let byteLength = 0
    const call = this.#client.makeServerStreamRequest(streamPath, identity, identity, request)
    for await (const message of call as AsyncIterable<Buffer>) byteLength += message.byteLength
    return byteLength
  }

  close(): void {
    this.#client.close()
  }
}
