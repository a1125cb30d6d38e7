// The client process of the load over gRPC: draws the workload, says `ready`, then loads it into a table for each line of
// stdin ({"table", "layout"}) and answers with a line ({"loadMs", "cpuMs", "byteLength"}). The clock runs here, from the
// first typed array to the last acknowledged frame: encoding the frames is part of it.
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { type Client, connect } from '../client/index.js'
import { frameByteLength, layFrame } from '../engine/codec/columns.js'
import { encodedFrameBound, encodeFrame } from '../engine/codec/wire.js'
import type { Frame } from '../engine/index.js'
import { createMemory, kernelHeapBase, type Kernels, loadKernels } from '../engine/kernels/kernels.js'
import { elapsedMs } from './clock.js'
import { framesOf, type Layout, layouts } from './layouts.js'
import { backend, writeCount } from './load-embedded.js'
import { drawWorkload } from './tsbs.js'

export interface LoadOrder {
  readonly table: string
  readonly layout: Layout
}

export interface LoadReply {
  readonly loadMs: number
  /** Of this process, all threads. */
  readonly cpuMs: number
  /** Frames on the wire. */
  readonly byteLength: number
}

/** One frame's columns and its message; each stream has one, since a frame is copied before the next one is asked for. */
interface EncoderPlace {
  readonly frameOffset: number
  readonly messageOffset: number
  readonly messageByteLengthMax: number
}

function encodeInto(kernels: Kernels, frame: Frame, place: EncoderPlace): Uint8Array {
  const slices = layFrame(kernels, frame, place.frameOffset)
  const byteLength = encodeFrame(kernels, slices, place.messageOffset, place.messageByteLengthMax)
  return kernels.u8.subarray(place.messageOffset, place.messageOffset + byteLength)
}

/** Memory and kernels for `writeCount` encoders of the largest of the frames. */
function prepareEncoders(frames: readonly Frame[]): { kernels: Kernels; places: EncoderPlace[] } {
  const frameMax = Math.max(...frames.map(frameByteLength))
  const heapBase = Math.ceil(kernelHeapBase() / 65536) * 65536
  // What a message takes at most follows from the columns' types and lengths: asked of one laid out for it.
  const measuring = loadKernels(createMemory(heapBase + frameMax + 65536))
  const messageMax = Math.max(...frames.map((frame) => encodedFrameBound(layFrame(measuring, frame, heapBase))))
  const placeByteLength = Math.ceil((frameMax + messageMax + 64) / 65536) * 65536
  const kernels = loadKernels(createMemory(heapBase + writeCount * placeByteLength))
  const places = Array.from({ length: writeCount }, (_, i) => {
    const frameOffset = heapBase + i * placeByteLength
    const messageOffset = Math.ceil((frameOffset + frameMax) / 64) * 64
    return { frameOffset, messageOffset, messageByteLengthMax: messageMax }
  })
  return { kernels, places }
}

class Loader {
  readonly #client: Client
  readonly #frames: readonly Frame[]
  readonly #kernels: Kernels
  readonly #places: readonly EncoderPlace[]

  constructor(client: Client, frames: readonly Frame[]) {
    this.#client = client
    this.#frames = frames
    const { kernels, places } = prepareEncoders(frames)
    this.#kernels = kernels
    this.#places = places
  }

  async load(table: string): Promise<LoadReply> {
    let next = 0
    let byteLength = 0
    let rowCount = 0
    const frames = this.#frames
    const kernels = this.#kernels
    function* messages(place: EncoderPlace): Generator<Uint8Array, void, undefined> {
      while (next < frames.length) {
        const message = encodeInto(kernels, frames[next++], place)
        byteLength += message.byteLength
        yield message
      }
    }
    const cpuBefore = process.cpuUsage()
    const loadMs = await elapsedMs(() =>
      Promise.all(
        this.#places.map(async (place) => {
          const stored = await this.#client.writeWire({ backend, table }, messages(place))
          rowCount += stored.rowCount
        }),
      ),
    )
    const { user, system } = process.cpuUsage(cpuBefore)
    const wanted = frames.reduce((sum, frame) => sum + frame.length, 0)
    if (rowCount !== wanted) throw new Error(`the server counted ${rowCount} rows instead of ${wanted}`)
    return { loadMs, cpuMs: (user + system) / 1000, byteLength }
  }
}

async function main([address, hostCount, hours]: readonly string[]): Promise<void> {
  const workload = drawWorkload({ hostCount: Number(hostCount), hours: Number(hours) })
  const client = connect(address)
  const loaders = new Map(layouts.map((layout) => [layout, new Loader(client, framesOf(workload, layout))]))
  process.stdout.write('ready\n')
  for await (const line of createInterface({ input: process.stdin })) {
    const { table, layout } = JSON.parse(line) as LoadOrder
    const loader = loaders.get(layout)
    if (loader === undefined) throw new Error(`no layout named ${layout}`)
    process.stdout.write(`${JSON.stringify(await loader.load(table))}\n`)
  }
  client.close()
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(process.argv.slice(2))
}
