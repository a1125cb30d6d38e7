// Which metrics a label set has, and of which types. Few label sets differ in that, so each distinct answer is kept once
// and the label table names it by number.
import type { DType } from '../../frame/dtype.js'

/** Types seen in the writes of one series: a bit each. A series is numeric or string, never both. */
export const typeBits = { int64: 1, float64: 2, bool: 4, string: 8 } as const
export type MetricType = keyof typeof typeBits
const numericBits = typeBits.int64 | typeBits.float64 | typeBits.bool

/** Metric name → type bits. Number 0 is the signature of a label set that was never written. */
export type Signature = ReadonlyMap<string, number>
export type SignatureMessage = readonly (readonly [metric: string, bits: number])[]

export function isMetricType(dtype: DType): dtype is MetricType {
  return dtype in typeBits
}

/** True when a string and a number would meet in one series. */
export function conflicts(bits: number, type: MetricType): boolean {
  return type === 'string' ? (bits & numericBits) !== 0 : (bits & typeBits.string) !== 0
}

/** True when a series would be of text and of numbers. */
export function isContradictory(bits: number): boolean {
  return (bits & typeBits.string) !== 0 && (bits & numericBits) !== 0
}

/** The one type in which a series reads: bool with int is int, anything with float is float. */
export function seriesType(bits: number): MetricType {
  if (bits & typeBits.string) return 'string'
  if (bits & typeBits.float64) return 'float64'
  return bits & typeBits.int64 ? 'int64' : 'bool'
}

/** The types whose stored columns may hold cells of a series, in a fixed order. */
export function storedTypes(bits: number): MetricType[] {
  return (Object.keys(typeBits) as MetricType[]).filter((type) => (bits & typeBits[type]) !== 0)
}

/** The signatures of one table. Append-only; the same list on the main thread and, by message, in workers. */
export class Signatures {
  readonly list: Signature[] = [new Map()]
  readonly #numbers = new Map<string, number>([['', 0]])
  /** The last answer of extended: neighbours ask for the same. */
  #last: { number: number; types: ReadonlyMap<string, number>; extended: number } | null = null
  /** Where the signatures of a fork are known that it began with. */
  #base: Signatures | null = null

  static of(messages: readonly SignatureMessage[]): Signatures {
    const signatures = new Signatures()
    for (const message of messages) signatures.add(new Map(message))
    return signatures
  }

  /** A list of its own that begins with this one, which must not grow any more. */
  fork(): Signatures {
    const fork = new Signatures()
    for (let number = 1; number < this.list.length; number++) fork.list.push(this.list[number]!)
    fork.#base = this
    return fork
  }

  #numberOf(text: string): number | undefined {
    return this.#numbers.get(text) ?? (this.#base === null ? undefined : this.#base.#numberOf(text))
  }

  /** Its number; one that equals it is not looked for. */
  add(signature: Signature): number {
    const number = this.list.length
    this.list.push(signature)
    this.#numbers.set(textOf(signature), number)
    return number
  }

  /** The signature `number` with more types; an existing number where there is one. */
  extended(number: number, types: ReadonlyMap<string, number>): number {
    const last = this.#last
    if (last?.number === number && last.types === types) return last.extended
    const extended = this.#extended(number, types)
    this.#last = { number, types, extended }
    return extended
  }

  #extended(number: number, types: ReadonlyMap<string, number>): number {
    const base = this.list[number]!
    let changed: Map<string, number> | null = null
    for (const [metric, bits] of types) {
      const before = base.get(metric) ?? 0
      if ((before | bits) === before) continue
      changed ??= new Map(base)
      changed.set(metric, before | bits)
    }
    if (changed === null) return number
    return this.#numberOf(textOf(changed)) ?? this.add(changed)
  }

  /** Those from `first` on, as messages. */
  since(first: number): SignatureMessage[] {
    return this.list.slice(first).map((signature) => [...signature])
  }
}

function textOf(signature: Signature): string {
  return [...signature]
    .map(([metric, bits]) => `${metric} ${bits}`)
    .sort()
    .join('\n')
}
