// The workload in a VictoriaMetrics server of the bench's own: a series for each host and metric, imported as JSON lines.
// Its cache of answers is off in every question: the bench asks the same few ones again and again.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { elapsedMs } from './clock.js'
import { folderByteLength } from './disk.js'
import { HttpPeer, isInstalled } from './http-peer.js'
import { freePort } from './redis.js'
import { metricNames, startMs, type Workload } from './tsbs.js'

const program = 'victoria-metrics'
const importCount = 4

/** A query over a range of times: one value for each step, looking back. */
export interface VictoriaQuery {
  readonly query: string
  readonly startMs: number
  readonly endMs: number
  /** null: one instant, `endMs`. */
  readonly stepMs: number | null
}

export interface VictoriaSeries {
  readonly metric: Readonly<Record<string, string>>
  /** Seconds and the value's text. */
  readonly values: readonly (readonly [number, string])[]
}

export class VictoriaMetrics {
  readonly #peer: HttpPeer
  readonly #folder: string

  private constructor(peer: HttpPeer, folder: string) {
    this.#peer = peer
    this.#folder = folder
  }

  /** null where it is not installed. */
  static async start(folder: string): Promise<VictoriaMetrics | null> {
    if (!isInstalled(program)) return null
    mkdirSync(folder, { recursive: true })
    const port = await freePort()
    const options = [
      `-storageDataPath=${folder}`,
      `-httpListenAddr=127.0.0.1:${port}`,
      '-retentionPeriod=100y',
      '-search.latencyOffset=0s',
      '-selfScrapeInterval=0s',
    ]
    return new VictoriaMetrics(await HttpPeer.start(program, options, port, '/health'), folder)
  }

  async version(): Promise<string> {
    const metrics = (await this.#peer.call('GET', '/metrics')).toString()
    return /vm_app_version\{version="([^"]*)"/.exec(metrics)?.[1] || 'of unknown version'
  }

  /** From the first byte sent until all of it can be asked for, in ms. */
  load(bodies: readonly Uint8Array[]): Promise<number> {
    return elapsedMs(async () => {
      await this.#peer.sendAll('/api/v1/import', bodies, importCount)
      await this.#peer.call('GET', '/internal/force_flush')
    })
  }

  /** Removes all series. */
  async clear(): Promise<void> {
    await this.#peer.call('POST', `/api/v1/admin/tsdb/delete_series?match[]=${encodeURIComponent('{__name__=~".*"}')}`)
  }

  /** Merges all parts; resolves when none is being merged any more. */
  async compact(): Promise<void> {
    await this.#peer.call('GET', '/internal/force_merge')
    for (let quietCount = 0; quietCount < 5; ) {
      await new Promise((resolve) => setTimeout(resolve, 50))
      const metrics = (await this.#peer.call('GET', '/metrics')).toString()
      const isBusy = /^vm_(?:active(?:_force)?_merges|pending_rows)(?:\{.*\})? [1-9]/m.test(metrics)
      quietCount = isBusy ? 0 : quietCount + 1
    }
  }

  fetch(query: VictoriaQuery): Promise<Buffer> {
    const ends = query.stepMs === null ? [] : [`start=${query.startMs / 1000}`, `step=${query.stepMs / 1000}`]
    const end = `${query.stepMs === null ? 'time' : 'end'}=${query.endMs / 1000}`
    const all = [`query=${encodeURIComponent(query.query)}`, ...ends, end, 'nocache=1']
    return this.#peer.call('GET', `/api/v1/${query.stepMs === null ? 'query' : 'query_range'}?${all.join('&')}`)
  }

  async series(query: VictoriaQuery): Promise<VictoriaSeries[]> {
    type Found = { metric: Record<string, string>; values?: [number, string][]; value?: [number, string] }
    const { data } = JSON.parse((await this.fetch(query)).toString()) as { data: { result: Found[] } }
    return data.result.map(({ metric, values, value }) => ({ metric, values: values ?? (value ? [value] : []) }))
  }

  /** Of the samples and their index; what is not yet written counts once it is stopped. */
  byteLength(): number {
    return ['data', 'indexdb'].reduce((sum, name) => sum + folderByteLength(join(this.#folder, name)), 0)
  }

  stop(): Promise<void> {
    return this.#peer.stop()
  }

  /** Writes down all it holds first. */
  close(): Promise<void> {
    return this.#peer.stop('SIGTERM')
  }
}

/** A workload as lines of JSON, ready to be sent: one body for each host. */
export function victoriaBodies({ hosts, timesNs }: Workload): Uint8Array[] {
  const times = Array.from(timesNs, (timeNs) => Number(timeNs / 1_000_000n))
  if (times[0] !== startMs) throw new Error('the workload begins elsewhere')
  const timesText = JSON.stringify(times)
  return hosts.map(({ tags, metrics }) => {
    const lines = metrics.map((values, metric) => {
      const labels = JSON.stringify({ __name__: `cpu_${metricNames[metric]}`, ...tags })
      return `{"metric":${labels},"values":[${values.join(',')}],"timestamps":${timesText}}\n`
    })
    return Buffer.from(lines.join(''))
  })
}
