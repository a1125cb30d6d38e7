// The least a gRPC call costs: a server that answers each message with itself, and each list of lengths with a stream of
// ready-made messages of these lengths. Says its port, then serves until it is ended.
import { Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js'
import { echoPath, streamPath } from './echo.js'

const server = new Server({ 'grpc.max_send_message_length': -1 })
const identity = (bytes: Buffer): Buffer => bytes
const bytesOnly = {
  requestStream: false,
  requestSerialize: identity,
  requestDeserialize: identity,
  responseSerialize: identity,
  responseDeserialize: identity,
}
let ready = Buffer.alloc(0)

async function stream(call: ServerWritableStream<Buffer, Buffer>): Promise<void> {
  const byteLengths = JSON.parse(call.request.toString()) as number[]
  const longest = Math.max(0, ...byteLengths)
  if (ready.byteLength < longest) ready = Buffer.alloc(longest, 7)
  for (const byteLength of byteLengths)
    await new Promise((resolve) => call.write(ready.subarray(0, byteLength), resolve))
  call.end()
}

server.addService(
  {
    Echo: { ...bytesOnly, path: echoPath, responseStream: false },
    Stream: { ...bytesOnly, path: streamPath, responseStream: true },
  },
  {
    Echo: (call: { request: Buffer }, callback: (error: null, answer: Buffer) => void) => callback(null, call.request),
    Stream: (call: ServerWritableStream<Buffer, Buffer>) => {
      stream(call).catch((error: Error) => call.destroy(error))
    },
  },
)
server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error
  process.stdout.write(`grpc=127.0.0.1:${port}\n`)
})
