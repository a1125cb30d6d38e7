// The least that gRPC costs: a server that answers each message with itself, or sends ready-made bytes as fast as it can.
// Says its port, then serves until it is ended.
import { Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js'
import { bytesPath, echoPath } from './echo.js'

const server = new Server()
const identity = (bytes: Buffer): Buffer => bytes
const asBytes = {
  requestStream: false,
  requestSerialize: identity,
  requestDeserialize: identity,
  responseSerialize: identity,
  responseDeserialize: identity,
}

/** One message of each length that the request lists, with back-pressure. */
function sendBytes(call: ServerWritableStream<Buffer, Buffer>): void {
  const lengths = JSON.parse(call.request.toString()) as number[]
  const ready = Buffer.alloc(Math.max(0, ...lengths), 1)
  let next = 0
  const send = () => {
    if (next === lengths.length) call.end()
    else call.write(ready.subarray(0, lengths[next++]), send)
  }
  send()
}

server.addService(
  {
    Echo: { ...asBytes, path: echoPath, responseStream: false },
    Bytes: { ...asBytes, path: bytesPath, responseStream: true },
  },
  {
    Echo: (call: { request: Buffer }, callback: (error: null, answer: Buffer) => void) => callback(null, call.request),
    Bytes: sendBytes,
  },
)
server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error
  process.stdout.write(`grpc=127.0.0.1:${port}\n`)
})
