// The items that many callers update one by one: one of each caller, and one of all.
export const request = { backend: 'kv', table: 'counters', session: { container: 'c' } }
export const shared = 'shared'

export function counted(caller) {
  return `own-${caller}`
}

/** The count of each item that is there. Throws when one is there twice. */
export async function counts(engine) {
  const found = new Map()
  for await (const frame of engine.read({ ...request, resetIndex: true })) {
    const names = frame.column('id')
    const numbers = frame.column('n')
    for (let row = 0; row < frame.length; row++) {
      if (found.has(names.at(row))) throw new Error(`item ${names.at(row)} is there twice`)
      found.set(names.at(row), Number(numbers.at(row)))
    }
  }
  return found
}
