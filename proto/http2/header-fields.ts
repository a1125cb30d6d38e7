// Header fields of HTTP/2, and what makes them malformed (RFC 9113, 8.2 and 8.3).

/**
 * Values by name; those of one name joined. No prototype: any name may be asked for. Blocks of the same bytes share one: it must not be
 * changed. A byte of a value is a character (latin1).
 */
export type Headers = Readonly<Record<string, string>>

/** A decoded block. */
export interface HeaderBlock {
  /** Empty where `isTooLarge`. */
  readonly headers: Headers
  /** Of its fields, as HeaderField counts it; 0 where `isTooLarge`. */
  readonly byteLength: number
  /** The pseudo-headers it has, as bits of `pseudoHeader`. */
  readonly pseudoHeaders: number
  /** What makes it malformed, whatever it is for; null: nothing. */
  readonly problem: string | null
  /** Its fields are above the decoder's limit. */
  readonly isTooLarge: boolean
}

/** A field as it stands in a table: what is known of it is found out once. */
export class HeaderField {
  readonly name: string
  readonly value: string
  /** As RFC 7541, 4.1 and RFC 9113, 6.5.2 count it. */
  readonly byteLength: number
  /** The bit of a pseudo-header; 0: it is none. */
  readonly pseudoHeader: number
  readonly problem: string | null

  constructor(name: string, value: string) {
    this.name = name
    this.value = value
    this.byteLength = name.length + value.length + fieldByteLength
    this.pseudoHeader = name.startsWith(':') ? (pseudoHeader[name] ?? pseudoHeader.unknown) : 0
    this.problem = problemOf(name, value)
  }
}

/** What a field counts beside its bytes. */
export const fieldByteLength = 32

export const pseudoHeader: Readonly<Record<string, number>> & { readonly unknown: number } = {
  ':method': 1,
  ':scheme': 2,
  ':path': 4,
  ':authority': 8,
  ':status': 16,
  unknown: 32,
}

const requestNeeds = pseudoHeader[':method'] | pseudoHeader[':scheme'] | pseudoHeader[':path']
const requestMayHave = requestNeeds | pseudoHeader[':authority']
const responseNeeds = pseudoHeader[':status']

export type BlockKind = 'request' | 'response' | 'trailers'

/** What makes a block none of its kind; null: nothing. */
export function blockProblem({ problem, pseudoHeaders, headers }: HeaderBlock, kind: BlockKind): string | null {
  if (problem !== null) return problem
  if (kind === 'trailers') return pseudoHeaders === 0 ? null : 'trailers with pseudo-headers'
  if (kind === 'response') {
    if (pseudoHeaders !== responseNeeds) return 'a response whose pseudo-headers are not :status alone'
    const text = headers[':status']
    return text === '200' || /^\d{3}$/.test(text) ? null : 'a response whose :status is none'
  }
  if ((pseudoHeaders & ~requestMayHave) !== 0) return 'a request with pseudo-headers that are not of requests'
  if ((pseudoHeaders & requestNeeds) !== requestNeeds) return 'a request without :method, :scheme or :path'
  return headers[':path'] === '' ? 'a request with an empty :path' : null
}

/** Lower-case characters of a token (RFC 9110, 5.6.2). */
const nameShape = /^:?[!#$%&'*+\-.^_`|~0-9a-z]+$/
const badInValue = /[\0\r\n]/
const ofConnections = new Set(['connection', 'proxy-connection', 'keep-alive', 'transfer-encoding', 'upgrade'])

function problemOf(name: string, value: string): string | null {
  if (!nameShape.test(name)) return 'a header whose name is none'
  if (badInValue.test(value)) return 'a header whose value has a line feed or a zero in it'
  if (ofConnections.has(name)) return 'a header that speaks of the connection'
  return name === 'te' && value !== 'trailers' ? "a header 'te' that is not 'trailers'" : null
}
