// Which columns a label set's or a group's frames have, and what is read of each set for them.
import type { OverTimeFunction, ReadPlan, ReadShape } from './plan.js'
import { planColumns } from './plan.js'
import type { ScanInput, ScanSet } from './scan-input.js'
import type { WantedMetric } from './series-reader.js'
import type { MetricType, Signature } from './signature.js'
import { seriesType, storedTypes, typeBits } from './signature.js'

/** The value columns of a label set's or a group's frames. */
export interface WantedColumns {
  /** Metrics that the set has; in a group, a metric that is text in some sets and numeric in others stands here twice. */
  readonly metrics: readonly WantedMetric[]
  /**
   * Output columns: name, type, and which of `metrics` they come from (-1: the set has no such metric). counted: another
   * of `metrics` whose samples count, too, or -1.
   */
  readonly columns: readonly {
    readonly name: string
    readonly type: MetricType
    readonly metric: number
    readonly counted: number
    readonly fn: OverTimeFunction | null
  }[]
}

/** Null when the set has none of the requested metrics: then it has no frame at all. */
export function wantedMetrics(
  plan: ReadPlan,
  signature: Signature,
  allowed: ReadonlySet<string> | null,
): WantedColumns | null {
  const names = [...signature.keys()].filter((name) => allowed === null || allowed.has(name)).sort()
  const present = new Set(names)
  const metrics: WantedMetric[] = []
  const numbers = new Map<string, { readonly number: number; readonly counted: number }>()
  const add = (name: string, bits: number): number =>
    bits === 0 ? -1 : metrics.push({ name, type: seriesType(bits), storedTypes: storedTypes(bits) }) - 1
  const columns = planColumns(plan, names).map(({ metric: name, fn, name: shownName }) => {
    let found = numbers.get(name)
    if (found === undefined) {
      const bits = present.has(name) ? (signature.get(name) ?? 0) : 0
      const numeric = add(name, bits & ~typeBits.string)
      const text = add(name, bits & typeBits.string)
      found = numeric < 0 ? { number: text, counted: -1 } : { number: numeric, counted: text }
      numbers.set(name, found)
    }
    const { number, counted } = found
    const type = plan.mode === 'raw' && number >= 0 ? metrics[number]!.type : 'float64'
    return { name: shownName, type, metric: number, counted, fn }
  })
  return metrics.length === 0 ? null : { metrics, columns }
}

/** The columns of a frame of one label set by itself, and what is read of it. */
export interface SetColumns {
  readonly wanted: WantedColumns
  readonly read: Omit<Member, keyof ScanSet>
}

/** Worked out once for all reads of a shape: most label sets have the same metrics. */
const knownColumns = new WeakMap<ReadShape, WeakMap<Signature, SetColumns | null>>()

/** Null when the set has none of the requested metrics: then it has no frame at all. */
export function columnsOfSet(plan: ReadPlan, signature: Signature): SetColumns | null {
  let ofShape = knownColumns.get(plan.shape)
  if (ofShape === undefined) knownColumns.set(plan.shape, (ofShape = new WeakMap()))
  let known = ofShape.get(signature)
  if (known === undefined) {
    const wanted = wantedMetrics(plan, signature, null)
    known = wanted === null ? null : { wanted, read: ownMetrics(wanted, signature) }
    ofShape.set(signature, known)
  }
  return known
}

/** A label set of a pool: what to read of it, and which of the pool's metrics each is. */
export interface Member extends ScanSet {
  readonly metrics: readonly WantedMetric[]
  readonly states: readonly number[]
}

export interface Pool {
  readonly wanted: WantedColumns
  /** Its first set, whose labels are those of the group. */
  readonly first: ScanSet
  readonly setCount: number
  /** What to read of one of its sets; null: nothing. Made when it is asked for: a pool may have a million sets. */
  readonly memberAt: (index: number) => Member | null
}

/** What pools of several sets share: columns by the numbers of their signatures. */
interface SharedColumns {
  readonly wantedByKey: Map<
    string,
    { readonly wanted: WantedColumns | null; readonly read: Map<Signature, Omit<Member, keyof ScanSet>> }
  >
  readonly signatureNumbers: Map<Signature, number>
}

