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
    for (let i = 0; i < textColumns.length; i++) {
      const text = entry[textColumns[i]!]
      this.#texts[i]!.push(text)
      if (text !== null) this.textLength += text.length
    }
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
