// Loads of the workload into ClickHouse and VictoriaMetrics, where they are installed. Their bytes are ready before the
// clock starts: what making them costs a client is not counted (for framesd it is).
import { join } from 'node:path'
import { ClickHouse, clickHouseBodies, type ClickHouseBodies } from './clickhouse.js'
import type { Workload, WorkloadValues } from './tsbs.js'
import { VictoriaMetrics, victoriaBodies } from './victoria-metrics.js'

export class LoadPeers {
  readonly clickHouseMs: number[] = []
  readonly victoriaMs: number[] = []
  #loadCount = 0

  private constructor(
    readonly folder: string,
    readonly values: WorkloadValues,
    /** What takes part. */
    readonly text: string,
    readonly clickHouse: { readonly server: ClickHouse; readonly bodies: ClickHouseBodies } | null,
    readonly victoria: readonly Uint8Array[] | null,
  ) {}

  static async open(folder: string, workload: Workload): Promise<LoadPeers> {
    const clickHouse = await ClickHouse.start(join(folder, 'clickhouse'))
    const victoria = await VictoriaMetrics.start(join(folder, 'victoria'))
    const texts = [
      clickHouse === null ? 'ClickHouse is not installed' : `ClickHouse ${await clickHouse.version()}`,
      victoria === null ? 'VictoriaMetrics is not installed' : `VictoriaMetrics ${await victoria.version()}`,
    ]
    await victoria?.stop()
    return new LoadPeers(
      folder,
      workload.values,
      texts.join('; '),
      clickHouse === null ? null : { server: clickHouse, bodies: clickHouseBodies(workload) },
      victoria === null ? null : victoriaBodies(workload),
    )
  }

  /** One load of each: into fresh tables, and into a fresh server. */
  async load(): Promise<void> {
    if (this.clickHouse !== null) {
      const { server, bodies } = this.clickHouse
      await server.create(this.values)
      this.clickHouseMs.push(await server.load(bodies))
    }
    if (this.victoria !== null) {
      const server = await VictoriaMetrics.start(join(this.folder, `victoria-${++this.#loadCount}`))
      if (server === null) return
      this.victoriaMs.push(await server.load(this.victoria))
      await server.stop()
    }
  }

  /** What a load takes on disk when all of its parts are merged, by system. */
  async compactedByteLengths(): Promise<[name: string, byteLength: number][]> {
    const found: [string, number][] = []
    if (this.clickHouse !== null) {
      const { server, bodies } = this.clickHouse
      await server.create(this.values)
      await server.load(bodies)
      await server.compact()
      found.push(['ClickHouse', await server.byteLength()])
    }
    if (this.victoria !== null) {
      const server = await VictoriaMetrics.start(join(this.folder, `victoria-${++this.#loadCount}`))
      if (server === null) return found
      await server.load(this.victoria)
      await server.compact()
      await server.close()
      found.push(['VictoriaMetrics', server.byteLength()])
    }
    return found
  }

  async close(): Promise<void> {
    await this.clickHouse?.server.stop()
  }
}
