// What the parts of the demo work with.
import type { Terminal } from './terminal.js'

export interface Stage {
  readonly terminal: Terminal
  /** Prints whether an answer was right; a wrong one makes the demo end with status 1. */
  check(isRight: boolean, what: string): void
  /** The result of some work, and how long it took, as text. */
  timed<T>(work: () => Promise<T>): Promise<{ result: T; took: string }>
}
