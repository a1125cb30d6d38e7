// Options as a program in plain JavaScript may give them, where no compiler has looked at their names and types.
import { FramesError } from './errors.js'

export type OptionType = 'string' | 'number' | 'function' | 'list' | 'object' | 'object or false'

export type OptionTypes<Options> = Readonly<Record<keyof Options, OptionType>>

/** Throws INVALID_ARGUMENT for options of other names or types than `types` says; `of`: whose options they are. */
export function checkOptions<Options extends object>(of: string, options: Options, types: OptionTypes<Options>): void {
  if (typeof options !== 'object' || options === null)
    throw new FramesError('INVALID_ARGUMENT', `the options of ${of} are no object`)
  for (const [name, value] of Object.entries(options) as [string, unknown][]) {
    const type = Object.hasOwn(types, name) ? types[name as keyof Options] : undefined
    if (type === undefined) {
      const known = Object.keys(types).join(', ')
      throw new FramesError('INVALID_ARGUMENT', `${of} has no option '${name}'; it has ${known}`)
    }
    if (value === undefined || value === null || isOfType(value, type)) continue
    const article = type.startsWith('o') ? 'an' : 'a'
    throw new FramesError('INVALID_ARGUMENT', `the option '${name}' of ${of} must be ${article} ${type}`)
  }
}

function isOfType(value: unknown, type: OptionType): boolean {
  if (type === 'list') return Array.isArray(value)
  if (type === 'object or false') return value === false || isOfType(value, 'object')
  return typeof value === type && !Number.isNaN(value) && !Array.isArray(value)
}
