// Memory of a process that is its own: RssAnon + RssShmem of /proc/PID/status. Pages of mapped files (LMDB's) count in RSS
// too, but the kernel takes them back whenever it likes.
import { readFileSync } from 'node:fs'

/** In bytes; null where there is no /proc. */
export function ownMemoryByteLength(pid: number): number | null {
  let status: string
  try {
    status = readFileSync(`/proc/${pid}/status`, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
  const kiB = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
  return (kiB('RssAnon') + kiB('RssShmem')) * 1024
}

/** Looks every 20 ms while `work` runs; the highest value seen, in bytes. */
export async function peakMemory(pid: number, work: () => Promise<unknown>): Promise<number | null> {
  let peak = ownMemoryByteLength(pid)
  const look = () => {
    const now = ownMemoryByteLength(pid)
    if (now !== null) peak = Math.max(peak ?? 0, now)
  }
  const timer = setInterval(look, 20)
  try {
    await work()
    look()
    return peak
  } finally {
    clearInterval(timer)
  }
}
