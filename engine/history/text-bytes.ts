// Texts as UTF-8, gathered on the main thread: short ones one character after the other, which is faster than any call.

/** Longer texts are left to Node.js. */
const shortLengthMax = 64
/** UTF-8 takes three bytes for a unit of a string at most. */
const byteLengthOfUnitMax = 3
const quote = 0x22
const backslash = 0x5c
/** Larger buffers are not kept for the texts to come. */
const keptByteLengthMax = 1024 * 1024

/** Bytes that grow. */
export class TextBytes {
  #buffer: Buffer
  byteLength = 0

  constructor(byteLength: number) {
    this.#buffer = Buffer.allocUnsafeSlow(byteLength)
  }

  #grow(byteLength: number): void {
    const wider = Buffer.allocUnsafeSlow(Math.max(byteLength, 2 * this.#buffer.byteLength))
    this.#buffer.copy(wider, 0, 0, this.byteLength)
    this.#buffer = wider
  }

  /** Returns the bytes that were added. */
  add(text: string): number {
    const { length } = text
    const start = this.byteLength
    if (start + byteLengthOfUnitMax * length > this.#buffer.byteLength) this.#grow(start + byteLengthOfUnitMax * length)
    const buffer = this.#buffer
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

  /** Adds head, text and end where JSON leaves the text as it is, also when it is escaped twice; else nothing, and returns false. */
  addPlain(head: Uint8Array, text: string, end: Uint8Array): boolean {
    const { length } = text
    let at = this.byteLength
    const byteLength = at + head.length + length + end.length
    if (byteLength > this.#buffer.byteLength) this.#grow(byteLength)
    const buffer = this.#buffer
    for (let i = 0; i < head.length; i++) buffer[at++] = head[i]!
    for (let i = 0; i < length; i++) {
      const unit = text.charCodeAt(i)
      if (unit < 0x20 || unit > 0x7e || unit === quote || unit === backslash) return false
      buffer[at++] = unit
    }
    for (let i = 0; i < end.length; i++) buffer[at++] = end[i]!
    this.byteLength = at
    return true
  }

  /** Adds head, the text as it stands between the quotes of JSON, and end. */
  addEscaped(head: Uint8Array, text: string, end: Uint8Array): void {
    if (this.addPlain(head, text, end)) return
    this.addBytes(head)
    this.add(JSON.stringify(text).slice(1, -1))
    this.addBytes(end)
  }

  addBytes(bytes: Uint8Array): void {
    const start = this.byteLength
    const byteLength = start + bytes.length
    if (byteLength > this.#buffer.byteLength) this.#grow(byteLength)
    const buffer = this.#buffer
    for (let i = 0; i < bytes.length; i++) buffer[start + i] = bytes[i]!
    this.byteLength = byteLength
  }

  addByte(byte: number): void {
    if (this.byteLength === this.#buffer.byteLength) this.#grow(this.byteLength + 1)
    this.#buffer[this.byteLength++] = byte
  }

  /** Takes back what was added since it had so many bytes. */
  cut(byteLength: number): void {
    this.byteLength = byteLength
  }

  taken(): Uint8Array {
    return this.#buffer.subarray(0, this.byteLength)
  }

  clear(): void {
    this.byteLength = 0
    if (this.#buffer.byteLength > keptByteLengthMax) this.#buffer = Buffer.allocUnsafeSlow(keptByteLengthMax)
  }
}
