// Who is asking: the session of the request, overridden by HTTP's Authorization header, completed from the configuration.
import type { Session } from '../engine/index.js'
import type { Config } from './config.js'

/** The user name that marks Basic credentials as an access key. */
const accessKeyUser = '__ACCESS_KEY'

/** Why an Authorization header was ignored. It names no part of the header: that may be a secret. */
export class AuthorizationIgnored {
  readonly reason: string
  constructor(reason: string) {
    this.reason = reason
  }
}

/** What an Authorization header sets in the session. The scheme is matched as written: `Basic `, `Bearer `. */
export function readAuthorization(header: string): Session | AuthorizationIgnored {
  if (header.startsWith('Bearer ')) return { token: header.slice('Bearer '.length) }
  if (!header.startsWith('Basic ')) return new AuthorizationIgnored('the scheme is neither Basic nor Bearer')
  const encoded = header.slice('Basic '.length)
  if (encoded.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(encoded)) {
    return new AuthorizationIgnored('the credentials are not base64')
  }
  const credentials = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = credentials.indexOf(':')
  if (colon < 0) return new AuthorizationIgnored('the credentials have no colon')
  const user = credentials.slice(0, colon)
  const password = credentials.slice(colon + 1)
  return user === accessKeyUser ? { token: password } : { user, password }
}

/** Fills each empty field of a session from the configuration. */
export function completeSession(session: Session | undefined, config: Config): Session {
  const filled: Record<string, string> = {}
  const fill = (field: keyof Session, whenEmpty = '') => {
    const value = session?.[field] || whenEmpty
    if (value !== '') filled[field] = value
  }
  fill('url', config.webApiEndpoint)
  fill('container', config.container)
  fill('path')
  fill('user', config.username)
  fill('password', config.password)
  fill('token', config.sessionKey)
  fill('id')
  return filled
}

/** The session without its password and token: what the engine, the log and the history may see. */
export function withoutSecrets(session: Session): Session {
  const { password: _password, token: _token, ...rest } = session
  return rest
}
