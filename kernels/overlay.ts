// Columns of two types of one attribute put together: no row has a value in both.
import { loadBits } from './bits'

/**
 * Copies the values of the rows that `validity` marks over those of the target.
 *
 * values, target  rowCount × 8 bytes, 8-byte aligned
 */
export function overlay64(valuesPtr: usize, validityPtr: usize, rowCount: i32, targetPtr: usize): void {
  for (let row = 0; row < rowCount; row += 64) {
    const start = (<usize>row) << 3
    for (let word = loadBits(validityPtr, row, min(rowCount - row, 64)); word !== 0; word &= word - 1) {
      const at = start + ((<usize>ctz(word)) << 3)
      store<u64>(targetPtr + at, load<u64>(valuesPtr + at))
    }
  }
}
