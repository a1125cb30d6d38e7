// Reads of items: none yet.
import type { ReadRequest } from '../../requests.js'
import type { BackendParts, ReadMessage, ReadOptions } from '../backend.js'
import type { KvTable } from './table.js'
export async function* readItems(
  _parts: BackendParts,
  _table: KvTable,
  _request: ReadRequest,
  _format: 'wire' | 'columns',
  _options: ReadOptions,
): AsyncGenerator<ReadMessage> {
  yield* []
}
