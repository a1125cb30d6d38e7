// Filters, conditions and updates over rows whose columns stand in the shared memory; one row is many rows of which there
// is one. A tree is compiled once, however often it is evaluated.
import { assert } from '../assert.js'
import type { ColumnSlice } from '../frame/column-slice.js'
import type { DType } from '../frame/dtype.js'
import type { Kernels } from '../kernels/kernels.js'
import type { Scratch } from '../memory/scratch.js'
import { withElement, withRange } from './arrays.js'
import {
  type ColumnTest,
  type ColumnValue,
  compileColumnTest,
  compileColumnValue,
  Evaluation,
  ProgramContext,
} from './column-program.js'
import type { ChoiceSets } from './membership.js'
import { RowResults } from './row-results.js'
import { compileRowValue, type RowProgram } from './row-program.js'
import { Failure } from './scalar.js'
import {
  collectAttributes,
  collectPlaceholders,
  type Expression,
  expressionsOf,
  operandsOf,
  type UpdateAction,
} from './tree.js'
import { type Part, type PartType, type RowSource, settledPart, type Vector } from './vector.js'

export type { RowSource } from './vector.js'

interface FilterProgram {
  readonly context: ProgramContext
  readonly test: ColumnTest
  readonly comparesStored: boolean
}

const filterPrograms = new WeakMap<Expression, FilterProgram>()

function filterProgramOf(tree: Expression): FilterProgram {
  let program = filterPrograms.get(tree)
  if (program === undefined) {
    const context = new ProgramContext('test')
    program = { context, test: compileColumnTest(tree, context), comparesStored: comparesStored(tree) }
    filterPrograms.set(tree, program)
  }
  return program
}

/** Whether a filter asks of rows only how attributes compare with numbers and times: a source may need no columns for that. */
function comparesStored(tree: Expression): boolean {
  switch (tree.kind) {
    case 'and':
    case 'or':
    case 'not':
      return operandsOf(tree).every(comparesStored)
    case 'compare': {
      const [attribute, literal] = tree.left.kind === 'attribute' ? [tree.left, tree.right] : [tree.right, tree.left]
      if (attribute.kind !== 'attribute' || literal.kind !== 'literal') return false
      return typeof literal.value !== 'string' && typeof literal.value !== 'boolean'
    }
    default:
      return false
  }
}

/** A filter or condition over one page after another. */
export class Filter {
  readonly #kernels: Kernels
  readonly #scratch: Scratch
  readonly #program: FilterProgram
  readonly #choiceSets: readonly ChoiceSets[]

  /** What IN looks values up in stays in the scratch, at the end that it hands out from. */
  constructor(kernels: Kernels, scratch: Scratch, tree: Expression) {
    this.#kernels = kernels
    this.#scratch = scratch
    this.#program = filterProgramOf(tree)
    this.#choiceSets = this.#program.context.open(kernels, scratch)
  }

  /** Whether all it asks of its rows is what a RowSource may compare by itself. */
  get comparesStored(): boolean {
    return this.#program.comparesStored
  }

