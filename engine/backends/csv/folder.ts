// The root folder of the files, and the way from a table's name to a place in it that nobody can lead out of it.
//
// A path is walked one folder at a time, each opened inside the one before and never through a link; what is done then is
// done relative to the opened folder (/proc/self/fd/N/name), so renaming folders or putting links in their place meanwhile
// changes nothing. A link is followed only when its end lies below the root, and then by a new walk. Where there is no
// /proc the path itself is used: a link put there between the look and the use would be followed.
import { createHash, randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, readdir, realpath, unlink, writeFile } from 'node:fs/promises'
import { isAbsolute, join, posix, relative, sep } from 'node:path'
import { FramesError } from '../../errors.js'
import { fileError, quotedTable, systemErrorName } from './file-error.js'

/** An opened folder and a name in it; to be closed. */
export interface Place {
  readonly folder: FileHandle
  /** For calls that do not follow links at its end (O_NOFOLLOW, rename, link, unlink, lstat). */
  readonly path: string
  close(): Promise<void>
}

/** What framesd keeps beside the files; no table can be called so. */
const ownFolder = '.framesd'
const temporarySuffix = '.tmp'
/** Files of calls that a crash ended; a call at work touches its file more often. */
const temporaryAgeMsMax = 3600 * 1000
const linkCountMax = 8

const folderFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW
const hasProc = process.platform === 'linux'

interface Link {
  readonly linkPath: string
  readonly rest: readonly string[]
}

export class CsvFolder {
  readonly #rootDir: string

  constructor(rootDir: string) {
    this.#rootDir = rootDir
  }

  /** The root itself, made when it is missing. */
  async #root(): Promise<string> {
    await mkdir(this.#rootDir, { recursive: true })
    return realpath(this.#rootDir)
  }

  /**
   * The place of a table's file, which need not exist; its folders must. A link at its end is followed to where it leads,
   * unless `keepsLink`: then the place is that of the link.
   * Throws PATH_REFUSED for a name or link that leads out of the root; TABLE_NOT_FOUND, FILE_FAILED.
   */
  async locate(table: string, tried: string, { keepsLink = false } = {}): Promise<Place> {
    let parts = partsOf(table)
    try {
      const root = await this.#root()
      for (let linkCount = 0; linkCount <= linkCountMax; linkCount++) {
        const found = await walk(root, parts)
        if (!('linkPath' in found)) return found
        const target = await this.#follow(root, found, table)
        if (keepsLink && found.rest.length === 0) {
          const place = await walk(root, parts, true)
          if (!('linkPath' in place)) return place
        } else parts = target
      }
    } catch (error) {
      throw fileError(error, tried)
    }
    throw refused(table, 'follows too many links')
  }

  async #follow(root: string, { linkPath, rest }: Link, table: string): Promise<string[]> {
    const target = await realpath(linkPath).catch((error: unknown) => {
      if (systemErrorName(error) === 'ENOENT') throw refused(table, 'is a link that leads nowhere')
      throw error
    })
    const inside = relative(root, target)
    if (inside === '..' || inside.startsWith(`..${sep}`) || isAbsolute(inside)) {
      throw refused(table, 'is a link out of the root folder of the csv backend')
    }
    const parts = [...inside.split(sep), ...rest].filter((part) => part !== '')
    if (parts.length === 0) throw refused(table, 'is no name of a file')
    if (parts[0] === ownFolder) throw refused(table, 'is a folder of framesd itself')
    return parts
  }

  /** A new empty file for a write, in a folder that no table stands in; to be renamed or removed, and closed. */
  async createTemporary(): Promise<Place & { readonly handle: FileHandle }> {
    const place = await this.#ownPlace(`${randomBytes(12).toString('hex')}${temporarySuffix}`)
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
    try {
      const handle = await open(place.path, flags, 0o644)
      return {
        ...place,
        handle,
        close: async () => {
          await handle.close()
          await place.close()
        },
      }
    } catch (error) {
      await place.close()
      throw error
    }
  }

