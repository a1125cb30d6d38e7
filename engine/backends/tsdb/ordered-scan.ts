// Reads in the order of time: ORDER BY time. Each frame is of one label set or group, as ever; its rows come in the asked
// order, and a limit takes the rows that come first among those of all frames.
//
// A unit sends its rows in ascending order only. Newest first, it is therefore read span by span from its end, each as
// long as its rows fit into one message, and the message is turned round. Which rows a limit takes is found first: the
// time of the last one of them, and how many rows of just that time there are among them.
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { toInt64, toNs } from './bounds.js'
import { type MessageSink, shiftBatch } from './message-sink.js'
import type { ReadPlan } from './plan.js'
import { RowCollector } from './row-collector.js'
import { type OrderedPosition, rowCountNone, type ScanInput, type ScanPosition, type ScanResult } from './scan-input.js'
import type { Batch } from './series-reader.js'
import type { MetricType } from './signature.js'
import { cancelled, type RowSink, type Unit, type Units } from './units.js'

/** Times of one span while the limit's rows are looked for. */
const spanRowCountMax = 65_536

/** Stops a unit. */
const notTaken: ScanPosition = { index: 0, fromNs: 0n, carry: [], ordered: null }

export function scanOrdered(
  kernels: Kernels,
  units: Units,
  sink: MessageSink,
  scratch: { readonly collected: Scratch; readonly temporary: Scratch },
  input: ScanInput,
): ScanResult {
  const { plan, position, isCancelled } = input
  const order = plan.order!
  const bounds = new Bounds(plan)
  const isLimited = input.rowCountMax !== rowCountNone
  let { threshold }: Pick<OrderedPosition, 'threshold'> = position?.ordered ?? { threshold: null }
  // Of a single unit, the rows that come first are the first rows.
  if (isLimited && position === null && units.count > 1) {
    threshold = findThreshold(kernels, units, scratch, input, bounds)
    if (threshold === null) return sink.result(null)
  }
  for (let index = position?.index ?? 0; index < units.count; index++) {
    if (isCancelled()) throw cancelled()
    if (isLimited && sink.isAtRowLimit) break
    const unit = units.at(index)
    if (unit === null) continue
    const from = index === position?.index ? position.ordered : null
    const { lowNs, highNs } = bounds.within(threshold, order.descending)
    const cut = new Cut(kernels, scratch.temporary, sink, typesOf(unit, plan), {
      lowNs,
      highNs,
      tieNs: threshold?.timeNs ?? null,
    })
    sink.begin(index, unit.first, unit.wanted)
    if (order.descending) {
      const spanNs = from?.spanNs ?? bounds.firstSpanNs(input.rowCountMax)
      const spans = new Spans(unit, bounds, lowNs, from?.toNs ?? highNs, spanNs)
      while (spans.isOpen) {
        if (isCancelled()) throw cancelled()
        if (!spans.fill(cut)) {
          sink.discard()
          continue
        }
        sink.endReversed()
        if (isLimited && sink.isAtRowLimit) return sink.result(null)
        if (!sink.isLarge || !spans.isOpen) continue
        threshold = cut.leftOf(threshold)
        const ordered = { threshold, toNs: spans.toNs, spanNs: spans.spanNs }
        return sink.result({ index, fromNs: bounds.startNs, carry: [], ordered })
      }
    } else {
      const resumed = index === position?.index ? position : null
      const fromNs = resumed?.fromNs ?? lowNs
      if (unit.open({ fromNs, toNs: highNs, carry: resumed?.carry ?? [] })) {
        const next = unit.send(cut)
        sink.end()
        threshold = cut.leftOf(threshold)
        if (next !== null) {
          if (isLimited && sink.isAtRowLimit) break
          return sink.result({ ...next, ordered: { threshold, toNs: null, spanNs: null } })
        }
      }
    }
    threshold = cut.leftOf(threshold)
    if (sink.isLarge && index + 1 < units.count && !(isLimited && sink.isAtRowLimit)) {
      const ordered = { threshold, toNs: null, spanNs: null }
      return sink.result({ index: index + 1, fromNs: bounds.startNs, carry: [], ordered })
    }
  }
  return sink.result(null)
}

