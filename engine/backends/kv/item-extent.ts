// What the live entry of an item block says of its keys: the beginnings of its first and last folder and name, as numbers,
// so that blocks can be skipped and ordered without being read.
//
//   first folder │ first name │ last folder │ last name      each: length in bytes, then 4 × 6 bytes as a big-endian number,
//                                                            zeros behind its end
import type { Extent } from '../../blocks/live-block.js'

const chunkByteLength = 6
const chunkCount = 4
const prefixByteLength = chunkByteLength * chunkCount
const numbersPerText = 1 + chunkCount

/** A folder and a name in the form in which extents have them. */
export type KeyNumbers = readonly number[]

function pushText(numbers: number[], text: Uint8Array): void {
  numbers.push(text.length)
  for (let chunk = 0; chunk < chunkCount; chunk++) {
    let value = 0
    for (let i = 0; i < chunkByteLength; i++) value = value * 256 + (text[chunk * chunkByteLength + i] ?? 0)
    numbers.push(value)
  }
}

export function keyNumbers(folder: Uint8Array, name: Uint8Array): KeyNumbers {
  const numbers: number[] = []
  pushText(numbers, folder)
  pushText(numbers, name)
  return numbers
}

export function encodeItemExtent(first: KeyNumbers, last: KeyNumbers): Extent {
  return [...first, ...last]
}

/** The beginning of a block's first name; where it ends within a character, something else stands for that. */
export function firstNameOf(extent: Extent): string {
  const length = Math.min(extent[numbersPerText]!, prefixByteLength)
  const bytes = Buffer.alloc(prefixByteLength)
  for (let chunk = 0; chunk < chunkCount; chunk++)
    bytes.writeUIntBE(extent[numbersPerText + 1 + chunk]!, chunk * chunkByteLength, chunkByteLength)
  return bytes.toString('utf8', 0, length)
}

/** Negative or positive as one text stands before or behind the other for sure, 0 when that cannot be said or they are equal. */
function compareTexts(a: readonly number[], aStart: number, b: readonly number[], bStart: number): number {
  for (let i = 1; i < numbersPerText; i++) {
    const difference = a[aStart + i]! - b[bStart + i]!
    if (difference !== 0) return difference
  }
  return 0
}

/** Whether two texts with the same beginning are the same: both are whole, and one is no longer than the other. */
function isSameText(a: readonly number[], aStart: number, b: readonly number[], bStart: number): boolean {
  return a[aStart]! === b[bStart]! && a[aStart]! <= prefixByteLength
}

function compareKeys(a: readonly number[], aStart: number, b: readonly number[], bStart: number): number {
  const byFolder = compareTexts(a, aStart, b, bStart)
  if (byFolder !== 0) return byFolder
  if (!isSameText(a, aStart, b, bStart)) return 0
  return compareTexts(a, aStart + numbersPerText, b, bStart + numbersPerText)
}

/** Whether a block may hold a key between two others (the same one: that key). */
export function extentMayHold(extent: Extent | null, first: KeyNumbers, last: KeyNumbers): boolean {
  if (extent === null) return true
  return compareKeys(extent, 2 * numbersPerText, first, 0) >= 0 && compareKeys(extent, 0, last, 0) <= 0
}

/** Whether all keys of one block stand before those of another for sure. */
export function endsBefore(a: Extent | null, b: Extent | null): boolean {
  return a !== null && b !== null && compareKeys(a, 2 * numbersPerText, b, 0) < 0
}
