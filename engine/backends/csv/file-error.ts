// Errors of the file system as errors that a caller can act on.
import { getSystemErrorMap } from 'node:util'
import { type ErrorCode, FramesError, shortened } from '../../errors.js'

const codes: Readonly<Record<string, ErrorCode>> = {
  ENOENT: 'TABLE_NOT_FOUND',
  ENOSPC: 'DISK_FULL',
  EDQUOT: 'DISK_FULL',
  ELOOP: 'PATH_REFUSED',
  ENAMETOOLONG: 'PATH_REFUSED',
}

/** The name of a system error (`ENOENT`), or null for any other error. */
export function systemErrorName(error: unknown): string | null {
  if (!(error instanceof Error) || !('code' in error) || !('errno' in error)) return null
  return typeof error.code === 'string' ? error.code : null
}

/**
 * A system error with what was tried: `open t.csv: no such file or directory`. The path on this machine stays out of it.
 * Any other error comes back as it is.
 */
export function fileError(error: unknown, tried: string): unknown {
  const name = systemErrorName(error)
  if (name === null || !(error instanceof Error) || !('errno' in error)) return error
  const text = getSystemErrorMap().get(Number(error.errno))?.[1] ?? name
  return new FramesError(codes[name] ?? 'FILE_FAILED', `${tried}: ${text}`, { cause: error })
}

/** A table as the texts name it. */
export function quotedTable(table: string): string {
  return JSON.stringify(shortened(table))
}
