// The list of pages that kernels over runs of pages read, and what they return. Internal to page-runs.ts, compare-pages.ts.

// One page in the list, 24 bytes:
//   ptr u32        where its bytes stand: [validity] values
//   byteLength u32
//   crc u32        CRC-32C of all of them
//   present u32    rows with a value; 0: the page has no bytes
//   validity u32   bytes of the validity bitmap; 0: no row is missing
//   rows u32
export const RUN_ENTRY: usize = 24

/** Numbers of dtypes, as in the column's header. */
export const INT64: i32 = 1
export const FLOAT64: i32 = 2
export const TIME: i32 = 4

/** A page whose checksum does not fit, and one that cannot be decoded: -1 - page, and further from 0. */
export function badChecksum(page: i32): i32 {
  return -1 - page
}
export function badPage(page: i32): i32 {
  return -1 - page - 0x100000
}
