// What files take.
import { readdirSync, statSync } from 'node:fs'
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
