// Parts of a table by the hash of names: the same name is in the same part, whatever else the table holds.
import { hashText } from './hash'
import { isSet } from './bits'

/**
 * Clears the bits of the rows whose text's hash, modulo total, is not wanted.
 *
 * offsets  (rowCount + 1) × u32, 4-byte aligned; text i is bytes + offsets[i] … bytes + offsets[i + 1]
 * wanted   total bytes, 1 = wanted
 * mask     ceil(rowCount / 8) bytes, bits are cleared and never set
 */
export function maskSegments(
  offsetsPtr: usize,
  bytesPtr: usize,
  rowCount: i32,
  total: u32,
  wantedPtr: usize,
  maskPtr: usize,
): void {
  const textEnd = bytesPtr + <usize>load<u32>(offsetsPtr + ((<usize>rowCount) << 2))
  for (let row = 0; row < rowCount; row++) {
    if (!isSet(maskPtr, row)) continue
    const offsetPtr = offsetsPtr + ((<usize>row) << 2)
    const start = load<u32>(offsetPtr)
    const hash = hashText(bytesPtr + <usize>start, load<u32>(offsetPtr, 4) - start, textEnd)
    if (load<u8>(wantedPtr + <usize>((hash >> 16) % <u64>total)) !== 0) continue
    const bytePtr = maskPtr + (<usize>row >> 3)
    store<u8>(bytePtr, <u8>(<u32>load<u8>(bytePtr) & ~(1 << (row & 7))))
  }
}
