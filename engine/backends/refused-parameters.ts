// Which parameters of a request each backend takes. What it does not take is refused, never silently ignored.
import { FramesError } from '../errors.js'
import type { DeleteRequest, ReadRequest, WriteRequest } from '../requests.js'

export type BackendType = 'tsdb' | 'kv' | 'stream' | 'csv'

/** A field that only some backends take. Fields that no list names are taken (or known to have no effect) everywhere. */
interface RestrictedField<Request> {
  readonly field: keyof Request
  /** The name in error messages, where it is more than the field's own in PascalCase. */
  readonly name?: string
  readonly takenBy: readonly BackendType[]
}

interface RefusedFields<Request> {
  readonly fields: readonly RestrictedField<Request>[]
  readonly names: ReadonlySet<string>
}

/** Fields that each backend refuses: a small read need not go through those that it may have. */
type Refused<Request> = Readonly<Record<BackendType, RefusedFields<Request>>>

function restricted<Request>(fields: readonly RestrictedField<Request>[]): Refused<Request> {
  const refusedBy = (type: BackendType): RefusedFields<Request> => {
    const refused = fields.filter(({ takenBy }) => !takenBy.includes(type))
    return { fields: refused, names: new Set(refused.map(({ field }) => String(field))) }
  }
  return { tsdb: refusedBy('tsdb'), kv: refusedBy('kv'), stream: refusedBy('stream'), csv: refusedBy('csv') }
}

// In declaration order: the first offending field is the one that is named.
const readFields = restricted<ReadRequest>([
  { field: 'multiIndex', takenBy: ['tsdb'] },
  { field: 'query', takenBy: ['tsdb'] },
  { field: 'groupBy', takenBy: ['tsdb'] },
  { field: 'segments', takenBy: ['kv'] },
  { field: 'totalSegments', takenBy: ['kv'] },
  { field: 'shardingKeys', takenBy: ['kv'] },
  { field: 'sortKeyRangeStart', takenBy: ['kv'] },
  { field: 'sortKeyRangeEnd', takenBy: ['kv'] },
  { field: 'start', takenBy: ['tsdb', 'stream'] },
  { field: 'end', takenBy: ['tsdb', 'stream'] },
  { field: 'step', takenBy: ['tsdb'] },
  { field: 'aggregators', takenBy: ['tsdb'] },
  { field: 'seek', takenBy: ['stream'] },
  { field: 'shardId', takenBy: ['stream'] },
  { field: 'sequence', takenBy: ['stream'] },
  { field: 'aggregationWindow', takenBy: ['tsdb'] },
  { field: 'followMs', name: 'Follow', takenBy: ['stream'] },
])

const writeFields = restricted<WriteRequest>([
  { field: 'expression', takenBy: ['kv', 'csv'] },
  { field: 'condition', takenBy: ['kv', 'csv'] },
  { field: 'partitionKeys', takenBy: ['kv', 'csv'] },
  { field: 'saveMode', takenBy: ['kv', 'csv'] },
  { field: 'more', name: 'HaveMore', takenBy: ['stream', 'csv'] },
])

const deleteFields = restricted<DeleteRequest>([
  { field: 'start', takenBy: ['tsdb'] },
  { field: 'end', takenBy: ['tsdb'] },
  { field: 'metrics', takenBy: ['tsdb'] },
])

/** Throws REFUSED_PARAMETER for the first field that is set and that the backend does not take. */
export function refuseReadParameters(request: ReadRequest, backend: BackendType): void {
  refuse(request, readFields, 'ReadRequest', backend)
}

export function refuseWriteParameters(request: WriteRequest, backend: BackendType): void {
  refuse(request, writeFields, 'WriteRequest', backend)
}

export function refuseDeleteParameters(request: DeleteRequest, backend: BackendType): void {
  refuse(request, deleteFields, 'DeleteRequest', backend)
}

function refuse<Request extends ReadRequest | WriteRequest | DeleteRequest>(
  request: Request,
  refused: Refused<Request>,
  type: string,
  backend: BackendType,
): void {
  const { fields, names } = refused[backend]
  // A request has few fields, and mostly none of these: one that an object does not have takes long to look for.
  let hasAny = false
  for (const name in request) if (names.has(name)) hasAny = true
  if (!hasAny) return
  for (const { field, name } of fields) {
    const value = request[field]
    if (value === undefined || isDefault(field, value)) continue
    throw new FramesError(
      'REFUSED_PARAMETER',
      `${name ?? pascalCase(String(field))} cannot be used as an argument to a ${type} to ${backend} backend`,
    )
  }
}

/** What a client that does not set a field may still send: zero values, empty lists, the default save mode. */
function isDefault(field: PropertyKey, value: unknown): boolean {
  if (field === 'saveMode' && value === 'errorIfTableExists') return true
  if (Array.isArray(value)) return value.length === 0
  return !value
}

function pascalCase(name: string): string {
  return name[0].toUpperCase() + name.slice(1)
}
