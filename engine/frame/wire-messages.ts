// Encoded messages that are ready together. Of a thousand small ones a view of each takes longer than to copy all of them at once,
// so views are made when they are asked for, and messages that stand one behind the other can be had as one piece of memory.

/** In front of each placed message: what gRPC wants there, a 0 (not compressed) and its length, u32 big-endian. */
export const wirePrefixByteLength = 5

export interface WireMessages {
  readonly count: number
  /** Of all of them, without prefixes. */
  readonly byteLength: number
  /** Of the longest. */
  readonly byteLengthMax: number
  at(index: number): Uint8Array
  /**
   * The end of the messages from `index` on that stand one behind the other, each behind its prefix, in at most so many bytes;
   * `index` itself where there is none.
   */
  runEnd(index: number, byteLengthMax: number): number
  /** Messages [index, end) with their prefixes; end: what `runEnd` has told, and not `index`. */
  run(index: number, end: number): Uint8Array
}

/** Messages that stand anywhere. */
export class ListedMessages implements WireMessages {
  readonly #list: readonly Uint8Array[]
  readonly byteLength: number
  readonly byteLengthMax: number

  constructor(list: readonly Uint8Array[]) {
    this.#list = list
    let sum = 0
    let max = 0
    for (let i = 0; i < list.length; i++) {
      const { byteLength } = list[i]!
      sum += byteLength
      if (byteLength > max) max = byteLength
    }
    this.byteLength = sum
    this.byteLengthMax = max
  }

  get count(): number {
    return this.#list.length
  }

  at(index: number): Uint8Array {
    return this.#list[index]!
  }

  runEnd(index: number): number {
    return index
  }

  run(): Uint8Array {
    throw new RangeError('messages of a list have no prefix')
  }
}

/** Messages in one piece of memory, each behind its prefix; there may be gaps between them. */
export class PlacedMessages implements WireMessages {
  readonly #bytes: Uint8Array
  readonly #places: ArrayLike<number>
  readonly #start: number
  readonly rowCount: number
  readonly byteLength: number
  readonly byteLengthMax: number

  /**
   * bytes   from the first prefix to the end of the last message
   * places  rows, byte offset and byte length of each message, in the order of their offsets
   * start   the offset of `bytes`
   */
  constructor(bytes: Uint8Array, places: ArrayLike<number>, start: number) {
    this.#bytes = bytes
    this.#places = places
    this.#start = start
    let rowCount = 0
    let sum = 0
    let max = 0
    for (let i = 0; i < places.length; i += 3) {
      const byteLength = places[i + 2]!
      rowCount += places[i]!
      sum += byteLength
      if (byteLength > max) max = byteLength
    }
    this.rowCount = rowCount
    this.byteLength = sum
    this.byteLengthMax = max
  }

  get count(): number {
    return this.#places.length / 3
  }

  at(index: number): Uint8Array {
    const from = this.#offset(index)
    return this.#bytes.subarray(from, from + this.#byteLengthOf(index))
  }

  runEnd(index: number, byteLengthMax: number): number {
    const { count } = this
    const last = this.#offset(index) - wirePrefixByteLength + byteLengthMax
    let end = index
    for (let next = this.#offset(index); end < count && this.#offset(end) === next; end++) {
      const messageEnd = next + this.#byteLengthOf(end)
      if (messageEnd > last) break
      next = messageEnd + wirePrefixByteLength
    }
    return end
  }

  run(index: number, end: number): Uint8Array {
    const from = this.#offset(index) - wirePrefixByteLength
    return this.#bytes.subarray(from, this.#offset(end - 1) + this.#byteLengthOf(end - 1))
  }

  #offset(index: number): number {
    return this.#places[3 * index + 1]! - this.#start
  }

  #byteLengthOf(index: number): number {
    return this.#places[3 * index + 2]!
  }
}
