// Entries on their way to the store, as numbers and bytes, so that neither a request nor the message to a worker takes long. A
// worker makes a block of them (jobs.ts).
//
//   rows    a cache line each: numbers, the number of its head, and how many bytes of each other text are its own
//   heads   what most entries share with one before them: who asked, what of, and of what was set that which stays the same
//   own data, errors, request ids: texts one behind the other
import { FramesError } from '../errors.js'
import type { Value } from '../frame/dtype.js'
import { copyBytes } from '../memory/copy.js'
import { argumentText, type DataField, type DataSink, type EndedRequest, isSecretName, tellData } from './entry.js'
import { type Mask, masked } from './mask.js'
import { TextBytes } from './text-bytes.js'

/** What an entry says of who asked, and what of. */
const requestTexts = [
  'userName',
  'backendName',
  'tableName',
  'action',
  'container',
  'protocol',
  'clientAddress',
] as const satisfies readonly (keyof Told)[]

/** The texts of a head, in the order in which they are stored. */
export const headTexts: readonly string[] = [...requestTexts, 'data']

/** The texts that are an entry's own, in the order of their fields and of their bytes. */
export const ownTexts: readonly string[] = ['ownData', 'error', 'requestId']

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

/** How the text of a field is shown. */
const asIs = 0
/** Of an argument, with the type before its value. */
const asArgument = 1
/** Of an argument that is a string: the text has still to be quoted. */
const asString = 2
type Showing = typeof asIs | typeof asArgument | typeof asString

/** Around a text, as argumentText has it of a string and JSON escapes it. */
const textStart = Buffer.from('"')
const textEnd = Buffer.from('"')
const stringStart = Buffer.from('"sval:\\"')
const stringEnd = Buffer.from('\\""')
const comma = 0x2c

/** Names of arguments, nearly always the same few, and whether they are those of secrets. */
const knownNames = new Map<string, boolean>()
const knownNameCountMax = 256
const knownNameLengthMax = 256

function isSecret(name: string): boolean {
  const known = knownNames.get(name)
  if (known !== undefined) return known
  const is = isSecretName(name)
  if (knownNames.size < knownNameCountMax && name.length <= knownNameLengthMax) knownNames.set(name, is)
  return is
}

/** What a request says, masked. One is used again for each entry. */
class Told implements DataSink {
  userName = ''
  backendName = ''
  tableName = ''
  action = ''
  container = ''
  protocol: string | null = null
  clientAddress: string | null = null
  /** Of what was set; those behind it are of requests before. */
  count = 0
  readonly names: string[] = []
  readonly showings: Showing[] = []
  readonly texts: string[] = []

  tell({ recorded, backendName, caller }: EndedRequest, mask: Mask): void {
    const { action, request } = recorded
    const { session } = request
    this.userName = mask.name(session?.user ?? '')
    this.backendName = mask.name(backendName)
    this.tableName = mask.name(request.table)
    this.action = action
    this.container = mask.name(session?.container ?? '')
    this.protocol = caller?.protocol ?? null
    this.clientAddress = caller?.address ?? null
    this.count = 0
    tellData(recorded, mask, this)
  }

  field(name: DataField, text: string): void {
    this.#put(name, asIs, text)
  }

  argument(name: string, value: Value | readonly Value[], mask: Mask): void {
    const shown = mask.text(name)
    if (isSecret(name)) this.#put(shown, asArgument, masked)
    else if (typeof value === 'string') this.#put(shown, asString, mask.text(value))
    else this.#put(shown, asArgument, mask.text(argumentText(value)))
  }

  #put(name: string, showing: Showing, text: string): void {
    const i = this.count++
    this.names[i] = name
    this.showings[i] = showing
    this.texts[i] = text
  }
}

interface HeadField {
  readonly name: string
  readonly showing: Showing
  /** null: each entry has its own. */
  readonly text: string | null
}

interface Head {
  readonly number: number
  readonly texts: Pick<Told, (typeof requestTexts)[number]>
  readonly fields: readonly HeadField[]
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

