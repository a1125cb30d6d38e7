// Entries on their way to the store: column by column, and few objects, so that neither a request nor the message to a worker
// takes long. A worker lays them out (jobs.ts).
import type { RecordedRequest } from '../requests.js'
import { argumentField, type DataSink, type Entry, type Mask, stringArgumentField, tellData } from './entry.js'

/** The texts of an entry, in the order in which they are sent. */
export const sentTexts = [
  'userName',
  'backendName',
  'tableName',
  'action',
  'container',
  'error',
  'protocol',
  'clientAddress',
  'requestId',
] as const satisfies readonly (keyof Entry)[]

/** Texts of several rows; neighbours that are equal are one run. */
export interface TextRuns {
  /** The texts of all runs, one behind the other. */
  readonly text: string
  /** Units of each; -1: there is none. */
  readonly lengths: Int32Array
  readonly rowCounts: Uint32Array
}

/** Some entries as plain data. Numbers that an entry has not are NaN. */
export interface EntryColumns {
  readonly count: number
  readonly startMs: Float64Array
  readonly durationNs: Float64Array
  readonly rowCount: Float64Array
  readonly byteLength: Float64Array
  /** By the order of sentTexts. */
  readonly texts: readonly TextRuns[]
  /** What was set of the requests: fields of each entry, their numbers, and their values; arguments have a name before it. */
  readonly data: {
    readonly fieldCounts: Uint32Array
    readonly fields: Uint8Array
    readonly values: TextRuns
  }
}

class TextCollector {
  readonly #texts: (string | null)[] = []
  #rowCounts = new Uint32Array(capacityMin)
  #last: string | null | undefined = undefined

  add(text: string | null): void {
    // Mostly the very same string, which is found out by looking at where it stands.
    if (text === this.#last) {
      this.#rowCounts[this.#texts.length - 1]!++
      return
    }
    this.#last = text
    if (this.#texts.push(text) > this.#rowCounts.length) {
      const wider = new Uint32Array(2 * this.#rowCounts.length)
      wider.set(this.#rowCounts)
      this.#rowCounts = wider
    }
    this.#rowCounts[this.#texts.length - 1] = 1
  }

  runs(): TextRuns {
    const texts = this.#texts
    const lengths = new Int32Array(texts.length)
    for (let i = 0; i < texts.length; i++) lengths[i] = texts[i]?.length ?? -1
    return { text: texts.join(''), lengths, rowCounts: this.#rowCounts.slice(0, texts.length) }
  }
}

/** Entries that there is room for at first. */
const capacityMin = 64

function widened(values: Float64Array): Float64Array {
  const wider = new Float64Array(2 * values.length)
  wider.set(values)
  return wider
}

export class PendingEntries implements DataSink {
  count = 0
  /** Characters of all texts. */
  textLength = 0
  #startMs: Float64Array = new Float64Array(capacityMin)
  #durationNs: Float64Array = new Float64Array(capacityMin)
  #rowCount: Float64Array = new Float64Array(capacityMin)
  #byteLength: Float64Array = new Float64Array(capacityMin)
  #fieldCounts: Float64Array = new Float64Array(capacityMin)
  readonly #texts: Readonly<Record<(typeof sentTexts)[number], TextCollector>> = {
    userName: new TextCollector(),
    backendName: new TextCollector(),
    tableName: new TextCollector(),
    action: new TextCollector(),
    container: new TextCollector(),
    error: new TextCollector(),
    protocol: new TextCollector(),
    clientAddress: new TextCollector(),
    requestId: new TextCollector(),
  }
  readonly #fields: number[] = []
  readonly #values = new TextCollector()

  add(entry: Entry, recorded: RecordedRequest, mask: Mask): void {
    const at = this.count++
    if (at === this.#startMs.length) {
      this.#startMs = widened(this.#startMs)
      this.#durationNs = widened(this.#durationNs)
      this.#rowCount = widened(this.#rowCount)
      this.#byteLength = widened(this.#byteLength)
      this.#fieldCounts = widened(this.#fieldCounts)
    }
    this.#startMs[at] = entry.startMs
    this.#durationNs[at] = entry.durationNs
    this.#rowCount[at] = entry.rowCount ?? Number.NaN
    this.#byteLength[at] = entry.byteLength ?? Number.NaN
    const { userName, backendName, tableName, action, container, error, protocol, clientAddress, requestId } = entry
    const texts = this.#texts
    texts.userName.add(userName)
    texts.backendName.add(backendName)
    texts.tableName.add(tableName)
    texts.action.add(action)
    texts.container.add(container)
    texts.error.add(error)
    texts.protocol.add(protocol)
    texts.clientAddress.add(clientAddress)
    texts.requestId.add(requestId)
    this.textLength +=
      userName.length +
      backendName.length +
      tableName.length +
      action.length +
      container.length +
      (error?.length ?? 0) +
      (protocol?.length ?? 0) +
      (clientAddress?.length ?? 0) +
      (requestId?.length ?? 0)
    const before = this.#fields.length
    tellData(recorded, mask, this)
    this.#fieldCounts[at] = this.#fields.length - before
  }

  field(number: number, text: string): void {
    this.#fields.push(number)
    this.#values.add(text)
    this.textLength += text.length + jsonLengthOfField
  }

  argument(name: string, text: string, isString: boolean): void {
    this.#fields.push(isString ? stringArgumentField : argumentField)
    this.#values.add(name)
    this.#values.add(text)
    this.textLength += name.length + text.length + jsonLengthOfField
  }

  columns(): EntryColumns {
    const { count } = this
    return {
      count,
      startMs: this.#startMs.slice(0, count),
      durationNs: this.#durationNs.slice(0, count),
      rowCount: this.#rowCount.slice(0, count),
      byteLength: this.#byteLength.slice(0, count),
      texts: sentTexts.map((name) => this.#texts[name].runs()),
      data: {
        fieldCounts: Uint32Array.from(this.#fieldCounts.subarray(0, count)),
        fields: Uint8Array.from(this.#fields),
        values: this.#values.runs(),
      },
    }
  }
}

/** What JSON adds to a value: its name, about. */
const jsonLengthOfField = 24
