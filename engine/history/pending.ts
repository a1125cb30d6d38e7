// Entries on their way to the store: column by column, as numbers and bytes, so that neither a request nor the message to a
// worker takes long. A worker makes a block of them (jobs.ts).
import type { RecordedRequest } from '../requests.js'
import { argumentText, dataFields, type DataSink, type Entry, type Mask, tellData } from './entry.js'
import { TextColumn, type TextRuns } from './text-column.js'

/** The texts of an entry, in the order in which they are sent; `data` comes last. */
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

/** Some entries as plain data. Numbers that an entry has not are NaN. */
export interface EntryColumns {
  readonly count: number
  readonly startMs: Float64Array
  readonly durationNs: Float64Array
  readonly rowCount: Float64Array
  readonly byteLength: Float64Array
  /** By the order of sentTexts. */
  readonly texts: readonly TextRuns[]
  /** What was set of each request, as JSON of an object of texts; none where nothing was. */
  readonly data: TextRuns
}

/** Entries that there is room for at first. */
const capacityMin = 64

function widened(values: Float64Array): Float64Array {
  const wider = new Float64Array(2 * values.length)
  wider.set(values)
  return wider
}

/** Fields of the JSON, each with a comma before it: the first one's becomes the brace. */
function headOf(name: string): Uint8Array {
  return Buffer.from(`,${JSON.stringify(name)}:"`)
}

const fieldHeads = dataFields.map(headOf)
/** Of arguments: nearly always the same few. */
const argumentHeads = new Map<string, Uint8Array>()
const argumentHeadCountMax = 256
const argumentNameLengthMax = 256

function argumentHead(name: string): Uint8Array {
  const known = argumentHeads.get(name)
  if (known !== undefined) return known
  const head = headOf(`args_${name}`)
  if (argumentHeads.size < argumentHeadCountMax && name.length <= argumentNameLengthMax) argumentHeads.set(name, head)
  return head
}

const brace = 0x7b
const fieldEnd = Buffer.from('"')
const dataEnd = Buffer.from('}')
/** Around the text of a string, as argumentText has it and JSON escapes it. */
const stringStart = Buffer.from('sval:\\"')
const stringEnd = Buffer.from('\\""')
/** What JSON leaves as it is, also when it is escaped twice. */
const plainText = /^[ !#-[\]-~]*$/

export class PendingEntries implements DataSink {
  count = 0
  /** Bytes of all texts. */
  textByteLength = 0
  #startMs: Float64Array
  #durationNs: Float64Array
  #rowCount: Float64Array
  #byteLength: Float64Array
  readonly #texts: Readonly<Record<(typeof sentTexts)[number], TextColumn>>
  readonly #data: TextColumn

  /** countLike: entries that there will be, about. */
  constructor(countLike = 0) {
    const capacity = Math.max(capacityMin, countLike)
    this.#startMs = new Float64Array(capacity)
    this.#durationNs = new Float64Array(capacity)
    this.#rowCount = new Float64Array(capacity)
    this.#byteLength = new Float64Array(capacity)
    this.#data = new TextColumn(capacity)
    this.#texts = {
      userName: new TextColumn(capacityMin),
      backendName: new TextColumn(capacityMin),
      tableName: new TextColumn(capacityMin),
      action: new TextColumn(capacityMin),
      container: new TextColumn(capacityMin),
      error: new TextColumn(capacityMin),
      protocol: new TextColumn(capacityMin),
      clientAddress: new TextColumn(capacityMin),
      requestId: new TextColumn(capacity),
    }
  }

  add(entry: Entry, recorded: RecordedRequest, mask: Mask): void {
    const at = this.count++
    if (at === this.#startMs.length) {
      this.#startMs = widened(this.#startMs)
      this.#durationNs = widened(this.#durationNs)
      this.#rowCount = widened(this.#rowCount)
      this.#byteLength = widened(this.#byteLength)
    }
    this.#startMs[at] = entry.startMs
    this.#durationNs[at] = entry.durationNs
    this.#rowCount[at] = entry.rowCount ?? Number.NaN
    this.#byteLength[at] = entry.byteLength ?? Number.NaN
    const texts = this.#texts
    const data = this.#data.bytes
    const start = data.byteLength
    tellData(recorded, mask, this)
    if (data.byteLength > start) {
      data.buffer[start] = brace
      data.addBytes(dataEnd)
    }
    this.textByteLength +=
      texts.userName.add(entry.userName) +
      texts.backendName.add(entry.backendName) +
      texts.tableName.add(entry.tableName) +
      texts.action.add(entry.action) +
      texts.container.add(entry.container) +
      texts.error.add(entry.error) +
      texts.protocol.add(entry.protocol) +
      texts.clientAddress.add(entry.clientAddress) +
      texts.requestId.add(entry.requestId) +
      this.#data.endRow(start)
  }

  field(number: number, text: string): void {
    const { bytes } = this.#data
    bytes.addBytes(fieldHeads[number]!)
    bytes.addEscaped(text)
    bytes.addBytes(fieldEnd)
  }

  argument(name: string, text: string, isString: boolean): void {
    const { bytes } = this.#data
    bytes.addBytes(argumentHead(name))
    if (isString && plainText.test(text)) {
      bytes.addBytes(stringStart)
      bytes.add(text)
      bytes.addBytes(stringEnd)
      return
    }
    bytes.addEscaped(isString ? argumentText(text) : text)
    bytes.addBytes(fieldEnd)
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
      data: this.#data.runs(),
    }
  }
}
