// What columns are called and hold, without their values: for readers that must know all columns before the first row.
import type { DType } from './dtype.js'

export interface ColumnHead {
  readonly name: string
  readonly role: 'index' | 'column'
  readonly dtype: DType
}

const numberOrder: readonly DType[] = ['bool', 'int64', 'float64']

/** The type that holds the values of both: bool, then int64, then float64; text where they have nothing in common. */
export function widerDType(a: DType, b: DType): DType {
  if (a === b || b === 'null') return a
  if (a === 'null') return b
  const [orderA, orderB] = [numberOrder.indexOf(a), numberOrder.indexOf(b)]
  if (orderA < 0 || orderB < 0) return 'string'
  return orderA > orderB ? a : b
}

/**
 * The columns of several frames as one list: index columns, then data columns, each in order of first sight. Columns are
 * the same when role and name are; of several with one name in a frame, the first is the first of another frame, and so on.
 */
export class HeadUnion {
  readonly #heads = new Map<string, ColumnHead>()

  add(heads: readonly ColumnHead[]): void {
    const counts = new Map<string, number>()
    for (const head of heads) {
      const name = `${head.role} ${head.name}`
      const count = counts.get(name) ?? 0
      counts.set(name, count + 1)
      const key = `${count} ${name}`
      const known = this.#heads.get(key)
      if (known === undefined) this.#heads.set(key, head)
      else if (known.dtype !== head.dtype) {
        this.#heads.set(key, { ...head, dtype: widerDType(known.dtype, head.dtype) })
      }
    }
  }

  heads(): ColumnHead[] {
    const all = [...this.#heads.values()]
    return [...all.filter(({ role }) => role === 'index'), ...all.filter(({ role }) => role === 'column')]
  }
}
