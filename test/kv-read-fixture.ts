// A kv table whose blocks are written directly: items of any shape, in as many runs as a test wants.
import { InputGate } from '../dist/engine/backends/input-gate.js'
import { OutgoingMessages } from '../dist/engine/backends/outgoing.js'
import type { BackendParts } from '../dist/engine/backends/backend.js'
import { writeItems } from '../dist/engine/backends/kv/item-block.js'
import { ItemReader, noRow } from '../dist/engine/backends/kv/item-reader.js'
import { itemMergeRule } from '../dist/engine/backends/kv/merge-jobs.js'
import { readItems } from '../dist/engine/backends/kv/read.js'
import type { KvSchema } from '../dist/engine/backends/kv/schema.js'
import type { KvTable } from '../dist/engine/backends/kv/table.js'
import { Turn } from '../dist/engine/backends/turn.js'
import { Catalog } from '../dist/engine/blocks/catalog.js'
import { BlockIo } from '../dist/engine/blocks/reader.js'
import { BlockTable } from '../dist/engine/blocks/table.js'
import { takeFrame } from '../dist/engine/codec/columns.js'
import type { Frame } from '../dist/engine/index.js'
import { kernelHeapBase, type Kernels, loadKernels } from '../dist/engine/kernels/kernels.js'
import { Scratch } from '../dist/engine/memory/scratch.js'
import { createSharedMemory, type SharedMemory } from '../dist/engine/memory/shared-memory.js'
import { openPool } from '../dist/engine/pool/pool.js'
import type { ReadRequest } from '../dist/engine/requests.js'
import { openMemoryStore } from '../dist/engine/stores/memory.js'
import type { Cell, PlainItem } from './kv-items.js'
import { byKey, placeItems, placeKeys } from './kv-items.js'

const partition = 'ttable'
const scratchByteLength = 48 * 2 ** 20

export interface ItemInput {
  readonly folder?: string
  readonly name: string
  readonly mtimeNs?: bigint
  readonly ctimeNs?: bigint
  readonly cells: Readonly<Record<string, Cell>>
}

export function schemaOf(
  fields: Readonly<Record<string, string>>,
  key: string,
  sortingKey = '',
  more: Partial<KvSchema> = {},
): KvSchema {
  return {
    fields: Object.entries(fields).map(([name, type]) => ({
      name,
      type: type as KvSchema['fields'][number]['type'],
      nullable: name !== key && name !== sortingKey,
    })),
    key,
    sortingKey,
    hashingBucketNum: 0,
    ttlMs: null,
    foldersDrifted: false,
    ...more,
  }
}

export class KvFixture {
  readonly memory: SharedMemory
  readonly kernels: Kernels
  readonly parts: BackendParts
  readonly reports: string[] = []
  nowMs = 1_000_000
  blocks!: BlockTable
  schema: KvSchema

  private constructor(schema: KvSchema, workerCount: number) {
    this.memory = createSharedMemory({ heapBase: kernelHeapBase(), byteLength: 384 * 2 ** 20 })
    this.kernels = loadKernels(this.memory.memory)
    this.schema = schema
    const store = openMemoryStore()
    const { memory, kernels } = this
    this.parts = {
      store,
      catalog: new Catalog(store),
      memory,
      kernels,
      pool: openPool({ memory, workerCount }),
      inputs: new InputGate(memory.arenas),
      outgoing: new OutgoingMessages(kernels.u8, memory.arenas),
      shrinkStore: async () => undefined,
      nowMs: () => this.nowMs,
      defaultContainer: 'x',
      report: (message, error) => this.reports.push(error instanceof Error ? `${message}: ${error.message}` : message),
    }
  }

  static async open(schema: KvSchema, workerCount = 2): Promise<KvFixture> {
    const fixture = new KvFixture(schema, workerCount)
    const { store, memory, pool, report } = fixture.parts
    const tableParts = { store, memory, pool, report, bytes: fixture.kernels.u8 }
    await BlockTable.create(tableParts, partition, new Uint8Array([1]))
    fixture.blocks = await BlockTable.open(tableParts, partition, 'x/table')
    return fixture
  }

