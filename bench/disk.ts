// What files take.
import { closeSync, fdatasyncSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'

/** What the files of a folder take: their length, or what is allocated if that is more. */
export function folderByteLength(folder: string): number {
  let byteLength = 0
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue
    const { size, blocks } = statSync(join(entry.parentPath, entry.name))
    byteLength += Math.max(size, blocks * 512)
  }
  return byteLength
}

const pieceByteLength = 3 * 1024 * 1024

/** Bytes a second that a new file takes, each piece synced: memory that the machine has yet to find for its pages included. */
export function newFileRate(path: string, byteLength: number): number {
  const piece = Buffer.alloc(pieceByteLength, 'framesd')
  const file = openSync(path, 'w')
  const startMs = performance.now()
  let written = 0
  while (written < byteLength) {
    written += writeSync(file, piece)
    fdatasyncSync(file)
  }
  const elapsedMs = performance.now() - startMs
  closeSync(file)
  rmSync(path)
  return (1000 * written) / elapsedMs
}
