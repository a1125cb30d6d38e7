// A bare gRPC call, to hold a real one against: the same library, the same size of message, and nothing else.
import { Client, credentials } from '@grpc/grpc-js'

export const echoPath = '/bench.Bench/Echo'

export class EchoClient {
  readonly #client: Client

  constructor(address: string) {
    this.#client = new Client(address, credentials.createInsecure())
  }

  call(message: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const identity = (bytes: Buffer): Buffer => bytes
      this.#client.makeUnaryRequest(echoPath, identity, identity, message, (error, answer) => {
        if (error !== null) reject(error)
        else if (answer === undefined) reject(new Error('an empty answer'))
        else resolve(answer)
      })
    })
  }

  close(): void {
    this.#client.close()
  }
}