  of(told: Told): Head {
    if (this.#last !== null && isHeadOf(this.#last, told)) return this.#last
    const head = this.#recent.find((recent) => isHeadOf(recent, told)) ?? this.#add(told)
    this.#last = head
    return head
  }

  #add(told: Told): Head {
    const { userName, backendName, tableName, action, container, protocol, clientAddress } = told
    const like = this.#recent.find((recent) => isLike(recent, told))
    const fields = Array.from({ length: told.count }, (_, i) => {
      const text = told.texts[i]!
      // What has differed once will differ again.
      const isOwn = like !== undefined && like.fields[i]!.text !== text
      return { name: told.names[i]!, showing: told.showings[i]!, text: isOwn ? null : text }
    })
    const texts = { userName, backendName, tableName, action, container, protocol, clientAddress }
    const all = [...requestTexts.map((name) => texts[name]), dataOf(fields)]
    const number = this.count
    const first = headTexts.length * number
    if (first === this.#byteLengths.length) {
      const wider = new Int32Array(2 * first)
      wider.set(this.#byteLengths)
      this.#byteLengths = wider
    }
    const start = this.bytes.byteLength
    try {
      for (const [i, text] of all.entries()) this.#byteLengths[first + i] = text === null ? -1 : this.bytes.add(text)
    } catch (error) {
      this.bytes.cut(start)
      throw error
    }
    this.count++
    const head = { number, texts, fields, byteLength: this.bytes.byteLength - start }
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

/** JSON of an object of what was set, with numbers for the texts that are each entry's own; null where nothing was set. */
function dataOf(fields: readonly HeadField[]): string | null {
  if (fields.length === 0) return null
  let ownCount = 0
  const members = fields.map(({ name, showing, text }) => {
    const key = JSON.stringify(showing === asIs ? name : `args_${name}`)
    if (text === null) return `${key}:${ownCount++}`
    return `${key}:${JSON.stringify(showing === asString ? argumentText(text) : text)}`
  })
  return `{${members.join(',')}}`
}

/** Whether an entry has all that is the same for the entries of a head. */
function isHeadOf(head: Head, told: Told): boolean {
  if (!isLike(head, told)) return false
  const { fields } = head
  for (let i = 0; i < fields.length; i++) {
    const { text } = fields[i]!
    if (text !== null && text !== told.texts[i]) return false
  }
  return true
}

/**
 * Whether an entry is one of a head but for the texts of what was set. Mostly they are the very same strings, which is found
 * out by looking at where they stand.
 */
function isLike({ texts, fields }: Head, told: Told): boolean {
  if (
    fields.length !== told.count ||
    texts.tableName !== told.tableName ||
    texts.action !== told.action ||
    texts.backendName !== told.backendName ||
    texts.clientAddress !== told.clientAddress ||
    texts.userName !== told.userName ||
    texts.container !== told.container ||
    texts.protocol !== told.protocol
  )
    return false
  for (let i = 0; i < fields.length; i++) {
    const { name, showing } = fields[i]!
    if (name !== told.names[i] || showing !== told.showings[i]) return false
  }
  return true
}

export class PendingEntries {
  count = 0
  /** Bytes of all texts, those of a head once for each of its entries. */
  textByteLength = 0
  #rows = new Float64Array(rowFieldCount * capacityMin)
  readonly #told = new Told()
  readonly #heads = new Heads()
  readonly #ownData = new TextBytes(4096)
  readonly #errors = new TextBytes(256)
  readonly #requestIds = new TextBytes(256)

  /** Throws where a request cannot be told, such as texts too long to be joined; the batch is then as before. */
  add(ended: EndedRequest, mask: Mask): void {
    const [ownDataByteLength, errorsByteLength, requestIdsByteLength] = [
      this.#ownData.byteLength,
      this.#errors.byteLength,
      this.#requestIds.byteLength,
    ]
    try {
      this.#add(ended, mask)
    } catch (error) {
      this.#ownData.cut(ownDataByteLength)
      this.#errors.cut(errorsByteLength)
      this.#requestIds.cut(requestIdsByteLength)
      throw error
    }
  }

  #add(ended: EndedRequest, mask: Mask): void {
    const at = rowFieldCount * this.count
    if (at === this.#rows.length) {
      const wider = new Float64Array(2 * at)
      wider.set(this.#rows)
      this.#rows = wider
    }
    const { error, caller } = ended
    const told = this.#told
    told.tell(ended, mask)
    const head = this.#heads.of(told)
    const dataByteLength = this.#addOwnData(head.fields, told.texts)
    const errorByteLength = error === undefined ? 0 : this.#errors.add(mask.text(errorText(error)))
    const requestIdByteLength = caller === undefined ? 0 : this.#requestIds.add(caller.requestId)
    const rows = this.#rows
    rows[at + rowFields.startMs] = Math.floor(ended.startMs)
    rows[at + rowFields.durationNs] = ended.durationMs * 1e6
    rows[at + rowFields.rowCount] = ended.rowCount ?? Number.NaN
    rows[at + rowFields.byteLength] = ended.byteLength ?? Number.NaN
    rows[at + rowFields.head] = head.number
    rows[at + rowFields.ownTexts] = dataByteLength === 0 ? -1 : dataByteLength
    rows[at + rowFields.ownTexts + 1] = error === undefined ? -1 : errorByteLength
    rows[at + rowFields.ownTexts + 2] = caller === undefined ? -1 : requestIdByteLength
    this.textByteLength += head.byteLength + dataByteLength + errorByteLength + requestIdByteLength
    this.count++
  }

  /** Returns the bytes that were added. */
  #addOwnData(fields: readonly HeadField[], texts: readonly string[]): number {
    const own = this.#ownData
    const start = own.byteLength
    for (let i = 0; i < fields.length; i++) {
      const { showing, text } = fields[i]!
      if (text !== null) continue
      if (own.byteLength > start) own.addByte(comma)
      const shown = texts[i]!
      if (showing !== asString) own.addEscaped(textStart, shown, textEnd)
      else if (!own.addPlain(stringStart, shown, stringEnd)) own.addEscaped(textStart, argumentText(shown), textEnd)
    }
    return own.byteLength - start
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
      this.#ownData.taken(),
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
    for (const texts of [this.#ownData, this.#errors, this.#requestIds]) texts.clear()
  }
}

function errorText(error: unknown): string {
  if (error instanceof FramesError) return error.what
  // What is none of these is a defect of ours, whose text is for the log alone.
  return 'internal error'
}

function alignUp8(byteLength: number): number {
  return Math.ceil(byteLength / 8) * 8
}
