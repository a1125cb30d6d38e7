// The functions of the expression language: their names and how many arguments each takes.

/**
 * min, max   number of arguments
 * attribute  the first argument must be an attribute's name, not an expression
 * boolean    the result is true or false, also where an argument is missing (then false)
 */
interface FunctionRule {
  readonly min: number
  readonly max: number
  readonly attribute?: true
  readonly boolean?: true
}

const any = Number.POSITIVE_INFINITY

const rules = {
  exists: { min: 1, max: 1, attribute: true, boolean: true },
  if_not_exists: { min: 2, max: 2, attribute: true },
  if_else: { min: 3, max: 3 },
  starts: { min: 2, max: 2, boolean: true },
  ends: { min: 2, max: 2, boolean: true },
  contains: { min: 2, max: 2, boolean: true },
  length: { min: 1, max: 1 },
  min: { min: 1, max: any },
  max: { min: 1, max: any },
  init_array: { min: 2, max: 3 },
  blob: { min: 1, max: 1 },
  isnan: { min: 1, max: 1, boolean: true },
  nanaszero: { min: 1, max: 1 },
  pmin: { min: 2, max: 2 },
  pmax: { min: 2, max: 2 },
  psum: { min: 2, max: 2 },
  sum: { min: 1, max: 1 },
  avg: { min: 1, max: 1 },
  stddev: { min: 1, max: 1 },
  sqrt: { min: 1, max: 1 },
  str: { min: 1, max: 1 },
  to_int: { min: 1, max: 1 },
  find: { min: 2, max: 2 },
  find_all_indices: { min: 2, max: 2 },
  extract_by_indices: { min: 2, max: 2 },
  sort_array: { min: 1, max: 1 },
  regexp_instr: { min: 2, max: 2 },
  regexp_replace: { min: 3, max: 3 },
} as const satisfies Record<string, FunctionRule>

export type FunctionName = keyof typeof rules

export const functionRules: Readonly<Record<FunctionName, FunctionRule>> = rules

export function isFunctionName(name: string): name is FunctionName {
  return Object.hasOwn(rules, name)
}

/** Words that stand for an attribute only in back-quotes, in lower case. */
export const reservedWords: ReadonlySet<string> = new Set([
  ...['and', 'or', 'not', 'in', 'true', 'false', 'set', 'remove', 'delete', 'as', 'select', 'inf', 'nan', 'maxdbl'],
  ...Object.keys(rules),
])