/** Pools of label sets. Most have the same metrics: what follows from those is worked out once. */
export class Pools {
  /** Of pools of several sets; null: there was none yet. */
  #shared: SharedColumns | null = null
  /** Metrics that are let through → signature → what is left of it. */
  #narrowings: Map<ReadonlySet<string>, Map<Signature, Signature>> | null = null

  constructor(
    readonly plan: ReadPlan,
    readonly input: Pick<ScanInput, 'setAt' | 'metricsAt'>,
  ) {}

  /** Of sets [start, end); null when none of them has a requested metric. */
  of(start: number, end: number): Pool | null {
    if (end - start === 1) return this.#single(this.#setAt(start))
    const signatures = new Set<Signature>()
    for (let index = start; index < end; index++) signatures.add(this.#setAt(index).signature)
    const { wantedByKey, signatureNumbers } = (this.#shared ??= { wantedByKey: new Map(), signatureNumbers: new Map() })
    const key = [...signatures]
      .map((signature) => numberOf(signatureNumbers, signature))
      .sort((a, b) => a - b)
      .join()
    let known = wantedByKey.get(key)
    if (known === undefined) {
      const union = new Map<string, number>()
      for (const signature of signatures)
        for (const [name, bits] of signature) union.set(name, (union.get(name) ?? 0) | bits)
      known = { wanted: wantedMetrics(this.plan, union, null), read: new Map() }
      wantedByKey.set(key, known)
    }
    const { wanted, read } = known
    if (wanted === null) return null
    const memberAt = (index: number): Member | null => {
      const entry = this.#setAt(start + index)
      let own = read.get(entry.signature)
      if (own === undefined) {
        own = ownMetrics(wanted, entry.signature)
        read.set(entry.signature, own)
      }
      return memberOf(entry, own)
    }
    return { wanted, first: this.#setAt(start), setCount: end - start, memberAt }
  }

  #single(first: ScanSet): Pool | null {
    const known = columnsOfSet(this.plan, first.signature)
    if (known === null) return null
    const member = memberOf(first, known.read)
    return { wanted: known.wanted, first, setCount: 1, memberAt: () => member }
  }

  /** What a filter on metrics lets through is a signature of its own. */
  #setAt(index: number): ScanSet {
    const entry = this.input.setAt(index)
    const allowed = this.input.metricsAt(index)
    return allowed === null ? entry : { set: entry.set, signature: this.#narrowed(entry.signature, allowed) }
  }

  #narrowed(signature: Signature, allowed: ReadonlySet<string>): Signature {
    const narrowings = (this.#narrowings ??= new Map())
    let known = narrowings.get(allowed)
    if (known === undefined) narrowings.set(allowed, (known = new Map()))
    let narrowed = known.get(signature)
    if (narrowed === undefined) {
      narrowed = new Map([...signature].filter(([name]) => allowed.has(name)))
      known.set(signature, narrowed)
    }
    return narrowed
  }
}

function numberOf(numbers: Map<Signature, number>, signature: Signature): number {
  let number = numbers.get(signature)
  if (number === undefined) numbers.set(signature, (number = numbers.size))
  return number
}

/** Not by spreading, which makes an object of a shape of its own. Null: it has none of the metrics. */
function memberOf({ set, signature }: ScanSet, { metrics, states }: Omit<Member, keyof ScanSet>): Member | null {
  return metrics.length === 0 ? null : { set, signature, metrics, states }
}

/** Which of a pool's metrics a set of this signature has. */
function ownMetrics({ metrics }: WantedColumns, signature: Signature): Omit<Member, keyof ScanSet> {
  const own: WantedMetric[] = []
  const states: number[] = []
  metrics.forEach(({ name, type }, state) => {
    const bits = signature.get(name) ?? 0
    const isText = type === 'string'
    if (bits === 0 || isText !== ((bits & typeBits.string) !== 0)) return
    own.push({ name, type: seriesType(bits), storedTypes: storedTypes(bits) })
    states.push(state)
  })
  return { metrics: own, states }
}
