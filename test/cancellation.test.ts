// How a request is given up: the engine's own signal does what is asked of an AbortSignal.
import { describe, expect, test } from 'vitest'
import { Cancellation, type CancelSignal } from '../dist/engine/cancellation.js'

/** Both kinds, and how each is aborted. */
const kinds: Readonly<Record<string, () => { signal: CancelSignal; abort: (reason: unknown) => void }>> = {
  'an AbortSignal': () => {
    const controller = new AbortController()
    return { signal: controller.signal, abort: (reason) => controller.abort(reason) }
  },
  'a Cancellation': () => {
    const signal = new Cancellation()
    return { signal, abort: (reason) => signal.abort(reason) }
  },
}

describe.each(Object.entries(kinds))('%s', (_name, open) => {
  test('tells its listeners once, in their order, and keeps the first reason', () => {
    const { signal, abort } = open()
    const told: string[] = []
    for (const name of ['first', 'second']) signal.addEventListener('abort', () => told.push(name))
    expect([signal.aborted, signal.reason]).toEqual([false, undefined])
    const reason = new Error('why')
    abort(reason)
    abort(new Error('another'))
    expect(told).toEqual(['first', 'second'])
    expect([signal.aborted, signal.reason]).toEqual([true, reason])
  })

  test('tells nothing to those who have left, nor to those who come too late', () => {
    const { signal, abort } = open()
    const told: string[] = []
    const leave = (): void => {
      told.push('left')
    }
    signal.addEventListener('abort', leave)
    signal.removeEventListener('abort', leave)
    abort(null)
    signal.addEventListener('abort', () => told.push('late'))
    expect(told).toEqual([])
  })

  test('is aborted already when its listeners are told', () => {
    const { signal, abort } = open()
    let seen: boolean | null = null
    signal.addEventListener('abort', () => {
      seen = signal.aborted
    })
    abort('over')
    expect(seen).toBe(true)
  })
})
