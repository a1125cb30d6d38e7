// A tree as steps over columns: kernels where there are any, else row by row (row-program.ts), at the smallest comparison
// or boolean function that needs it. Which of both ran cannot be told from the result.
import type { Kernels } from '../kernels/kernels.js'
import type { Scratch } from '../memory/scratch.js'
import { extremeVector, negateVector, VectorChain } from './calculate-vectors.js'
import { compareVectors, mirrored } from './compare-vectors.js'
import { type FunctionName, functionRules } from './functions.js'
import { type ChoiceSets, Choices } from './membership.js'
import { compileRowTest, compileRowValue, type FailureRule, type RowProgram, type RowValues } from './row-program.js'
import { Failure, type Scalar, textLength } from './scalar.js'
import { type Expression, operandsOf } from './tree.js'
import { constantPart, type Part, partCountMax, Rows, type RowSource, type Vector } from './vector.js'

/** Numbers of the names that a program uses, in the order in which they came up. */
class Names {
  readonly list: string[] = []
  readonly #indexes = new Map<string, number>()

  indexOf(name: string): number {
    let index = this.#indexes.get(name)
    if (index === undefined) {
      index = this.list.length
      this.list.push(name)
      this.#indexes.set(name, index)
    }
    return index
  }
}

/** What the expressions of one program share. */
export class ProgramContext {
  readonly attributes = new Names()
  readonly placeholders = new Names()
  readonly choices: Choices[] = []

  constructor(readonly rule: FailureRule) {}

  /** Builds what IN looks values up in. */
  open(kernels: Kernels, scratch: Scratch): readonly ChoiceSets[] {
    return this.choices.map((choices) => choices.open(kernels, scratch))
  }
}

/** One evaluation of a program: its rows, and a cursor over them for what goes row by row. */
export class Evaluation extends Rows {
  readonly cursor: Cursor
  readonly choiceSets: readonly ChoiceSets[]

  constructor(
    kernels: Kernels,
    scratch: Scratch,
    source: RowSource,
    context: ProgramContext,
    choiceSets: readonly ChoiceSets[],
  ) {
    super(kernels, scratch, source, context.attributes.list, context.placeholders.list)
    this.cursor = new Cursor(this, context)
    this.choiceSets = choiceSets
  }
}

/** The values of one row after another. */
class Cursor implements RowValues {
  row = 0
  readonly #rows: Rows
  readonly #context: ProgramContext

  constructor(rows: Rows, context: ProgramContext) {
    this.#rows = rows
    this.#context = context
  }

  attribute(name: string): Scalar | undefined {
    return this.#rows.cell(this.#rows.attribute(this.#context.attributes.indexOf(name)), this.row)
  }

  placeholder(name: string): Scalar | undefined {
    return this.#rows.cell(this.#rows.placeholder(this.#context.placeholders.indexOf(name)), this.row)
  }
}

/**
 * Writes the rows that hold.
 *
 * resultPtr      a bitmap; a row that is not known does not hold
 * knownPtr       by the rule 'update' a bitmap for the rows whose evaluation did not fail; by the rule 'test' 0
 * candidatesPtr  0, or a bitmap of the rows that matter: the others may get any result
 *
 * Gives back all memory that it takes.
 */
export type ColumnTest = (run: Evaluation, resultPtr: number, knownPtr: number, candidatesPtr: number) => void

/** The values of all rows; null: this is nothing for kernels. Its memory stays taken until the caller gives it back. */
export type ColumnValue = (run: Evaluation) => Vector | null

function lazy<T>(make: () => T): () => T {
  let made: T | undefined
  return () => (made ??= make())
}