  /** Removes what crashed calls have left behind. */
  async removeLeftovers(nowMs: number): Promise<void> {
    const place = await this.#ownPlace('')
    try {
      for (const name of await readdir(place.path)) {
        if (!name.endsWith(temporarySuffix)) continue
        const path = join(place.path, name)
        if (nowMs - (await lstat(path)).mtimeMs > temporaryAgeMsMax) await removeFile(path)
      }
    } finally {
      await place.close()
    }
  }

  /** Whether writes to this table append; see setAppends. */
  appends(table: string): Promise<boolean> {
    return this.#withAppendMark(table, async (path) => {
      try {
        return (await lstat(path)).isFile()
      } catch (error) {
        if (systemErrorName(error) === 'ENOENT') return false
        throw error
      }
    })
  }

  /** Says by a file beside the tables' files that writes to a table append, or takes it away. */
  setAppends(table: string, appends: boolean): Promise<void> {
    return this.#withAppendMark(table, async (path) => {
      await removeFile(path)
      const text = `${JSON.stringify({ version: 1, table: nameOf(table), append: true })}\n`
      if (appends) await writeFile(path, text, { flag: 'wx' })
    })
  }

  async #withAppendMark<T>(table: string, use: (path: string) => Promise<T>): Promise<T> {
    const name = createHash('sha256').update(nameOf(table)).digest('hex')
    const place = await this.#ownPlace(`${name}.json`)
    try {
      return await use(place.path)
    } finally {
      await place.close()
    }
  }

  async #ownPlace(name: string): Promise<Place> {
    const root = await this.#root()
    await mkdir(join(root, ownFolder), { recursive: true, mode: 0o700 })
    const found = await walk(root, [ownFolder, name])
    if ('linkPath' in found) throw new FramesError('FILE_FAILED', `${ownFolder} in the root folder is a link`)
    return found
  }
}

/** The table's path in one spelling, the same for all names of one file but for links. */
export function nameOf(table: string): string {
  return partsOf(table).join('/')
}

/** Folders and file of a table. A slash at the start is that of the root folder. Throws PATH_REFUSED. */
function partsOf(table: string): string[] {
  if (table.includes('\0')) throw refused(table, 'has a NUL character')
  // Not normalised from '/': what climbs out is refused, and not bent back.
  const path = posix.normalize(table.replace(/^\/+/, ''))
  const parts = path.split(sep === '\\' ? /[\\/]/ : '/').filter((part) => part !== '' && part !== '.')
  if (parts.includes('..')) throw refused(table, 'leaves the root folder of the csv backend')
  if (parts.length === 0) throw refused(table, 'is no name of a file')
  if (parts[0] === ownFolder) throw refused(table, 'is a folder of framesd itself')
  return parts
}

function refused(table: string, why: string): FramesError {
  return new FramesError('PATH_REFUSED', `table ${quotedTable(table)} ${why}`)
}

/** Goes down from the root without following links; one at the end counts as a file where `keepsLink`. */
async function walk(root: string, parts: readonly string[], keepsLink = false): Promise<Place | Link> {
  let folder = await open(root, folderFlags)
  let folderPath = root
  try {
    for (let i = 0; ; i++) {
      const place = folder
      const path = hasProc ? `/proc/self/fd/${folder.fd}/${parts[i]!}` : join(folderPath, parts[i]!)
      const rest = parts.slice(i + 1)
      let next: FileHandle | null = null
      if (rest.length > 0) {
        next = await open(path, folderFlags).catch(async (error: unknown) => {
          if (await isLink(path)) return null
          throw error
        })
      } else if (keepsLink || !(await isLink(path))) return { folder, path, close: () => place.close() }
      if (next === null) {
        // Its path holds when the folder is closed; where it leads is looked at from the root again.
        const linkPath = join(hasProc ? await realpath(`/proc/self/fd/${folder.fd}`) : folderPath, parts[i]!)
        await folder.close()
        return { linkPath, rest }
      }
      await folder.close()
      folder = next
      folderPath = join(folderPath, parts[i]!)
    }
  } catch (error) {
    await folder.close()
    throw error
  }
}

async function isLink(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSymbolicLink()
  } catch (error) {
    if (systemErrorName(error) === 'ENOENT') return false
    throw error
  }
}

/** Removes a file that may be gone already. */
export async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (systemErrorName(error) !== 'ENOENT') throw error
  }
}
