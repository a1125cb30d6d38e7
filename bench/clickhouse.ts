// The workload in a ClickHouse server of the bench's own: tags in a table of their own, as TSBS does it for relational
// stores; samples by RowBinary over HTTP.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { elapsedMs } from './clock.js'
import { folderByteLength } from './disk.js'
import { HttpPeer, isInstalled } from './http-peer.js'
import { freePort } from './redis.js'
import { metricNames, tagNames, type Workload, type WorkloadValues } from './tsbs.js'

const program = 'clickhouse-server'

const insertCount = 4

export class ClickHouse {
  readonly #peer: HttpPeer
  readonly #dataFolder: string

  private constructor(peer: HttpPeer, dataFolder: string) {
    this.#peer = peer
    this.#dataFolder = dataFolder
  }

  /** null where it is not installed. */
  static async start(folder: string): Promise<ClickHouse | null> {
    if (!isInstalled(program)) return null
    const dataFolder = join(folder, 'data')
    mkdirSync(dataFolder, { recursive: true })
    const [httpPort, tcpPort] = [await freePort(), await freePort()]
    const config = join(folder, 'config.xml')
    writeFileSync(
      config,
      `<yandex>
        <logger><level>warning</level><log>${folder}/log</log><errorlog>${folder}/errors</errorlog></logger>
        <http_port>${httpPort}</http_port><tcp_port>${tcpPort}</tcp_port><listen_host>127.0.0.1</listen_host>
        <path>${dataFolder}/</path><tmp_path>${folder}/tmp/</tmp_path><user_files_path>${folder}/files/</user_files_path>
        <users_config>${folder}/users.xml</users_config>
        <default_profile>default</default_profile><default_database>default</default_database>
        <timezone>UTC</timezone><keep_alive_timeout>600</keep_alive_timeout>
        <mark_cache_size>536870912</mark_cache_size><uncompressed_cache_size>1073741824</uncompressed_cache_size>
      </yandex>`,
    )
    writeFileSync(
      join(folder, 'users.xml'),
      `<yandex>
        <profiles><default><max_memory_usage>4000000000</max_memory_usage></default></profiles>
        <users><default>
          <password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>
        </default></users>
        <quotas><default></default></quotas>
      </yandex>`,
    )
    const peer = await HttpPeer.start(program, [`--config-file=${config}`], httpPort, '/ping')
    return new ClickHouse(peer, dataFolder)
  }

  async version(): Promise<string> {
    return (await this.rows('SELECT version()'))[0][0]
  }

  /** Fresh tables for a workload. */
  async create(values: WorkloadValues = 'whole numbers'): Promise<void> {
    for (const table of ['cpu', 'tags']) await this.#run(`DROP TABLE IF EXISTS ${table}`)
    const tags = tagNames.map((name) => `${name} String`).join(', ')
    await this.#run(`CREATE TABLE tags (id UInt32, ${tags}) ENGINE = MergeTree ORDER BY id`)
    const metrics = metricNames.map((name) => `${name} ${values === 'whole numbers' ? 'Int64' : 'Float64'}`).join(', ')
    await this.#run(`CREATE TABLE cpu (time DateTime, tags_id UInt32, ${metrics}) ENGINE = MergeTree
      PARTITION BY toYYYYMMDD(time) ORDER BY (tags_id, time)`)
  }

  /** From the first byte of `bodies` sent to the last insert answered, in ms. */
  load(bodies: ClickHouseBodies): Promise<number> {
    return elapsedMs(async () => {
      await this.#peer.call('POST', insertPath('tags'), bodies.tags)
      await this.#peer.sendAll(insertPath('cpu'), bodies.samples, insertCount)
    })
  }

  /** Merges all parts of the samples into one. */
  async compact(): Promise<void> {
    await this.#run('OPTIMIZE TABLE cpu FINAL')
  }

  /** The answer's cells as text. */
  async rows(sql: string): Promise<string[][]> {
    const text = (await this.#run(`${sql} FORMAT TabSeparated`)).toString()
    return text === ''
      ? []
      : text
          .trimEnd()
          .split('\n')
          .map((line) => line.split('\t'))
  }

  /** Runs a query and takes its answer in binary. */
  async fetch(sql: string): Promise<void> {
    await this.#run(`${sql} FORMAT RowBinary`)
  }

  /** Of the samples, all parts that are in use. */
  async byteLength(): Promise<number> {
    const [[byteLength]] = await this.rows(
      "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table IN ('cpu', 'tags')",
    )
    return Math.min(Number(byteLength), folderByteLength(this.#dataFolder))
  }

  #run(sql: string): Promise<Buffer> {
    return this.#peer.call('POST', '/', Buffer.from(sql))
  }

  stop(): Promise<void> {
    return this.#peer.stop()
  }
}

function insertPath(table: string): string {
  return `/?query=${encodeURIComponent(`INSERT INTO ${table} FORMAT RowBinary`)}`
}

/** A workload as RowBinary, ready to be sent. */
export interface ClickHouseBodies {
  readonly tags: Uint8Array
  /** Of some 50,000 rows each, in the order of hosts. */
  readonly samples: readonly Uint8Array[]
}

const bodyRowCountMax = 50_000

export function clickHouseBodies({ hosts, timesNs }: Workload): ClickHouseBodies {
  const tags = Buffer.concat(
    hosts.flatMap(({ tags }, id) => {
      const number = Buffer.alloc(4)
      number.writeUInt32LE(id)
      return [number, ...tagNames.flatMap((name) => [Buffer.of(tags[name].length), Buffer.from(tags[name])])]
    }),
  )
  const rowByteLength = 8 + 8 * metricNames.length
  const hostsPerBody = Math.max(1, Math.floor(bodyRowCountMax / timesNs.length))
  const seconds = Array.from(timesNs, (timeNs) => Number(timeNs / 1_000_000_000n))
  const samples: Uint8Array[] = []
  for (let first = 0; first < hosts.length; first += hostsPerBody) {
    const some = hosts.slice(first, first + hostsPerBody)
    const buffer = new ArrayBuffer(some.length * seconds.length * rowByteLength)
    const words = new Uint32Array(buffer)
    const doubles = new Float64Array(buffer)
    let at = 0
    some.forEach(({ metrics }, i) => {
      seconds.forEach((second, row) => {
        words[at++] = second
        words[at++] = first + i
        for (const values of metrics) {
          if (values instanceof Float64Array) doubles[at / 2] = values[row]
          // 0 to 100: the upper half of the word stays 0.
          else words[at] = Number(values[row])
          at += 2
        }
      })
    })
    samples.push(new Uint8Array(buffer))
  }
  return { tags, samples }
}