export function compileColumnTest(tree: Expression, context: ProgramContext): ColumnTest {
  switch (tree.kind) {
    case 'and':
    case 'or': {
      const operands = context.rule === 'test' ? rowByRowLast(tree.operands) : tree.operands
      const tests = operands.map((operand) => compileColumnTest(operand, context))
      if (tree.kind === 'and') return conjunction(tests)
      return disjunction(tests, operands.map(goesRowByRow))
    }
    case 'not': {
      const operand = compileColumnTest(tree.operand, context)
      return (run, resultPtr, knownPtr, candidatesPtr) => {
        operand(run, resultPtr, knownPtr, candidatesPtr)
        run.call.notBits(resultPtr, resultPtr, run.rowCount)
        run.restrict(resultPtr, knownPtr)
      }
    }
    case 'compare': {
      const { operator } = tree
      const left = compileColumnValue(tree.left, context)
      const right = compileColumnValue(tree.right, context)
      const stored = storedComparison(tree, context)
      return orRowByRow(tree, context, (run, resultPtr, knownPtr) => {
        if (knownPtr === 0 && stored?.(run, resultPtr) === true) return true
        const a = left(run)
        if (a === null) return false
        const b = right(run)
        if (b === null) return false
        compareVectors(run, operator, a, b, resultPtr)
        markKnown(run, knownPtr, a, b)
        return true
      })
    }
    case 'in':
      return compileMembership(tree, context)
    case 'call':
      if (functionRules[tree.function].boolean) return compileBooleanFunction(tree, context)
      return compileSettled(tree, context)
    default:
      return compileSettled(tree, context)
  }
}

/** An attribute beside a constant, which the rows' source may be able to compare by itself; null: the tree is another one. */
function storedComparison(
  { operator, left, right }: Expression & { kind: 'compare' },
  context: ProgramContext,
): ((run: Evaluation, resultPtr: number) => boolean) | null {
  const [attribute, literal] = left.kind === 'attribute' ? [left, right] : [right, left]
  if (attribute.kind !== 'attribute' || literal.kind !== 'literal') return null
  const index = context.attributes.indexOf(attribute.name)
  const ownOperator = attribute === left ? operator : mirrored[operator]
  return (run, resultPtr) => run.compareStored(index, ownOperator, literal.value, resultPtr)
}

/** Runs a step over columns, or when that is nothing for kernels the tree for each row. */
function orRowByRow(
  tree: Expression,
  context: ProgramContext,
  step: (run: Evaluation, resultPtr: number, knownPtr: number) => boolean,
): ColumnTest {
  const program = lazy(() => compileRowTest(tree, context.rule))
  return (run, resultPtr, knownPtr, candidatesPtr) => {
    const mark = run.scratch.mark()
    const isDone = step(run, resultPtr, knownPtr)
    run.scratch.release(mark)
    if (!isDone) testRows(run, program(), resultPtr, knownPtr, candidatesPtr)
  }
}

function testRows(
  run: Evaluation,
  program: RowProgram,
  resultPtr: number,
  knownPtr: number,
  candidatesPtr: number,
): void {
  const { cursor, rowCount } = run
  const { u8 } = run.kernels
  for (let row = 0; row < rowCount; row += 8) {
    const candidates = candidatesPtr === 0 ? 0xff : u8[candidatesPtr + (row >>> 3)]
    const end = Math.min(8, rowCount - row)
    let bits = 0
    let known = 0
    for (let i = 0; candidates !== 0 && i < end; i++) {
      if (((candidates >>> i) & 1) === 0) continue
      cursor.row = row + i
      const value = program(cursor)
      if (value === true) bits |= 1 << i
      if (!(value instanceof Failure)) known |= 1 << i
    }
    // The result may be the bitmap of the candidates.
    u8[resultPtr + (row >>> 3)] = bits
    if (knownPtr !== 0) u8[knownPtr + (row >>> 3)] = known
  }
}

/** Both operands are there. */
function markKnown(run: Evaluation, knownPtr: number, left: Vector, right: Vector | null): void {
  if (knownPtr === 0) return
  run.presence(left, knownPtr)
  if (right === null) return
  const mark = run.scratch.mark()
  const bitsPtr = run.allocateBits()
  run.presence(right, bitsPtr)
  run.restrict(knownPtr, bitsPtr)
  run.scratch.release(mark)
}

function conjunction(operands: readonly ColumnTest[]): ColumnTest {
  return (run, resultPtr, knownPtr, candidatesPtr) => {
    const { call, rowCount, scratch } = run
    operands[0](run, resultPtr, knownPtr, candidatesPtr)
    const mark = scratch.mark()
    const bitsPtr = run.allocateBits()
    const otherKnownPtr = knownPtr === 0 ? 0 : run.allocateBits()
    for (let i = 1; i < operands.length; i++) {
      // Columns that cannot change the answer any more are not even decoded.
      if (call.countBits(resultPtr, rowCount) === 0) break
      operands[i](run, bitsPtr, otherKnownPtr, resultPtr)
      if (knownPtr !== 0) {
        // A row fails where it got here and fails now.
        call.andNotBits(resultPtr, otherKnownPtr, otherKnownPtr, rowCount)
        call.andNotBits(knownPtr, otherKnownPtr, knownPtr, rowCount)
      }
      call.andBits(resultPtr, bitsPtr, resultPtr, rowCount)
    }
    scratch.release(mark)
  }
}

