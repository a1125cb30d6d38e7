// Assertions state what must be true if our own code is right; a false one stops the request loudly.

export class AssertionFailed extends Error {
  override readonly name = 'AssertionFailed'
}

/** Throws when a fact about our own code does not hold. One fact a call, stated positively. */
export function assert(condition: boolean, fact: string): asserts condition {
  if (!condition) throw new AssertionFailed(`assertion failed: ${fact}`)
}
