// What this machine can do at most: the figures that others stand beside.
import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem, type } from 'node:os'
import { join } from 'node:path'
import { MiB } from '../engine/limits.js'
import { median } from './clock.js'

export interface Machine {
  readonly cpu: string
  readonly coreCount: number
  readonly memoryByteLength: number
  readonly system: string
  readonly node: string
}

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    coreCount: availableParallelism(),
    memoryByteLength: totalmem(),
    system: `${type()} ${release()}`,
    node: process.version,
  }
}

export interface MachineLimits {
  /** Copying 64 MiB from one buffer to another, in bytes a second. */
  readonly memcpyBytesPerSecond: number
  /** Writing 4 KiB over a file's start and waiting for the disk, in ms. */
  readonly syncMs: number
  /** Writing 1 MiB after 1 MiB, each synced, in bytes a second. */
  readonly syncedBytesPerSecond: number
}

export function measureLimits(folder: string): MachineLimits {
  const path = join(folder, 'limits.tmp')
  const file = openSync(path, 'w')
  try {
    return {
      memcpyBytesPerSecond: measureMemcpy(),
      syncMs: median(syncTimesMs(file, 4096, 50)),
      syncedBytesPerSecond: MiB / (median(syncTimesMs(file, MiB, 20)) / 1000),
    }
  } finally {
    closeSync(file)
    rmSync(path)
  }
}

function measureMemcpy(): number {
  const source = Buffer.alloc(64 * MiB, 1)
  const target = Buffer.alloc(64 * MiB, 2)
  let bestMs = Number.POSITIVE_INFINITY
  for (let i = 0; i < 8; i++) {
    const start = performance.now()
    target.set(source)
    bestMs = Math.min(bestMs, performance.now() - start)
  }
  return source.byteLength / (bestMs / 1000)
}

function syncTimesMs(file: number, byteLength: number, count: number): number[] {
  const block = Buffer.alloc(byteLength, 7)
  return Array.from({ length: count }, () => {
    const start = performance.now()
    writeSync(file, block, 0, byteLength, 0)
    fdatasyncSync(file)
    return performance.now() - start
  })
}