function disjunction(operands: readonly ColumnTest[], areRowByRow: readonly boolean[]): ColumnTest {
  return (run, resultPtr, knownPtr, candidatesPtr) => {
    const { call, rowCount, scratch } = run
    operands[0](run, resultPtr, knownPtr, candidatesPtr)
    const mark = scratch.mark()
    const bitsPtr = run.allocateBits()
    const otherKnownPtr = knownPtr === 0 ? 0 : run.allocateBits()
    const openPtr = run.allocateBits()
    for (let i = 1; i < operands.length; i++) {
      if (areRowByRow[i]) {
        // Only rows that do not hold yet are worth a look.
        call.notBits(resultPtr, openPtr, rowCount)
        run.restrict(openPtr, candidatesPtr)
        operands[i](run, bitsPtr, otherKnownPtr, openPtr)
      } else operands[i](run, bitsPtr, otherKnownPtr, candidatesPtr)
      if (knownPtr !== 0) {
        // A row stays known where it holds already, or is known now.
        call.orBits(resultPtr, otherKnownPtr, otherKnownPtr, rowCount)
        call.andBits(knownPtr, otherKnownPtr, knownPtr, rowCount)
      }
      call.orBits(resultPtr, bitsPtr, resultPtr, rowCount)
      run.restrict(resultPtr, knownPtr)
    }
    scratch.release(mark)
  }
}

/** The functions that have steps over columns; all others go row by row. */
const columnFunctions: ReadonlySet<FunctionName> = new Set([
  'exists',
  'starts',
  'ends',
  'contains',
  'isnan',
  'blob',
  'if_not_exists',
  'if_else',
  'length',
  'min',
  'max',
])

const rowByRowTrees = new WeakMap<Expression, boolean>()

/** Whether some part of a tree has no steps over columns, whatever the columns are. */
function goesRowByRow(tree: Expression): boolean {
  if (tree.kind === 'element' || tree.kind === 'range') return true
  if (tree.kind === 'call' && !columnFunctions.has(tree.function)) return true
  if (tree.kind !== 'and' && tree.kind !== 'or') return operandsOf(tree).some(goesRowByRow)
  // Every AND and OR around this one asks again.
  let isRowByRow = rowByRowTrees.get(tree)
  if (isRowByRow === undefined) {
    isRowByRow = tree.operands.some(goesRowByRow)
    rowByRowTrees.set(tree, isRowByRow)
  }
  return isRowByRow
}

/** Where the order cannot be seen, what is quick comes first: it may leave nothing for the rest to do. */
function rowByRowLast(operands: readonly Expression[]): readonly Expression[] {
  return [...operands.filter((operand) => !goesRowByRow(operand)), ...operands.filter(goesRowByRow)]
}

/** A value as true or false: what is no boolean is false. */
function compileSettled(tree: Expression, context: ProgramContext): ColumnTest {
  const value = compileColumnValue(tree, context)
  return orRowByRow(tree, context, (run, resultPtr, knownPtr) => {
    const vector = value(run)
    if (vector === null) return false
    const { call, rowCount } = run
    call.fillBits(resultPtr, rowCount, 0)
    for (const { type, constant, valuesPtr, validityPtr } of vector) {
      if (type !== 'bool' || constant === false) continue
      const bitsPtr = run.allocateBits()
      if (constant === null) call.orBits(valuesPtr, valuesPtr, bitsPtr, rowCount)
      else call.fillBits(bitsPtr, rowCount, 1)
      run.restrict(bitsPtr, validityPtr)
      call.orBits(resultPtr, bitsPtr, resultPtr, rowCount)
    }
    markKnown(run, knownPtr, vector, null)
    return true
  })
}

