// The least a gRPC call costs: a server that answers each message with itself. Says its port, then serves until it is ended.
import { Server, ServerCredentials } from '@grpc/grpc-js'
import { echoPath } from './echo.js'

const server = new Server()
const identity = (bytes: Buffer): Buffer => bytes
server.addService(
  {
    Echo: {
      path: echoPath,
      requestStream: false,
      responseStream: false,
      requestSerialize: identity,
      requestDeserialize: identity,
      responseSerialize: identity,
      responseDeserialize: identity,
    },
  },
  {
    Echo: (call: { request: Buffer }, callback: (error: null, answer: Buffer) => void) => callback(null, call.request),
  },
)
server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error
  process.stdout.write(`grpc=127.0.0.1:${port}\n`)
})