/** The time of the last row that a limit takes, and how many rows of that time it takes. */
export interface Threshold {
  readonly timeNs: bigint
  readonly tieCount: number
}

/** The times that rows of a plan may have: [startNs, endNs), in whole grains. */
class Bounds {
  readonly startNs: bigint
  readonly endNs: bigint
  /** Two rows of a unit are at least so far from each other. */
  readonly grainNs: bigint
  /** Rates need all that was before. */
  readonly needsPast: boolean

  constructor(plan: ReadPlan) {
    this.startNs = toNs(plan.startMs)
    const isRaw = plan.mode === 'raw'
    this.grainNs = isRaw ? 1n : toNs(plan.stepMs)
    this.needsPast = plan.functions.includes('rate')
    const afterNs = toNs(plan.endMs + 1)
    this.endNs = isRaw ? afterNs : this.alignedUp(afterNs)
  }

  /** What to try first: of buckets no more than the limit needs; of samples nobody knows how dense they are. */
  firstSpanNs(rowCountMax: number): bigint {
    const wholeNs = this.endNs - this.startNs
    if (this.grainNs === 1n) return wholeNs
    const neededNs = BigInt(rowCountMax) * this.grainNs
    return neededNs < wholeNs ? neededNs : wholeNs
  }

  alignedUp(timeNs: bigint): bigint {
    const { startNs, grainNs } = this
    return toInt64(startNs + ((timeNs - startNs + grainNs - 1n) / grainNs) * grainNs)
  }

  /** Where rows may stand that are before the threshold, or at it while there are places left. */
  within(threshold: Threshold | null, descending: boolean): { lowNs: bigint; highNs: bigint } {
    const { startNs, endNs, grainNs } = this
    if (threshold === null) return { lowNs: startNs, highNs: endNs }
    const { timeNs, tieCount } = threshold
    if (descending) return { lowNs: tieCount > 0 ? timeNs : timeNs + grainNs, highNs: endNs }
    return { lowNs: startNs, highNs: tieCount > 0 ? timeNs + grainNs : timeNs }
  }
}

/** Of the columns of a unit's batches. */
function typesOf({ wanted }: Unit, { mode }: ReadPlan): readonly { readonly type: MetricType }[] {
  return mode === 'raw' ? wanted.metrics : wanted.columns
}

interface CutSink {
  push(batch: Batch, keepsWhole: boolean): ScanPosition | null
  takesFirst(batch: Batch): boolean
}

/** Lets rows in [fromNs, highNs) through, and sees whether one stands at a time of interest. */
class Cut implements RowSink {
  /** A span may begin later than the unit does. */
  fromNs: bigint
  /** Set while spans are tried: rows are taken whole or not at all. */
  keepsWhole = false
  readonly #highNs: bigint
  readonly #tieNs: bigint | null
  #hasTie = false

  constructor(
    readonly kernels: Kernels,
    readonly temporary: Scratch,
    readonly sink: CutSink,
    readonly types: readonly { readonly type: MetricType }[],
    { lowNs, highNs, tieNs }: { lowNs: bigint; highNs: bigint; tieNs: bigint | null },
  ) {
    this.fromNs = lowNs
    this.#highNs = highNs
    this.#tieNs = tieNs
  }