function compileMembership(tree: Expression & { kind: 'in' }, context: ProgramContext): ColumnTest {
  const operand = compileColumnValue(tree.operand, context)
  const others: ColumnValue[] = []
  const choices = new Choices(
    tree.choices.flatMap((choice) => {
      if (choice.kind === 'literal') return [choice.value]
      others.push(compileColumnValue(choice, context))
      return []
    }),
  )
  const index = context.choices.push(choices) - 1
  return orRowByRow(tree, context, (run, resultPtr, knownPtr) => {
    // Which of several choices failed first matters then.
    if (knownPtr !== 0 && others.length > 0) return false
    const vector = operand(run)
    if (vector === null) return false
    const { call, rowCount, scratch } = run
    choices.mask(run, run.choiceSets[index], vector, resultPtr)
    const bitsPtr = run.allocateBits()
    for (const other of others) {
      const mark = scratch.mark()
      const choice = other(run)
      if (choice === null) return false
      compareVectors(run, '==', vector, choice, bitsPtr)
      call.orBits(resultPtr, bitsPtr, resultPtr, rowCount)
      scratch.release(mark)
    }
    markKnown(run, knownPtr, vector, null)
    return true
  })
}

function compileBooleanFunction(tree: Expression & { kind: 'call' }, context: ProgramContext): ColumnTest {
  const operands = tree.operands.map((operand) => compileColumnValue(operand, context))
  const [first, second] = operands
  switch (tree.function) {
    case 'exists':
      return (run, resultPtr, knownPtr) => {
        // An attribute always has a vector.
        run.presence(first(run) ?? [], resultPtr)
        if (knownPtr !== 0) run.call.fillBits(knownPtr, run.rowCount, 1)
      }
    case 'starts':
    case 'ends':
    case 'contains': {
      const kernel = `${tree.function}Strings` as const
      return orRowByRow(tree, context, (run, resultPtr, knownPtr) => {
        const texts = first(run)
        const parts = second(run)
        if (texts === null || parts === null || parts.length !== 1) return false
        const [{ constant, validityPtr }] = parts
        if (typeof constant !== 'string' || validityPtr !== 0) return false
        if (texts.some((part) => part.type === 'string' && part.constant !== null)) return false
        const { call, rowCount } = run
        const { ptr, byteLength } = run.bytesOf(constant)
        call.fillBits(resultPtr, rowCount, 0)
        for (const text of texts) {
          if (text.type !== 'string') continue
          const bitsPtr = run.allocateBits()
          call[kernel](text.valuesPtr, text.bytesPtr, rowCount, ptr, byteLength, bitsPtr)
          run.restrict(bitsPtr, text.validityPtr)
          call.orBits(resultPtr, bitsPtr, resultPtr, rowCount)
        }
        markKnown(run, knownPtr, texts, null)
        return true
      })
    }
    default:
      // isnan: NaN is the one value that is not itself.
      return orRowByRow(tree, context, (run, resultPtr, knownPtr) => {
        const vector = first(run)
        if (vector === null) return false
        const floats = vector.filter(({ type }) => type === 'float64')
        if (floats.length > 1) return false
        compareVectors(run, '!=', floats, floats, resultPtr)
        markKnown(run, knownPtr, vector, null)
        return true
      })
  }
}

export function compileColumnValue(tree: Expression, context: ProgramContext): ColumnValue {
  switch (tree.kind) {
    case 'literal':
      return constant(tree.value)
    case 'attribute': {
      const index = context.attributes.indexOf(tree.name)
      return (run) => run.attribute(index)
    }
    case 'placeholder': {
      const index = context.placeholders.indexOf(tree.name)
      return (run) => run.placeholder(index)
    }
    case 'negate': {
      const operand = compileColumnValue(tree.operand, context)
      return (run) => {
        const vector = operand(run)
        return vector === null ? null : negateVector(run, vector)
      }
    }
    case 'sum':
    case 'product':
      return compileChain(tree, context)
    case 'call':
      return functionRules[tree.function].boolean ? compileTruth(tree, context) : compileFunction(tree, context)
    case 'compare':
    case 'in':
    case 'not':
    case 'and':
    case 'or':
      return compileTruth(tree, context)
    case 'element':
    case 'range':
      return rowByRow
  }
}

function rowByRow(): null {
  return null
}

function constant(value: Scalar): ColumnValue {
  const vector = [constantPart(value)]
  return () => vector
}

