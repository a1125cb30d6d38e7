// One process a data folder: whoever holds a Unix domain socket in it open owns it.
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, realpath, rename, rm, stat, symlink } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { FramesError } from '../errors.js'

export interface FolderLock {
  /** Whether the last owner ended without a release: it was killed, or the machine stopped. */
  readonly tookOver: boolean
  release(): Promise<void>
}

/*
 * Every process listens on a socket with a name of its own, `owner.RANDOM`, and only then looks for the others. Of two
 * that come at once, at least one sees the other, so never do both go on. A socket that refuses connections belongs to
 * a process that is gone, and since no name is used twice, deleting it can take nothing from anyone: taking over one
 * fixed name could delete the socket of a process that was quicker.
 *
 * A socket can refuse between bind and listen, so it is made under another name and renamed when it listens.
 */
const ownerPrefix = 'owner.'
const newcomerPrefix = 'newcomer.'

/** Two newcomers may both withdraw; they come again after a random wait, and a real owner is still there then. */
const attemptCount = 3
const attemptDelayMsMax = 150

/** Longest path of a socket that every system takes, in bytes (Linux 107, macOS 103). */
const socketPathByteLengthMax = 100

/**
 * Takes the folder (made if it is missing) for this process. Throws STORE_IN_USE when another one, or this one, has it,
 * and STORE_FOLDER when it can be neither made nor written to.
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  try {
    await makeFolder(folder)
    return await takeFolder(folder)
  } catch (error) {
    if (error instanceof FramesError || !(error instanceof Error)) throw error
    throw new FramesError('STORE_FOLDER', `the data folder ${folder} cannot be used: ${error.message}`, {
      cause: error,
    })
  }
}

/**
 * Makes a folder and those above it. Not by `recursive` of mkdir: where a file system says ENOENT although the folder above is
 * there, as Linux' /proc does, Node tries again for ever.
 */
async function makeFolder(folder: string): Promise<void> {
  const make = (): Promise<void> =>
    mkdir(folder).catch(async (error: NodeJS.ErrnoException) => {
      const isThere = error.code === 'EEXIST' && (await stat(folder)).isDirectory()
      if (!isThere) throw error
    })
  try {
    await make()
  } catch (error) {
    const above = dirname(folder)
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || above === folder) throw error
    await makeFolder(above)
    await make()
  }
}

async function takeFolder(folder: string): Promise<FolderLock> {
  for (let attempt = 1; ; attempt++) {
    const lock = await tryLock(folder)
    if (lock) return lock
    if (attempt === attemptCount) {
      throw new FramesError(
        'STORE_IN_USE',
        `the data folder ${folder} is in use by another process, or open in this one`,
      )
    }
    await new Promise((resolve) => setTimeout(resolve, Math.random() * attemptDelayMsMax))
  }
}

async function tryLock(folder: string): Promise<FolderLock | null> {
  const short = await shortPath(folder)
  const name = randomBytes(8).toString('hex')
  const owned = join(folder, ownerPrefix + name)
  const server = createServer((socket) => socket.destroy())
  server.unref()
  const release = async () => {
    await rm(owned, { force: true })
    await new Promise<void>((resolve) => server.close(() => resolve()))
  }
  let tookOver = false
  try {
    await listen(server, join(short.path, newcomerPrefix + name))
    await rename(join(folder, newcomerPrefix + name), owned)
    for (const other of await readdir(folder)) {
      if (!other.startsWith(ownerPrefix) || other === ownerPrefix + name) continue
      if (await answers(join(short.path, other))) {
        await release()
        return null
      }
      await rm(join(folder, other), { force: true })
      tookOver = true
    }
    return { tookOver, release }
  } catch (error) {
    await release()
    throw error
  } finally {
    await short.remove()
  }
}

/** A path of the folder that is short enough for a socket in it: itself, or a symbolic link while it is needed. */
async function shortPath(folder: string): Promise<{ path: string; remove(): Promise<void> }> {
  const nameByteLength = newcomerPrefix.length + 16
  if (Buffer.byteLength(folder) + 1 + nameByteLength <= socketPathByteLengthMax) {
    return { path: folder, remove: async () => undefined }
  }
  const path = join(tmpdir(), `framesd-${randomBytes(6).toString('hex')}`)
  await symlink(await realpath(folder), path)
  return { path, remove: () => rm(path, { force: true }) }
}

function listen(server: Server, path: string): Promise<AddressInfo | string | null> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => resolve(server.address()))
  })
}

/** Whether someone accepts connections at a socket. Only a clear refusal, or no such socket, counts as nobody. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false)
      else if (error.code === 'EAGAIN')
        resolve(true) // its queue of connections is full: it is alive
      else reject(error)
    })
  })
}
