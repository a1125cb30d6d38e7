// Secrets in texts that are kept: the history's, and the server's log.
import type { Caller, Session } from '../requests.js'

/** Longer texts are cut, so that nobody fills the history with one request. */
export const textLengthMax = 4096
export const masked = '*****'
/** Shorter secrets are masked where they are the whole text: parts of any text may look like them. */
const partialSecretLengthMin = 4
/** A name that has so much of a secret in it is one. */
const nameSecretLengthMin = 8
/** What stands for the rest of a text that was cut. */
const ellipsis = '…'
/** Secrets that JSON and addresses leave as they are. */
const plainSecret = /^[\w.~!*'()-]*$/

/** Those asked for last: a client sends its own with every call. */
const knownSpellings = new Map<string, readonly string[]>()
const knownSpellingCountMax = 64

function spellingsOf(secret: string): readonly string[] {
  const known = knownSpellings.get(secret)
  if (known !== undefined) return known
  const spellings = makeSpellings(secret)
  if (knownSpellings.size >= knownSpellingCountMax) knownSpellings.clear()
  knownSpellings.set(secret, spellings)
  return spellings
}

/** A secret as texts may have it: quoted once and twice, as a part of an address, in small letters (commands are shown so). */
function makeSpellings(secret: string): string[] {
  const spellings = [secret]
  if (!plainSecret.test(secret)) {
    const quoted = JSON.stringify(secret).slice(1, -1)
    spellings.push(quoted, JSON.stringify(quoted).slice(1, -1))
    // A lone surrogate has no place in an address.
    if (!/\p{Surrogate}/u.test(secret)) spellings.push(encodeURIComponent(secret))
  }
  const all = new Set([...spellings, ...spellings.map((spelling) => spelling.toLowerCase())])
  // The longest first: it may have another in it.
  return [...all].sort((x, y) => y.length - x.length)
}

/** Masks secrets in texts. */
export class Mask {
  readonly #secrets: readonly string[]

  constructor(secrets: readonly (string | undefined)[]) {
    const given = secrets.filter((secret): secret is string => secret !== undefined && secret !== '')
    // A password mostly stands in the session and among what came with the call.
    const own = given.length < 2 ? given : [...new Set(given)]
    this.#secrets = own.flatMap(spellingsOf)
  }

  static of(session: Session | undefined, caller: Caller | undefined): Mask {
    const hasOwn = session?.password !== undefined || session?.token !== undefined
    if (!hasOwn && (caller === undefined || caller.secrets.length === 0)) return nothingToMask
    return new Mask([session?.password, session?.token, ...(caller?.secrets ?? [])])
  }

  text(text: string): string {
    return this.#masked(text, partialSecretLengthMin)
  }

  /** A name that tables and users are found by: only what can be nothing but a secret is masked. */
  name(text: string): string {
    return this.#masked(text, nameSecretLengthMin)
  }

  #masked(text: string, partialLengthMin: number): string {
    if (this.#secrets.length === 0 && text.length <= textLengthMax) return text
    let result = text
    // Before a long text is cut, or a part of a secret would stay.
    for (const secret of this.#secrets) {
      if (secret.length >= partialLengthMin) {
        if (result.includes(secret)) result = result.replaceAll(secret, masked)
        if (result.includes(ellipsis)) result = withoutCut(result, secret)
      } else if (result === secret && partialLengthMin === partialSecretLengthMin) result = masked
    }
    if (result.length <= textLengthMax) return result
    // A slice would keep the whole text in memory for as long as it is kept itself.
    return `${Buffer.from(result.slice(0, textLengthMax)).toString()}${ellipsis}`
  }
}

/** Masks what a message that cut a text in the midst of a secret has left of it. */
function withoutCut(text: string, secret: string): string {
  let result = text
  for (let at = result.indexOf(ellipsis); at >= 0; at = result.indexOf(ellipsis, at + 1)) {
    for (let length = Math.min(at, secret.length - 1); length >= partialSecretLengthMin; length--) {
      if (!result.startsWith(secret.slice(0, length), at - length)) continue
      result = `${result.slice(0, at - length)}${masked}${result.slice(at)}`
      at += masked.length - length
      break
    }
  }
  return result
}

const nothingToMask = new Mask([])
