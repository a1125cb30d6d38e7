// A filter over the labels of one series, as a function. Labels are strings; a label that is not there is missing.
import { compileRowTest, type RowValues } from './row-program.js'
import type { Expression } from './tree.js'

/** The value of a label, `_name` for the metric; undefined where the series has no such label. */
export type LabelLookup = (name: string) => string | undefined

export type LabelFilter = (attribute: LabelLookup) => boolean

/** The labels of the series at hand. */
class LabelRow implements RowValues {
  attribute: LabelLookup = () => undefined

  // Only templates of writes have placeholders, and their parser is another.
  placeholder(): undefined {
    return undefined
  }
}

/**
 * Compiles a filter into nested functions, once a query.
 *
 * A comparison, IN or boolean function with a missing label or any other failure inside is false; a query never fails
 * for it. What is not boolean counts as false where a boolean is needed.
 */
export function compileLabelFilter(tree: Expression): LabelFilter {
  const test = compileRowTest(tree, 'test')
  const row = new LabelRow()
  return (attribute) => {
    row.attribute = attribute
    return test(row) === true
  }
}