  get table(): KvTable {
    const { blocks, schema } = this
    return { name: { container: 'x', backend: 'kv', path: 'table/' }, blocks, turn: new Turn(), schema } as KvTable
  }

  startMerging(): void {
    this.blocks.startMerging(
      itemMergeRule({
        partition,
        tableName: 'x/table',
        access: () => this.parts.store.workerAccess,
        inTurn: (work) => work(),
      }),
    )
  }

  /** One commit; items of keys that are there already replace them. */
  async put(items: readonly ItemInput[]): Promise<void> {
    const { kernels, memory } = this
    const sorted = items
      .map(
        ({ folder = '', name, mtimeNs = 0n, ctimeNs = 0n, cells }): PlainItem => ({
          folder,
          name,
          mtimeNs,
          ctimeNs,
          cells: new Map(Object.entries(cells)),
        }),
      )
      .sort(byKey)
    const slice = await memory.arenas.allocate(scratchByteLength)
    try {
      const kills = await this.#rowsOf(sorted, slice)
      const output = new Scratch(slice)
      const work = output.back()
      const prepared = writeItems(kernels, output, work, placeItems(kernels, work, sorted))
      await this.blocks.commitRows(await this.blocks.stageRows(prepared), { kills })
    } finally {
      memory.arenas.free(slice)
    }
  }

  /** Kills items. */
  async remove(keys: readonly { folder?: string; name: string }[]): Promise<void> {
    const { memory } = this
    const slice = await memory.arenas.allocate(scratchByteLength)
    try {
      const sorted = keys.map(({ folder = '', name }) => ({ folder, name })).sort(byKey)
      const kills = await this.#rowsOf(sorted, slice)
      await this.blocks.commitRows(await this.blocks.stageRows([]), { kills })
    } finally {
      memory.arenas.free(slice)
    }
  }

  async #rowsOf(
    sorted: readonly { folder: string; name: string }[],
    slice: { byteOffset: number; byteLength: number },
  ): Promise<{ blockId: bigint; rows: Uint32Array }[]> {
    const { kernels, blocks } = this
    const { u32 } = kernels
    const [cache, work] = new Scratch(slice).split([0.5, 0.5]) as [Scratch, Scratch]
    const live = blocks.blocks
    const sources = await blocks.sources(live)
    const reader = new ItemReader(new BlockIo(kernels, cache, null, partition, 'x/table'), work.back(), sources)
    const indexesPtr = work.allocate(4 * sorted.length)
    const rowsPtr = work.allocate(4 * sorted.length)
    reader.find(placeKeys(kernels, work, sorted), indexesPtr, rowsPtr)
    const rows = new Map<bigint, number[]>()
    for (let i = 0; i < sorted.length; i++) {
      const index = u32[(indexesPtr >> 2) + i]!
      if (index === noRow) continue
      const id = live[index]!.id
      rows.set(id, [...(rows.get(id) ?? []), u32[(rowsPtr >> 2) + i]!])
    }
    return [...rows].map(([blockId, list]) => ({ blockId, rows: Uint32Array.from(list.sort((a, b) => a - b)) }))
  }

  async read(request: Partial<ReadRequest> = {}): Promise<Frame[]> {
    const frames: Frame[] = []
    const whole: ReadRequest = { backend: 'kv', table: 'table', ...request }
    for await (const { frame } of readItems(this.parts, this.table, whole, 'columns', {}))
      if (frame !== null) frames.push(takeFrame(this.kernels, frame))
    return frames
  }

  /** All rows as plain objects, index columns as well. */
  async rows(request: Partial<ReadRequest> = {}): Promise<Record<string, unknown>[]> {
    return plainRows(await this.read(request))
  }

  async close(): Promise<void> {
    await this.blocks.close()
    await this.parts.pool.close()
    await this.parts.store.close()
  }
}

export function plainRows(frames: readonly Frame[]): Record<string, unknown>[] {
  return frames.flatMap((frame) =>
    Array.from({ length: frame.length }, (_, row) => {
      const cells: Record<string, unknown> = {}
      for (const column of [...frame.indices, ...frame.columns]) cells[column.name] = column.at(row)
      return cells
    }),
  )
}
