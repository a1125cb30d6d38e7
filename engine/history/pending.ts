// Entries on their way to the store: column by column, so that a message to a worker has few objects.
import type { Entry } from './entry.js'

/** The columns of text, in the order in which they are kept. */
export const textColumns = [
  'userName',
  'backendName',
  'tableName',
  'action',
  'container',
  'data',
  'error',
  'protocol',
  'clientAddress',
  'requestId',
] as const satisfies readonly (keyof Entry)[]

/** Some entries as plain data. Numbers that an entry has not are NaN, texts null. */
export interface EntryColumns {
  readonly count: number
  readonly startMs: Float64Array
  readonly durationNs: Float64Array
  readonly rowCount: Float64Array
  readonly byteLength: Float64Array
  /** By the order of textColumns. */
  readonly texts: readonly (readonly (string | null)[])[]
}

export class PendingEntries {
  count = 0
  /** Characters of all texts. */
  textLength = 0
  readonly #startMs: number[] = []
  readonly #durationNs: number[] = []
  readonly #rowCount: number[] = []
  readonly #byteLength: number[] = []
  readonly #texts: (string | null)[][] = textColumns.map(() => [])

  add(entry: Entry): void {
    this.count++
    this.#startMs.push(entry.startMs)
    this.#durationNs.push(entry.durationNs)
    this.#rowCount.push(entry.rowCount ?? Number.NaN)
    this.#byteLength.push(entry.byteLength ?? Number.NaN)
    // By name and not in a loop over the names: an entry is made for each call of the engine.
    this.#put(0, entry.userName)
    this.#put(1, entry.backendName)
    this.#put(2, entry.tableName)
    this.#put(3, entry.action)
    this.#put(4, entry.container)
    this.#put(5, entry.data)
    this.#put(6, entry.error)
    this.#put(7, entry.protocol)
    this.#put(8, entry.clientAddress)
    this.#put(9, entry.requestId)
  }

  /** column: an index into textColumns. */
  #put(column: number, text: string | null): void {
    this.#texts[column]!.push(text)
    if (text !== null) this.textLength += text.length
  }

  columns(): EntryColumns {
    return {
      count: this.count,
      startMs: Float64Array.from(this.#startMs),
      durationNs: Float64Array.from(this.#durationNs),
      rowCount: Float64Array.from(this.#rowCount),
      byteLength: Float64Array.from(this.#byteLength),
      texts: this.#texts,
    }
  }
}
