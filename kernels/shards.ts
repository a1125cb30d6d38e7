// Which shard of a stream a key belongs to. The numbers are stored with the records: this file never changes its answers.

/** FNV-1a, 64 bits (Fowler, Noll, Vo, 1991). */
const FNV_OFFSET: u64 = ((<u64>0xcbf29ce4) << 32) | 0x84222325
const FNV_PRIME: u64 = ((<u64>0x00000100) << 32) | 0x000001b3

/** The finalizer of MurmurHash3 (Austin Appleby): every bit of the key reaches every bit of the hash. */
function scrambled(hash: u64): u64 {
  hash = (hash ^ (hash >> 33)) * (((<u64>0xff51afd7) << 32) | 0xed558ccd)
  hash = (hash ^ (hash >> 33)) * (((<u64>0xc4ceb9fe) << 32) | 0x1a85ec53)
  return hash ^ (hash >> 33)
}

/**
 * Jump consistent hash (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", 2014): when shards are
 * added, a key stays where it is or moves to a new shard.
 */
function jump(hash: u64, shardCount: i32): i32 {
  let shard: i64 = -1
  let next: i64 = 0
  while (next < <i64>shardCount) {
    shard = next
    hash = hash * (((<u64>0x27bb2ee6) << 32) | 0x87b0b0fd) + 1
    next = <i64>(<f64>(shard + 1) * (2147483648.0 / <f64>((hash >> 33) + 1)))
  }
  return <i32>shard
}

/**
 * The shard of each key.
 *
 * offsets   (rowCount + 1) × u32, 4-byte aligned, into bytes; read only
 * validity  ceil(rowCount / 8) bytes, or 0 when no key is missing; a missing key counts as the empty one
 * target    rowCount × u32, 4-byte aligned: numbers below shardCount (1 or more)
 */
export function shardsOfTexts(
  offsetsPtr: usize,
  bytesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  shardCount: i32,
  targetPtr: usize,
): void {
  for (let row = 0; row < rowCount; row++) {
    let hash = FNV_OFFSET
    if (validityPtr === 0 || (load<u8>(validityPtr + (<usize>row >> 3)) >> (row & 7)) & 1) {
      let ptr = bytesPtr + load<u32>(offsetsPtr + ((<usize>row) << 2))
      const end = bytesPtr + load<u32>(offsetsPtr + ((<usize>row) << 2), 4)
      for (; ptr < end; ptr++) hash = (hash ^ <u64>load<u8>(ptr)) * FNV_PRIME
    }
    store<u32>(targetPtr + ((<usize>row) << 2), <u32>jump(scrambled(hash), shardCount))
  }
}

/** target[i] = first + i × step, for `count` i64; wraps around. */
export function fillProgression(targetPtr: usize, count: i32, first: i64, step: i64): void {
  for (let i = 0; i < count; i++) {
    store<i64>(targetPtr + ((<usize>i) << 3), first)
    first += step
  }
}
