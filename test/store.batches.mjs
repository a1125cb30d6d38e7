// Batches that can be checked: from its number follows all that a batch holds.

/** Keys of a batch: one to five; every 16th value is larger than a transaction is filled to. */
export function numberedBatch(n) {
  const puts = Array.from({ length: 1 + (n % 5) }, (_, i) => {
    const value = Buffer.alloc(n % 16 === 7 && i === 0 ? 1_200_000 : (n * 37 + i * 1009) % 9000, n % 251)
    return { key: Buffer.from(`${String(n).padStart(9, '0')}/${i}`), value }
  })
  return { partition: `p${n % 3}`, puts }
}