/** Whether something holds, as a value. */
function compileTruth(tree: Expression, context: ProgramContext): ColumnValue {
  const test = compileColumnTest(tree, context)
  const canFail = context.rule === 'update'
  return (run) => {
    const valuesPtr = run.allocateBits()
    const validityPtr = canFail ? run.allocateBits() : 0
    test(run, valuesPtr, validityPtr, 0)
    return [{ type: 'bool', validityPtr, valuesPtr, bytesPtr: 0, constant: null, ownBitsPtr: 0, hasZeros: true }]
  }
}

function compileChain(tree: Expression & { kind: 'sum' | 'product' }, context: ProgramContext): ColumnValue {
  const first = compileColumnValue(tree.first, context)
  const rest = tree.rest.map(({ operator, operand }) => ({ operator, operand: compileColumnValue(operand, context) }))
  return (run) => {
    const start = first(run)
    if (start === null) return null
    const chain = new VectorChain(run, start)
    for (const { operator, operand } of rest) {
      chain.prepare()
      const right = operand(run)
      if (right === null || !chain.apply(operator, right)) return null
    }
    return chain.value
  }
}

function compileFunction(tree: Expression & { kind: 'call' }, context: ProgramContext): ColumnValue {
  switch (tree.function) {
    case 'blob': {
      // Always a literal.
      const value = compileRowValue(tree, context.rule)({ attribute: () => undefined, placeholder: () => undefined })
      return value instanceof Failure ? rowByRow : constant(value)
    }
    case 'if_not_exists': {
      const attribute = compileColumnValue(tree.operands[0], context)
      const other = compileColumnValue(tree.operands[1], context)
      return (run) => {
        const vector = attribute(run)
        if (vector === null || vector.some(({ validityPtr }) => validityPtr === 0)) return vector
        const instead = other(run)
        if (instead === null || vector.length === 0) return instead
        const missingPtr = run.allocateBits()
        run.presence(vector, missingPtr)
        run.call.notBits(missingPtr, missingPtr, run.rowCount)
        return limited([...vector, ...run.masked(instead, missingPtr)])
      }
    }
    case 'if_else': {
      const condition = compileColumnTest(tree.operands[0], context)
      const chosen = compileColumnValue(tree.operands[1], context)
      const other = compileColumnValue(tree.operands[2], context)
      const canFail = context.rule === 'update'
      return (run) => {
        const truePtr = run.allocateBits()
        const falsePtr = run.allocateBits()
        const knownPtr = canFail ? run.allocateBits() : 0
        condition(run, truePtr, knownPtr, 0)
        run.call.notBits(truePtr, falsePtr, run.rowCount)
        run.restrict(falsePtr, knownPtr)
        const a = chosen(run)
        if (a === null) return null
        const b = other(run)
        return b === null ? null : limited([...run.masked(a, truePtr), ...run.masked(b, falsePtr)])
      }
    }
    case 'min':
    case 'max': {
      const which = tree.function
      // Of one operand: an array.
      if (tree.operands.length === 1) return rowByRow
      const operands = tree.operands.map((operand) => compileColumnValue(operand, context))
      return (run) => {
        const vectors: Vector[] = []
        for (const operand of operands) {
          const vector = operand(run)
          if (vector === null) return null
          vectors.push(vector)
        }
        return extremeVector(run, which, vectors)
      }
    }
    case 'length': {
      const operand = compileColumnValue(tree.operands[0], context)
      return (run) => {
        const vector = operand(run)
        return vector === null ? null : lengthsOf(run, vector)
      }
    }
    default:
      return rowByRow
  }
}

function limited(vector: Vector): Vector | null {
  return vector.length <= partCountMax ? vector : null
}

/** The lengths of strings; null when there are blobs, which may be arrays. */
function lengthsOf(run: Evaluation, vector: Vector): Vector | null {
  const lengths: Part[] = []
  for (const { type, constant, valuesPtr, bytesPtr, validityPtr } of vector) {
    if (type === 'blob') return null
    if (typeof constant === 'string') lengths.push(constantPart(textLength(constant), validityPtr))
    else if (type === 'string') {
      const targetPtr = run.allocateValues()
      run.call.countCodePoints(valuesPtr, bytesPtr, run.rowCount, targetPtr)
      lengths.push({
        type: 'int64',
        validityPtr,
        valuesPtr: targetPtr,
        bytesPtr: 0,
        constant: null,
        ownBitsPtr: 0,
        // A missing string is '', whose length is 0; but a part may be masked.
        hasZeros: false,
      })
    }
  }
  return lengths
}
