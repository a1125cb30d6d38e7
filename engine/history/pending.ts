// Entries on their way to the store, as numbers and bytes, so that neither a request nor the message to a worker takes long. A
// worker makes a block of them (jobs.ts).
//
//   rows    a cache line each: numbers, the number of its head, and how many bytes of each other text are its own
//   heads   what most entries share with one before them: who asked, what of
//   data, errors, request ids: texts one behind the other
import type { Value } from '../frame/dtype.js'
import { copyBytes } from '../memory/copy.js'
import type { RecordedRequest } from '../requests.js'
import { argumentText, dataFields, type DataSink, type Entry, isSecretName, tellData } from './entry.js'
import { type Mask, masked } from './mask.js'
import { TextBytes } from './text-bytes.js'

/** The texts of a head, in the order in which they are stored. */
export const headTexts = [
  'userName',
  'backendName',
  'tableName',
  'action',
  'container',
  'protocol',
  'clientAddress',
] as const satisfies readonly (keyof Entry)[]

/** The texts that are an entry's own, in the order of their fields and of their bytes; `data` is JSON of an object of texts. */
export const ownTexts: readonly string[] = ['data', 'error', 'requestId']

/** Fields of a row, float64. What an entry has not is NaN, of texts -1. */
export const rowFields = { startMs: 0, durationNs: 1, rowCount: 2, byteLength: 3, head: 4, ownTexts: 5 } as const
export const rowFieldCount = 8

/** Some entries in the shared memory; places are byte offsets. */
export interface LaidEntries {
  readonly count: number
  /** count × rowFieldCount float64, 8-byte aligned. */
  readonly rowsPtr: number
  readonly headCount: number
  /** headCount × headTexts.length int32, bytes of each; -1: there is none. */
  readonly headLengthsPtr: number
  readonly headBytesPtr: number
  /** By the order of ownTexts. */
  readonly ownBytesPtrs: readonly number[]
}

/** Entries that there is room for at first. */
const capacityMin = 64

/** Heads that an entry is looked for among. */
const recentCountMax = 8

/** Fields of the JSON, each with a comma before it: the first one's becomes the brace. */
function headOf(name: string): Buffer {
  return Buffer.from(`,${JSON.stringify(name)}:"`)
}

const fieldHeads = dataFields.map(headOf)
const brace = 0x7b
const fieldEnd = Buffer.from('"')
const dataEnd = Buffer.from('}')
/** Around the text of a string, as argumentText has it and JSON escapes it. */
const stringStart = Buffer.from('sval:\\"')
const stringEnd = Buffer.from('\\""')

/** What is written before the value of an argument. */
interface ArgumentHead {
  readonly isSecret: boolean
  readonly head: Uint8Array
  /** For the text of a string. */
  readonly stringHead: Uint8Array
}

/** Of arguments: nearly always the same few. */
const argumentHeads = new Map<string, ArgumentHead>()
const argumentHeadCountMax = 256
const argumentNameLengthMax = 256

function argumentHeadOf(name: string): ArgumentHead {
  const known = argumentHeads.get(name)
  if (known !== undefined) return known
  const head = headOf(`args_${name}`)
  const made = { isSecret: isSecretName(name), head, stringHead: Buffer.concat([head, stringStart]) }
  if (argumentHeads.size < argumentHeadCountMax && name.length <= argumentNameLengthMax) argumentHeads.set(name, made)
  return made
}

type HeadTexts = Pick<Entry, (typeof headTexts)[number]>

interface Head {
  readonly number: number
  readonly texts: HeadTexts
  /** Bytes of all its texts. */
  readonly byteLength: number
}

/** The heads of a batch; one may be there twice when many others came between. */
class Heads {
  count = 0
  readonly bytes = new TextBytes(1024)
  #byteLengths = new Int32Array(headTexts.length * capacityMin)
  /** Those that were added last. */
  readonly #recent: Head[] = []
  #last: Head | null = null

