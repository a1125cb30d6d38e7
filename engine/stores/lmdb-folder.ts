// The data folder on disk: which file counts, and how a new one takes over so that a crash at any moment loses nothing.
import { closeSync, fsyncSync, openSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'

/*
 *   data.N.mdb       the data: of several, the one with the highest number
 *   data.N.mdb-lock  LMDB's table of readers
 *   data.N.new       a file being written; worth nothing until it is renamed
 *   owner.*          sockets: see lock.ts
 *
 * A file is complete and synced before it gets its name, and a rename is atomic, so a crash leaves the older file or
 * both; both hold the same, because no commit happens between the last step of the copy (lmdb-copy.ts) and the rename.
 */
const dataName = /^data\.(\d+)\.mdb$/
const anyName = /^data\.\d+\.(mdb|new)(-lock)?$/

/** The numbers of the data files in a folder, lowest first. */
function fileNumbers(folder: string): number[] {
  return readdirSync(folder)
    .flatMap((name) => dataName.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((left, right) => left - right)
}

/** The file that counts, or null in a new folder. */
export function currentFile(folder: string): string | null {
  const newest = fileNumbers(folder).at(-1)
  return newest === undefined ? null : join(folder, `data.${newest}.mdb`)
}

/** Where the next file is written, and the name it gets when it is complete. */
export function nextFile(folder: string): { unfinished: string; finished: string } {
  const number = (fileNumbers(folder).at(-1) ?? -1) + 1
  return { unfinished: join(folder, `data.${number}.new`), finished: join(folder, `data.${number}.mdb`) }
}

/** Gives a complete file the name under which it counts from then on, also after a power cut. */
export function publishFile({ unfinished, finished }: { unfinished: string; finished: string }): void {
  sync(unfinished)
  renameSync(unfinished, finished)
  rmSync(`${unfinished}-lock`, { force: true })
  sync(dirname(finished))
}

/** Takes back a file that was published, or nearly, and could not be used. */
export function withdrawFile(path: string): void {
  rmSync(path, { force: true })
  sync(dirname(path))
}

/** Removes what no longer counts: older files, unfinished ones, and the tables of readers that belong to them. */
export function removeOldFiles(folder: string): void {
  const current = currentFile(folder)
  for (const name of readdirSync(folder)) {
    const path = join(folder, name)
    if (anyName.test(name) && path !== current && path !== `${current}-lock`) rmSync(path, { force: true })
  }
}

function sync(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
