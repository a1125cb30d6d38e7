// Texts of the history's entries as bytes, gathered on the main thread: short ones one character after the other, which is
// faster than any call, and those that repeat only counted.

/** Texts of several rows as UTF-8; neighbours that are equal are one run. */
export interface TextRuns {
  /** The texts of all runs, one behind the other. */
  readonly bytes: Uint8Array
  /** Bytes of each; -1: there is none. */
  readonly byteLengths: Int32Array
  readonly rowCounts: Uint32Array
}

/** Longer texts are left to Node.js. */
const shortLengthMax = 64
/** UTF-8 takes three bytes for a unit of a string at most. */
const byteLengthOfUnitMax = 3
const quote = 0x22
const backslash = 0x5c

/** Bytes that grow. */
class TextBytes {
  buffer: Buffer
  byteLength = 0

  constructor(byteLength: number) {
    this.buffer = Buffer.allocUnsafeSlow(byteLength)
  }

  #reserve(byteLength: number): void {
    const needed = this.byteLength + byteLength
    if (needed <= this.buffer.byteLength) return
    const wider = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.buffer.byteLength))
    this.buffer.copy(wider, 0, 0, this.byteLength)
    this.buffer = wider
  }

  /** Returns the bytes that were added. */
  add(text: string): number {
    const { length } = text
    this.#reserve(byteLengthOfUnitMax * length)
    const { buffer, byteLength: start } = this
    if (length <= shortLengthMax) {
      let i = 0
      for (; i < length; i++) {
        const unit = text.charCodeAt(i)
        if (unit > 0x7f) break
        buffer[start + i] = unit
      }
      if (i === length) {
        this.byteLength = start + length
        return length
      }
    }
    const added = buffer.write(text, start)
    this.byteLength = start + added
    return added
  }

  /** Adds a text as it stands between the quotes of JSON. */
  addEscaped(text: string): void {
    const { length } = text
    this.#reserve(length)
    const { buffer, byteLength: start } = this
    for (let i = 0; i < length; i++) {
      const unit = text.charCodeAt(i)
      if (unit < 0x20 || unit > 0x7e || unit === quote || unit === backslash) {
        this.add(JSON.stringify(text).slice(1, -1))
        return
      }
      buffer[start + i] = unit
    }
    this.byteLength = start + length
  }

  addBytes(bytes: Uint8Array): void {
    const { length } = bytes
    this.#reserve(length)
    const { buffer, byteLength: start } = this
    for (let i = 0; i < length; i++) buffer[start + i] = bytes[i]!
    this.byteLength = start + length
  }

  taken(): Uint8Array {
    return this.buffer.subarray(0, this.byteLength)
  }
}

/** The texts of one column. */
export class TextColumn {
  readonly #bytes: TextBytes
  #byteLengths: Int32Array
  #rowCounts: Uint32Array
  #runCount = 0
  #last: string | null | undefined = undefined

  /** Room for so many runs at first. */
  constructor(runCount: number) {
    this.#bytes = new TextBytes(16 * runCount)
    this.#byteLengths = new Int32Array(runCount)
    this.#rowCounts = new Uint32Array(runCount)
  }

  /** Adds a row; returns the bytes of its text. */
  add(text: string | null): number {
    // Mostly the very same string, which is found out by looking at where it stands.
    if (text === this.#last) {
      this.#rowCounts[this.#runCount - 1]!++
      return Math.max(0, this.#byteLengths[this.#runCount - 1]!)
    }
    this.#last = text
    const byteLength = text === null ? -1 : this.#bytes.add(text)
    this.#addRun(byteLength)
    return Math.max(0, byteLength)
  }

  #addRun(byteLength: number): void {
    const run = this.#runCount++
    if (run === this.#byteLengths.length) {
      const byteLengths = new Int32Array(2 * run)
      byteLengths.set(this.#byteLengths)
      this.#byteLengths = byteLengths
      const rowCounts = new Uint32Array(2 * run)
      rowCounts.set(this.#rowCounts)
      this.#rowCounts = rowCounts
    }
    this.#byteLengths[run] = byteLength
    this.#rowCounts[run] = 1
  }

  /** The row whose text is written piece by piece: to the bytes, until `endRow`. */
  get bytes(): TextBytes {
    return this.#bytes
  }

  /** Ends a row whose text began at this byte; one without bytes has no text. Returns its bytes. */
  endRow(start: number): number {
    const byteLength = this.#bytes.byteLength - start
    this.#addRun(byteLength === 0 ? -1 : byteLength)
    return byteLength
  }

  runs(): TextRuns {
    return {
      bytes: Uint8Array.from(this.#bytes.taken()),
      byteLengths: this.#byteLengths.slice(0, this.#runCount),
      rowCounts: this.#rowCounts.slice(0, this.#runCount),
    }
  }
}