  /**
   * Marks the rows for which the filter holds. A comparison or boolean function that fails is false.
   *
   * result  ceil(rowCount / 8) + 8 bytes, 8-byte aligned, overwritten; bits past the last row are 0
   */
  evaluate(rows: RowSource, resultPtr: number): void {
    const { context, test } = this.#program
    const run = new Evaluation(this.#kernels, this.#scratch, rows, context, this.#choiceSets)
    test(run, resultPtr, 0, 0)
  }
}

/** As Filter, for one set of rows; gives back all that it takes of the scratch. */
export function evaluateFilter(
  kernels: Kernels,
  scratch: Scratch,
  tree: Expression,
  rows: RowSource,
  resultPtr: number,
): void {
  const mark = scratch.mark()
  new Filter(kernels, scratch, tree).evaluate(rows, resultPtr)
  scratch.release(mark)
}

/**
 * assigned   for each attribute that the update names, in the order of first mention: the columns that hold all its values
 *            after the update, of failed rows anything. A row without a cell in any of them has no such attribute any more
 * failedPtr  a bitmap of the rows whose update failed: nothing of it may be applied
 * failures   why, for the first 16 of them
 */
export interface UpdateResult {
  readonly assigned: readonly { readonly name: string; readonly columns: readonly ColumnSlice[] }[]
  readonly failedPtr: number
  readonly failedCount: number
  readonly failures: readonly UpdateFailure[]
}

export interface UpdateFailure {
  readonly row: number
  readonly detail: string
}

const failureCountMax = 16

/** An action, compiled: `value` for columns, `rowValue` the same row by row. */
interface Step {
  /** Number of the attribute in the program. */
  readonly attribute: number
  /** Null: the attribute is removed. */
  readonly value: ColumnValue | null
  readonly rowValue: RowProgram
}

interface UpdateProgram {
  readonly context: ProgramContext
  readonly steps: readonly Step[]
}

const updatePrograms = new WeakMap<readonly UpdateAction[], UpdateProgram>()

function updateProgramOf(actions: readonly UpdateAction[]): UpdateProgram {
  let program = updatePrograms.get(actions)
  if (program === undefined) {
    const context = new ProgramContext('update')
    registerNames(actions, context)
    program = { context, steps: actions.map((action) => compileAction(action, context)) }
    updatePrograms.set(actions, program)
  }
  return program
}

function registerNames(actions: readonly UpdateAction[], context: ProgramContext): void {
  const attributes = new Set<string>()
  const placeholders = new Set<string>()
  for (const tree of actions.flatMap(expressionsOf)) {
    collectAttributes(tree, attributes)
    collectPlaceholders(tree, placeholders)
  }
  for (const name of attributes) context.attributes.indexOf(name)
  for (const name of placeholders) context.placeholders.indexOf(name)
}

function compileAction(action: UpdateAction, context: ProgramContext): Step {
  const { rule } = context
  if (action.kind === 'remove') {
    const nothing = new Failure('removed')
    return { attribute: context.attributes.indexOf(action.attribute), value: null, rowValue: () => nothing }
  }
  const { attribute: name, start, end } = action.target
  assert(!name.startsWith('__'), 'the parser lets nobody assign system attributes')
  const attribute = context.attributes.indexOf(name)
  const value = compileRowValue(action.value, rule)
  if (start === null) return { attribute, value: compileColumnValue(action.value, context), rowValue: value }
  const array = compileRowValue({ kind: 'attribute', name }, rule)
  const first = compileRowValue(start, rule)
  const last = end === null ? null : compileRowValue(end, rule)
  return { attribute, value: () => null, rowValue: partAssignment(name, { array, first, last, value }) }
}

/** `array[first] = value` or `array[first..last] = value`: the changed array. */
function partAssignment(
  name: string,
  parts: {
    readonly array: RowProgram
    readonly first: RowProgram
    readonly last: RowProgram | null
    readonly value: RowProgram
  },
): RowProgram {
  return (row) => {
    const array = parts.array(row)
    if (array instanceof Failure) return array
    const start = parts.first(row)
    if (start instanceof Failure) return start
    const end = parts.last?.(row)
    if (end instanceof Failure) return end
    const value = parts.value(row)
    if (value instanceof Failure) return value
    return end === undefined ? withElement(name, array, start, value) : withRange(name, array, { start, end }, value)
  }
}

/**
 * Runs the actions of an update on all rows, from left to right; each sees what the ones before it did.
 *
 * scratch  the result stays there, and what was needed on the way; at its front end
 */
export function evaluateUpdate(
  kernels: Kernels,
  scratch: Scratch,
  actions: readonly UpdateAction[],
  rows: RowSource,
): UpdateResult {
  const { context, steps } = updateProgramOf(actions)
  const run = new Evaluation(kernels, scratch, rows, context, context.open(kernels, scratch))
  run.loadAll()
  const { call, rowCount } = run
  const failedPtr = run.allocateBits()
  call.fillBits(failedPtr, rowCount, 0)
  const presentPtr = run.allocateBits()
  const failures: UpdateFailure[] = []
  const assigned = new Set<number>()
  for (const { attribute, value, rowValue } of steps) {
    assigned.add(attribute)
    if (value === null) {
      run.assign(attribute, [])
      continue
    }
    const vector = evaluateStep(run, value, rowValue, failedPtr)
    run.presence(vector, presentPtr)
    collectFailures(run, { presentPtr, failedPtr, rowValue }, failures)
    call.notBits(presentPtr, presentPtr, rowCount)
    call.orBits(failedPtr, presentPtr, failedPtr, rowCount)
    // From now on the vector is an attribute, which nobody overwrites.
    run.assign(attribute, vector.map(settledPart))
  }
  return {
    assigned: [...assigned].map((attribute) => {
      const name = context.attributes.list[attribute]
      return { name, columns: columnsOf(run, name, run.attribute(attribute)) }
    }),
    failedPtr,
    failedCount: call.countBits(failedPtr, rowCount),
    failures,
  }
}

function evaluateStep(run: Evaluation, value: ColumnValue, rowValue: RowProgram, failedPtr: number): Vector {
  const mark = run.scratch.mark()
  const vector = value(run)
  if (vector !== null) return vector
  run.scratch.release(mark)
  const results = new RowResults(run)
  const { u8 } = run.kernels
  for (let row = 0; row < run.rowCount; row++) {
    const isFailed = ((u8[failedPtr + (row >>> 3)] >>> (row & 7)) & 1) === 1
    run.cursor.row = row
    results.push(isFailed ? null : rowValue(run.cursor))
  }
  return results.finish()
}

/** Adds why rows fail that are not present now and did not fail before; keeps the first rows. */
function collectFailures(
  run: Evaluation,
  step: { readonly presentPtr: number; readonly failedPtr: number; readonly rowValue: RowProgram },
  failures: UpdateFailure[],
): void {
  const { u8 } = run.kernels
  const byteLength = Math.ceil(run.rowCount / 8)
  let count = 0
  for (let i = 0; i < byteLength && count < failureCountMax; i++) {
    const lastByteMask = i === byteLength - 1 && run.rowCount % 8 !== 0 ? (1 << (run.rowCount % 8)) - 1 : 0xff
    const fresh = ~u8[step.presentPtr + i] & ~u8[step.failedPtr + i] & lastByteMask
    for (let bit = 0; fresh !== 0 && bit < 8 && count < failureCountMax; bit++) {
      if (((fresh >>> bit) & 1) === 0) continue
      const row = 8 * i + bit
      run.cursor.row = row
      const value = step.rowValue(run.cursor)
      assert(value instanceof Failure, 'what fails in columns fails row by row')
      if (value instanceof Failure) failures.push({ row, detail: value.detail })
      count++
    }
  }
  if (count === 0) return
  failures.sort((a, b) => a.row - b.row)
  failures.length = Math.min(failures.length, failureCountMax)
}

const dtypes: Readonly<Record<PartType, DType>> = {
  int64: 'int64',
  float64: 'float64',
  string: 'string',
  time: 'time',
  bool: 'bool',
  blob: 'string',
}

/** One column for each type of a vector. */
function columnsOf(run: Evaluation, name: string, vector: Vector): readonly ColumnSlice[] {
  const columns: ColumnSlice[] = []
  for (const type of new Set(vector.map((part) => part.type))) {
    const parts = vector.filter((part) => part.type === type)
    const column = parts.length === 1 && isColumn(parts[0]) ? parts[0] : joinParts(run, type, parts)
    const isText = type === 'string' || type === 'blob'
    columns.push({
      name: type === 'blob' ? `#${name}` : name,
      dtype: dtypes[type],
      kind: 'slice',
      rowCount: run.rowCount,
      valuesPtr: column.valuesPtr,
      validityPtr: column.validityPtr,
      bytesPtr: column.bytesPtr,
      byteLength: isText ? run.kernels.u32[column.valuesPtr / 4 + run.rowCount] : 0,
    })
  }
  return columns
}

function isColumn(part: Part): boolean {
  return part.constant === null && (part.hasZeros || part.validityPtr === 0)
}

type Place = Pick<Part, 'valuesPtr' | 'validityPtr' | 'bytesPtr'>

/** All parts of one type as one column, missing cells 0, false or ''. */
function joinParts(run: Evaluation, type: PartType, parts: readonly Part[]): Place {
  const { call, rowCount } = run
  const validityPtr = run.allocateBits()
  run.presence(parts, validityPtr)
  const isFull = parts.some((part) => part.validityPtr === 0)
  const place = type === 'string' || type === 'blob' ? joinTexts(run, parts) : joinValues(run, type, parts)
  const count = isFull ? rowCount : call.countBits(validityPtr, rowCount)
  return {
    valuesPtr: place.valuesPtr,
    validityPtr: count === rowCount ? 0 : validityPtr,
    bytesPtr: place.bytesPtr,
  }
}

function joinValues(run: Evaluation, type: PartType, parts: readonly Part[]): Place {
  const { call, rowCount } = run
  const isBool = type === 'bool'
  const valuesPtr = isBool ? run.allocateBits() : run.allocateValues()
  if (isBool) call.fillBits(valuesPtr, rowCount, 0)
  else call.fillInt64(valuesPtr, rowCount, 0n)
  for (const part of parts) {
    const mark = run.scratch.mark()
    const maskPtr = maskOf(run, part)
    if (!isBool) {
      const sourcePtr = part.constant === null ? part.valuesPtr : run.constantPtr(part.constant)
      call.blend64(sourcePtr, part.constant === null ? 8 : 0, maskPtr, rowCount, valuesPtr)
    } else if (part.constant !== false) {
      const bitsPtr = run.allocateBits()
      call.andBits(maskPtr, part.constant === null ? part.valuesPtr : maskPtr, bitsPtr, rowCount)
      call.orBits(valuesPtr, bitsPtr, valuesPtr, rowCount)
    }
    run.scratch.release(mark)
  }
  return { valuesPtr, validityPtr: 0, bytesPtr: 0 }
}

/** The validity of a part as a bitmap. */
function maskOf(run: Evaluation, { validityPtr }: Part): number {
  if (validityPtr !== 0) return validityPtr
  const bitsPtr = run.allocateBits()
  run.call.fillBits(bitsPtr, run.rowCount, 1)
  return bitsPtr
}

function joinTexts(run: Evaluation, parts: readonly Part[]): Place {
  const { call, rowCount, scratch, kernels } = run
  let joined: Place = { valuesPtr: 0, validityPtr: 0, bytesPtr: 0 }
  let joinedByteLength = 0
  for (const part of parts) {
    const source = part.constant === null ? part : constantText(run, part)
    const stride = part.constant === null ? 4 : 0
    const maskPtr = maskOf(run, part)
    const byteLength = kernels.u32[source.valuesPtr / 4 + (stride === 0 ? 1 : rowCount)]
    const byteLengthMax =
      joinedByteLength + (stride === 0 ? byteLength * call.countBits(maskPtr, rowCount) : byteLength)
    assert(byteLengthMax < 2 ** 31, 'the texts of one column fit into the memory')
    const valuesPtr = scratch.allocate(4 * (rowCount + 1))
    const bytesPtr = scratch.allocate(byteLengthMax)
    const written = call.blendStrings(
      source.valuesPtr,
      stride,
      source.bytesPtr,
      maskPtr,
      joined.valuesPtr,
      joined.bytesPtr,
      joined.validityPtr,
      rowCount,
      valuesPtr,
      bytesPtr,
      byteLengthMax,
    )
    assert(written >= 0, 'the joined texts have room')
    const validityPtr = run.allocateBits()
    if (joined.validityPtr === 0) call.orBits(maskPtr, maskPtr, validityPtr, rowCount)
    else call.orBits(maskPtr, joined.validityPtr, validityPtr, rowCount)
    joined = { valuesPtr, validityPtr, bytesPtr }
    joinedByteLength = written
  }
  return joined
}

/** A constant text or blob as two offsets and bytes. */
function constantText(run: Evaluation, { constant }: Part): Place {
  const isText = typeof constant === 'string' || constant instanceof Uint8Array
  const { ptr, byteLength } = run.bytesOf(isText ? constant : '')
  const valuesPtr = run.scratch.allocate(8)
  run.kernels.u32[valuesPtr / 4] = 0
  run.kernels.u32[valuesPtr / 4 + 1] = byteLength
  return { valuesPtr, validityPtr: 0, bytesPtr: ptr }
}
