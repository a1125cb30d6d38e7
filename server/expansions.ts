// Messages that came compressed. Each may take a thousand times the bytes that came, so few are expanded at once.
import type { InputType, ZlibOptions } from 'node:zlib'
import { gunzip, inflate } from 'node:zlib'
import { FramesError } from '../engine/index.js'

type Expand = (
  input: InputType,
  options: ZlibOptions,
  onExpanded: (error: Error | null, expanded: Buffer) => void,
) => void

const forms: ReadonlyMap<string, Expand> = new Map([
  ['gzip', gunzip],
  ['deflate', inflate],
])

/** What a message was compressed with that nobody here can expand, or that it is none of it. */
export type ExpansionFailure = 'unsupported' | 'broken'

export class Expansions {
  readonly #waiting: (() => void)[] = []
  #freeCount: number

  constructor(atOnceMax: number) {
    this.#freeCount = atOnceMax
  }

  /**
   * The bytes of a message, in its turn. `message` is asked for it then, so that nothing is held for a call that has ended:
   * its null gives null. Above `byteLengthMax` the expansion stops: REQUEST_TOO_LARGE.
   */
  async expand(
    message: () => Buffer | null,
    encoding: string,
    byteLengthMax: number,
  ): Promise<Buffer | FramesError | ExpansionFailure | null> {
    const form = forms.get(encoding)
    if (form === undefined) return 'unsupported'
    if (this.#freeCount > 0) this.#freeCount--
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      const bytes = message()
      return bytes === null ? null : await expanded(form, bytes, byteLengthMax)
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#freeCount++
      else next()
    }
  }
}

function expanded(form: Expand, message: Buffer, byteLengthMax: number): Promise<Buffer | FramesError | 'broken'> {
  return new Promise((resolve) => {
    form(message, { maxOutputLength: byteLengthMax }, (error, bytes) => {
      if (error === null) resolve(bytes)
      else if ('code' in error && error.code === 'ERR_BUFFER_TOO_LARGE') {
        resolve(new FramesError('REQUEST_TOO_LARGE', `a message that expands to more than ${byteLengthMax} bytes`))
      } else resolve('broken')
    })
  })
}
