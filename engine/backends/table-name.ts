// Which table a request means.
import { type TableName, tablePath } from '../blocks/catalog.js'
import { FramesError } from '../errors.js'
import type { TableRequest } from '../requests.js'

/** The caller's folder in container `users`. */
const home = '$V3IO_HOME'

/**
 * The session's container, or the default one; where both are empty, the first part of the path is the container.
 * Throws INVALID_ARGUMENT when there is none then, and as tablePath.
 */
export function tableNameOf({ session, table }: TableRequest, backend: string, defaultContainer: string): TableName {
  const user = session?.user ?? ''
  const given = session?.container ?? ''
  const configured = given === '' ? defaultContainer : given
  const text = table.startsWith('/') ? table.replace(/^\/+/, '') : table
  const isHome = text === home || text.startsWith(`${home}/`)
  if (configured === home || isHome) {
    const rest = isHome ? text.slice(home.length) : text
    return { container: 'users', backend, path: tablePath(`${user}/${rest}`) }
  }
  if (configured !== '') return { container: configured, backend, path: tablePath(text) }
  const slash = text.indexOf('/')
  const path = slash < 0 ? '' : text.slice(slash + 1).replace(/^\/+|\/+$/g, '')
  if (path === '') {
    throw new FramesError(
      'INVALID_ARGUMENT',
      'Please specify a data container name via the container parameters or the path prefix e.g. bigdata/mytable',
    )
  }
  return { container: text.slice(0, slash), backend, path: tablePath(path) }
}
