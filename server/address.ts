// Listen addresses as flags give them: `host:port`, `[v6]:port`, and `:port` for all interfaces. Port 0: any free one.
import type { AddressInfo, Server } from 'node:net'

export interface ListenAddress {
  /** Absent: all interfaces. */
  readonly host?: string
  readonly port: number
}

export class AddressError extends Error {
  override readonly name = 'AddressError'
}

export function parseAddress(text: string): ListenAddress {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):([0-9]{1,5})$/.exec(text)
  if (match === null) throw new AddressError(`address ${text}: expected host:port or :port`)
  const port = Number(match[3])
  if (port > 65_535) throw new AddressError(`address ${text}: port ${port} is above 65535`)
  const host = match[1] || match[2]
  return host === undefined || host === '' ? { port } : { host, port }
}

/** Starts to listen; resolves with the port, rejects when the address cannot be had. */
export function listenOn(server: Server, address: ListenAddress): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port: address.port, ...(address.host === undefined ? {} : { host: address.host }) }, () => {
      server.removeListener('error', reject)
      resolve((server.address() as AddressInfo).port)
    })
  })
}

/** The address as start-up prints it: as given, with the port that was really taken. */
export function shownAddress(address: ListenAddress, port: number): string {
  const host = address.host ?? ''
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