  of(entry: HeadTexts): Head {
    if (this.#last !== null && isHeadOf(this.#last.texts, entry)) return this.#last
    const head = this.#recent.find(({ texts }) => isHeadOf(texts, entry)) ?? this.#add(entry)
    this.#last = head
    return head
  }

  #add({ userName, backendName, tableName, action, container, protocol, clientAddress }: HeadTexts): Head {
    const texts = { userName, backendName, tableName, action, container, protocol, clientAddress }
    const number = this.count++
    const first = headTexts.length * number
    if (first === this.#byteLengths.length) {
      const wider = new Int32Array(2 * first)
      wider.set(this.#byteLengths)
      this.#byteLengths = wider
    }
    const start = this.bytes.byteLength
    for (const [i, name] of headTexts.entries()) {
      const text = texts[name]
      this.#byteLengths[first + i] = text === null ? -1 : this.bytes.add(text)
    }
    const head = { number, texts, byteLength: this.bytes.byteLength - start }
    this.#recent[number % recentCountMax] = head
    return head
  }

  byteLengths(): Int32Array {
    return this.#byteLengths.subarray(0, headTexts.length * this.count)
  }

  clear(): void {
    this.count = 0
    this.bytes.clear()
    this.#recent.length = 0
    this.#last = null
  }
}

/** Mostly the very same strings, which is found out by looking at where they stand. */
function isHeadOf(texts: HeadTexts, entry: HeadTexts): boolean {
  return (
    texts.tableName === entry.tableName &&
    texts.action === entry.action &&
    texts.backendName === entry.backendName &&
    texts.clientAddress === entry.clientAddress &&
    texts.userName === entry.userName &&
    texts.container === entry.container &&
    texts.protocol === entry.protocol
  )
}

export class PendingEntries implements DataSink {
  count = 0
  /** Bytes of all texts, those of a head once for each of its entries. */
  textByteLength = 0
  #rows = new Float64Array(rowFieldCount * capacityMin)
  readonly #heads = new Heads()
  readonly #data = new TextBytes(4096)
  readonly #errors = new TextBytes(256)
  readonly #requestIds = new TextBytes(256)

  add(entry: Entry, recorded: RecordedRequest, mask: Mask): void {
    const at = rowFieldCount * this.count++
    if (at === this.#rows.length) {
      const wider = new Float64Array(2 * at)
      wider.set(this.#rows)
      this.#rows = wider
    }
    const data = this.#data
    const start = data.byteLength
    tellData(recorded, mask, this)
    if (data.byteLength > start) {
      data.setByte(start, brace)
      data.addBytes(dataEnd)
    }
    const dataByteLength = data.byteLength - start
    const errorByteLength = entry.error === null ? -1 : this.#errors.add(entry.error)
    const requestIdByteLength = entry.requestId === null ? -1 : this.#requestIds.add(entry.requestId)
    const head = this.#heads.of(entry)
    const rows = this.#rows
    rows[at + rowFields.startMs] = entry.startMs
    rows[at + rowFields.durationNs] = entry.durationNs
    rows[at + rowFields.rowCount] = entry.rowCount ?? Number.NaN
    rows[at + rowFields.byteLength] = entry.byteLength ?? Number.NaN
    rows[at + rowFields.head] = head.number
    rows[at + rowFields.ownTexts] = dataByteLength === 0 ? -1 : dataByteLength
    rows[at + rowFields.ownTexts + 1] = errorByteLength
    rows[at + rowFields.ownTexts + 2] = requestIdByteLength
    this.textByteLength +=
      head.byteLength + dataByteLength + Math.max(0, errorByteLength) + Math.max(0, requestIdByteLength)
  }

  field(number: number, text: string): void {
    this.#data.addEscaped(fieldHeads[number]!, text, fieldEnd)
  }

  argument(name: string, value: Value | readonly Value[], mask: Mask): void {
    const shown = mask.text(name)
    const own = argumentHeadOf(name)
    const { head, stringHead } = shown === name ? own : argumentHeadOf(shown)
    if (own.isSecret) this.#data.addEscaped(head, masked, fieldEnd)
    else if (typeof value === 'string') {
      const text = mask.text(value)
      if (!this.#data.addPlain(stringHead, text, stringEnd)) this.#data.addEscaped(head, argumentText(text), fieldEnd)
    } else this.#data.addEscaped(head, mask.text(argumentText(value)), fieldEnd)
  }

  /** Bytes that copyTo takes. */
  get byteLength(): number {
    return this.#parts().reduce((sum, part) => sum + alignUp8(part.byteLength), 0)
  }

  #parts(): readonly Uint8Array[] {
    const rows = this.#rows.subarray(0, rowFieldCount * this.count)
    const lengths = this.#heads.byteLengths()
    return [
      new Uint8Array(rows.buffer, 0, rows.byteLength),
      new Uint8Array(lengths.buffer, 0, lengths.byteLength),
      this.#heads.bytes.taken(),
      this.#data.taken(),
      this.#errors.taken(),
      this.#requestIds.taken(),
    ]
  }

  /** Copies the entries to a place in the shared memory, 8-byte aligned. */
  copyTo(u8: Uint8Array, ptr: number): LaidEntries {
    let next = ptr
    const places = this.#parts().map((part) => {
      const place = next
      copyBytes(part, u8, place)
      next += alignUp8(part.byteLength)
      return place
    })
    const [rowsPtr, headLengthsPtr, headBytesPtr, ...ownBytesPtrs] = places as [number, number, number, ...number[]]
    return { count: this.count, rowsPtr, headCount: this.#heads.count, headLengthsPtr, headBytesPtr, ownBytesPtrs }
  }

  /** To be used again. */
  clear(): void {
    this.count = 0
    this.textByteLength = 0
    this.#heads.clear()
    for (const texts of [this.#data, this.#errors, this.#requestIds]) texts.clear()
  }
}

function alignUp8(byteLength: number): number {
  return Math.ceil(byteLength / 8) * 8
}
