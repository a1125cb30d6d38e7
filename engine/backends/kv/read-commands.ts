// The commands of `execute` that read. None yet.
import type { PlainFrame } from '../../frame/plain.js'
import type { ExecuteRequest } from '../../requests.js'
import type { BackendParts, CallOptions } from '../backend.js'
import type { KvTable } from './table.js'

export const readCommands: readonly string[] = []

export async function executeRead(
  _parts: BackendParts,
  _table: KvTable,
  _folder: string,
  _request: ExecuteRequest,
  _options: CallOptions,
): Promise<PlainFrame | null> {
  return null
}