  push(batch: Batch): ScanPosition | null {
    const { call, i64 } = this.kernels
    const { timesPtr, rowCount } = batch
    const from = call.lowerBoundInt64(timesPtr, 0, rowCount, this.fromNs)
    const to = call.lowerBoundInt64(timesPtr, from, rowCount, this.#highNs)
    if (from >= to) return null
    // Only the first or the last of all rows can stand there.
    for (const row of this.#tieNs === null ? [] : [from, to - 1])
      if (i64[(timesPtr >> 3) + row] === this.#tieNs && this.sink.takesFirst(this.tail(batch, row))) this.#hasTie = true
    const rows = this.tail(batch, from)
    return this.sink.push(to - from === rows.rowCount ? rows : { ...rows, rowCount: to - from }, this.keepsWhole)
  }

  /** A batch from a row on. */
  tail(batch: Batch, row: number): Batch {
    return row === 0 ? batch : shiftBatch(this.kernels, this.temporary, batch, row, this.types)
  }

  /** What was taken is not kept. */
  forget(): void {
    this.#hasTie = false
  }

  /** The threshold without the place that the row at its time has taken. */
  leftOf(threshold: Threshold | null): Threshold | null {
    if (threshold === null || !this.#hasTie) return threshold
    this.#hasTie = false
    return { ...threshold, tieCount: threshold.tieCount - 1 }
  }
}

/** Spans of a unit from its end to its beginning, each as long as its rows fit. */
class Spans {
  toNs: bigint
  spanNs: bigint

  constructor(
    readonly unit: Unit,
    readonly bounds: Bounds,
    readonly lowNs: bigint,
    highNs: bigint,
    spanNs: bigint,
  ) {
    this.toNs = highNs
    this.spanNs = spanNs
  }

  get isOpen(): boolean {
    return this.toNs > this.lowNs
  }

  /**
   * Sends the rows of the last span that was not sent. False when they do not fit: what was taken is to be discarded, and
   * a shorter span comes next.
   */
  fill(cut: Cut): boolean {
    const { grainNs, startNs, needsPast } = this.bounds
    const grains = this.spanNs / grainNs
    const fullNs = this.toNs - this.lowNs
    const spanNs = grains < 1n ? grainNs : grains * grainNs < fullNs ? grains * grainNs : fullNs
    const fromNs = this.toNs - spanNs
    cut.fromNs = fromNs
    // Of one grain there is one row, whatever its size.
    cut.keepsWhole = spanNs > grainNs
    const openFromNs = needsPast ? startNs : fromNs
    const isFound = this.unit.open({ fromNs: openFromNs, toNs: this.toNs, carry: [] })
    const rest = isFound ? this.unit.send(cut) : null
    if (rest !== null) {
      cut.forget()
      // Rows are as dense at the end as they were up to where it was full, or the span is halved.
      const fittedNs = rest.fromNs - fromNs
      const halfNs = spanNs / 2n
      this.spanNs = fittedNs > 0n && fittedNs < halfNs ? fittedNs : halfNs
      return false
    }
    this.toNs = fromNs
    this.spanNs = spanNs * 2n
    return true
  }
}

/** The limit's last row among the rows of all units; null: there are no rows. */
function findThreshold(
  kernels: Kernels,
  units: Units,
  scratch: { readonly collected: Scratch; readonly temporary: Scratch },
  { plan, rowCountMax, isCancelled }: ScanInput,
  bounds: Bounds,
): Threshold | null {
  const { descending } = plan.order!
  const mark = scratch.collected.mark()
  const best = new BestTimes(rowCountMax, descending)
  const times = new TimeSink(kernels, scratch.collected, plan.mode === 'raw')
  for (let index = 0; index < units.count; index++) {
    if (isCancelled()) throw cancelled()
    const unit = units.at(index)
    if (unit === null) continue
    // What comes behind the worst of enough rows is not looked at.
    const { lowNs, highNs } = bounds.within(best.worst, descending)
    const cut = new Cut(kernels, scratch.temporary, times, typesOf(unit, plan), { lowNs, highNs, tieNs: null })
    if (descending) {
      const spans = new Spans(unit, bounds, lowNs, highNs, bounds.firstSpanNs(rowCountMax))
      let left = rowCountMax
      while (spans.isOpen && left > 0) {
        if (isCancelled()) throw cancelled()
        times.clear()
        if (!spans.fill(cut)) continue
        for (let row = times.rowCount - 1; row >= 0 && left > 0; row--, left--) best.add(times.timeAt(row))
        if (best.worst !== null && spans.toNs <= best.worst.timeNs) break
      }
    } else if (unit.open({ fromNs: lowNs, toNs: highNs, carry: [] })) {
      let left = rowCountMax
      const forward: RowSink = {
        push: (batch) => {
          for (let row = 0; row < batch.rowCount && left > 0; ) {
            times.clear()
            const end = Math.min(batch.rowCount, row + spanRowCountMax)
            const rest = row === 0 ? batch : cut.tail(batch, row)
            times.push({ ...rest, rowCount: end - row })
            for (let i = 0; i < times.rowCount && left > 0; i++, left--) best.add(times.timeAt(i))
            row = end
          }
          return left > 0 ? null : notTaken
        },
      }
      unit.send(forward)
    }
  }
  scratch.collected.release(mark)
  return best.threshold
}

/** The times of rows that have a cell. */
class TimeSink {
  readonly #collector: RowCollector
  readonly #kernels: Kernels
  readonly #dropsEmpty: boolean

  constructor(kernels: Kernels, scratch: Scratch, dropsEmpty: boolean) {
    this.#kernels = kernels
    this.#collector = new RowCollector(kernels, scratch, spanRowCountMax)
    this.#dropsEmpty = dropsEmpty
  }

  get rowCount(): number {
    return this.#collector.rowCount
  }

  timeAt(row: number): bigint {
    return this.#kernels.i64[(this.#collector.timesPtr >> 3) + row]!
  }

  clear(): void {
    this.#collector.clear()
  }

  push(batch: Batch): ScanPosition | null {
    if (this.#collector.rowCount + batch.rowCount > spanRowCountMax)
      return { ...notTaken, fromNs: this.#kernels.i64[batch.timesPtr >> 3]! }
    this.#collector.append(batch, batch.rowCount, [], this.#dropsEmpty)
    return null
  }

  takesFirst(): boolean {
    return true
  }
}

/** The times of the rows that come first, so many of them: a heap with the worst on top. */
class BestTimes {
  readonly #times: bigint[] = []

  constructor(
    readonly count: number,
    readonly descending: boolean,
  ) {}

  /** The worst of enough rows, at which others may still stand; null: there are not enough yet. */
  get worst(): Threshold | null {
    return this.#times.length < this.count ? null : { timeNs: this.#times[0]!, tieCount: 0 }
  }

  get threshold(): Threshold | null {
    const worst = this.#times[0]
    if (worst === undefined) return null
    return { timeNs: worst, tieCount: this.#times.reduce((count, timeNs) => count + (timeNs === worst ? 1 : 0), 0) }
  }

  add(timeNs: bigint): void {
    const times = this.#times
    if (times.length < this.count) {
      times.push(timeNs)
      this.#rise(times.length - 1)
    } else if (this.#isWorse(times[0]!, timeNs)) {
      times[0] = timeNs
      this.#sink()
    }
  }

  #isWorse(a: bigint, b: bigint): boolean {
    return this.descending ? a < b : a > b
  }

  #rise(index: number): void {
    const times = this.#times
    for (let at = index; at > 0; ) {
      const parent = (at - 1) >> 1
      if (!this.#isWorse(times[at]!, times[parent]!)) return
      ;[times[at], times[parent]] = [times[parent]!, times[at]!]
      at = parent
    }
  }

  #sink(): void {
    const times = this.#times
    for (let at = 0; ; ) {
      let worst = at
      for (const child of [2 * at + 1, 2 * at + 2])
        if (child < times.length && this.#isWorse(times[child]!, times[worst]!)) worst = child
      if (worst === at) return
      ;[times[at], times[worst]] = [times[worst]!, times[at]!]
      at = worst
    }
  }
}
