// Reads whose iterators a program has dropped without `return()`. Nobody will ever ask them for more, but they hold memory of the
// arenas, blocks that merges have replaced, and their call in the history. V8 tells when an iterator is gone; but it looks
// for that when its own heap has grown, and not when the arenas are full. So it is asked to while others wait for room.
import type { Collect } from './memory/young-memory.js'
import { Steps, type StepSource } from './steps.js'

/** How often it is looked whether somebody waits, while reads are open: who finds room within that has hardly waited. */
const lookMs = 1_000
/** Each whole collection stops the program for some 20 to 50 ms: if one was in vain, the next comes after so many looks. */
const lookCountBetween = 2

export interface DroppedReadersOptions {
  /** Whether somebody waits for memory that reads hold. */
  readonly isWaitedFor: () => boolean
  /** V8's collector; null where there is none to be had. */
  readonly collect: Collect | null
  readonly report: (message: string, error: unknown) => void
}

export class DroppedReaders {
  readonly #options: DroppedReadersOptions
  readonly #registry: FinalizationRegistry<WatchedSource<unknown>>
  #openCount = 0
  #timer: NodeJS.Timeout | null = null
  #looksUntilCollection = 0

  constructor(options: DroppedReadersOptions) {
    this.#options = options
    this.#registry = new FinalizationRegistry((source) => this.#endDropped(source))
  }

  /** The values of a source for a program, which may forget to end them. */
  steps<T>(source: StepSource<T>): Steps<T> {
    return new WatchedSteps(new WatchedSource(source, this))
  }

  /** Somebody has begun to take values. */
  opened(steps: object, source: WatchedSource<unknown>): void {
    this.#registry.register(steps, source, source)
    this.#openCount++
    // Not ended with each read: that would take a small one longer than all else here.
    this.#timer ??= setInterval(() => this.#look(), lookMs).unref()
  }

  closed(source: WatchedSource<unknown>): void {
    this.#registry.unregister(source)
    this.#openCount--
  }

  #endDropped(source: WatchedSource<unknown>): void {
    const { report } = this.#options
    source.close().then(
      () => report('an iterator of a read was dropped: end it by return(), or by leaving its loop', null),
      (error: unknown) => report('ending a read whose iterator was dropped failed', error),
    )
  }

  #look(): void {
    if (this.#openCount === 0) {
      clearInterval(this.#timer!)
      this.#timer = null
      return
    }
    if (this.#looksUntilCollection > 0) this.#looksUntilCollection--
    if (this.#looksUntilCollection > 0 || !this.#options.isWaitedFor()) return
    this.#looksUntilCollection = lookCountBetween
    this.#options.collect?.()
  }
}

/** Knows nothing of who takes its values: that one may be dropped. */
class WatchedSource<T> implements StepSource<T> {
  readonly #source: StepSource<T>
  readonly #readers: DroppedReaders
  #isOpen = false

  constructor(source: StepSource<T>, readers: DroppedReaders) {
    this.#source = source
    this.#readers = readers
  }

  /** Called before values are asked for, by whoever does. */
  open(taker: object): void {
    this.#isOpen = true
    this.#readers.opened(taker, this)
  }

  next(): Promise<T | null> {
    return this.#source.next()
  }

  close(): Promise<void> {
    if (this.#isOpen) this.#readers.closed(this)
    return this.#source.close()
  }
}

class WatchedSteps<T> extends Steps<T> {
  readonly #watched: WatchedSource<T>
  #isBegun = false

  constructor(source: WatchedSource<T>) {
    super(source)
    this.#watched = source
  }

  override next(): Promise<IteratorResult<T, void>> {
    // A layer that takes the source itself never gets here: it drops this object, and goes on.
    if (!this.#isBegun) {
      this.#isBegun = true
      this.#watched.open(this)
    }
    return super.next()
  }
}
