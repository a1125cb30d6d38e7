// The processes a bench starts: the server, and the client that loads over gRPC.
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { LoadOrder, LoadReply } from './load-grpc.js'

type Child = ChildProcessByStdio<Writable, Readable, null>

/** preload: a module that is loaded before it. */
function start(module: string, args: readonly string[], preload?: string): Child {
  const path = fileURLToPath(new URL(module, import.meta.url))
  const options = preload === undefined ? [] : ['--import', new URL(preload, import.meta.url).href]
  const child = spawn(process.execPath, [...process.execArgv, ...options, path, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  // A bench that fails leaves nothing behind.
  const stop = () => child.kill('SIGKILL')
  process.once('exit', stop)
  child.once('exit', () => process.off('exit', stop))
  return child
}

/** The next line of a child; an error when it ends instead. */
function lineReader(child: Child, name: string): { lines: Interface; next: () => Promise<string> } {
  const lines = createInterface({ input: child.stdout })
  const iterator = lines[Symbol.asyncIterator]()
  return {
    lines,
    async next() {
      const { value, done } = await iterator.next()
      if (done === true) throw new Error(`the ${name} has ended (${child.exitCode ?? child.signalCode})`)
      return value
    },
  }
}

async function ended(child: Child): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
}

export interface ServerProcess {
  readonly pid: number
  /** host:port of its gRPC. */
  readonly address: string
  stop(): Promise<void>
}

/** Starts the server as a user would, over a data folder of its own. */
export async function startServerProcess(dataDir: string, options: readonly string[] = []): Promise<ServerProcess> {
  const { child, lines, address, pid, stop } = await startServer(dataDir, options)
  // Its log is read and let go.
  lines.close()
  child.stdout.resume()
  return { pid, address, stop }
}

async function startServer(dataDir: string, options: readonly string[], preload?: string) {
  const free = ['--grpc-addr', '127.0.0.1:0', '--http-addr', '127.0.0.1:0']
  const child = start('../server/main.js', ['--data-dir', dataDir, ...free, ...options], preload)
  const { lines, next } = lineReader(child, 'server')
  for (;;) {
    const address = /grpc=(?:[a-z]+:\/\/)?(\S+)/.exec(await next())?.[1]
    if (address === undefined || child.pid === undefined) continue
    const stop = async (): Promise<void> => {
      child.kill('SIGTERM')
      await ended(child)
    }
    return { child, lines, next, address, pid: child.pid, stop }
  }
}

/** A server whose calls leave as many entries in the history as it is told to. */
export interface SwitchedServerProcess extends ServerProcess {
  /** Resolves when what calls have left so far is stored. */
  setEntryCount(count: number): Promise<void>
}

export async function startSwitchedServerProcess(dataDir: string): Promise<SwitchedServerProcess> {
  const { child, next, address, pid, stop } = await startServer(dataDir, [], './history-switch.js')
  return {
    pid,
    address,
    stop,
    async setEntryCount(count) {
      child.stdin.write(`${count}\n`)
      while (!(await next()).startsWith('entries set'));
    },
  }
}

/** Starts the server of bench/echo.ts. */
export async function startEchoProcess(): Promise<ServerProcess> {
  const child = start('./echo-server.js', [])
  const { next } = lineReader(child, 'echo server')
  const address = (await next()).split('=')[1]
  if (child.pid === undefined) throw new Error('the echo server has no process')
  return {
    pid: child.pid,
    address,
    async stop() {
      child.kill('SIGTERM')
      await ended(child)
    },
  }
}

export interface LoaderProcess {
  load(order: LoadOrder): Promise<LoadReply>
  stop(): Promise<void>
}

/** Starts the client process; resolves when its workload is drawn. */
export async function startLoaderProcess(address: string, hostCount: number, hours: number): Promise<LoaderProcess> {
  const child = start('./load-grpc.js', [address, String(hostCount), String(hours)])
  const { next } = lineReader(child, 'client process')
  if ((await next()) !== 'ready') throw new Error('the client process said something else than ready')
  return {
    async load(order) {
      child.stdin.write(`${JSON.stringify(order)}\n`)
      return JSON.parse(await next()) as LoadReply
    },
    async stop() {
      child.stdin.end()
      await ended(child)
    },
  }
}

export interface MixProcess {
  readonly pid: number
  /** Runs the mix so often, each call with so many entries in the history; returns the time until they are stored, in ms. */
  turn(entryCount: number, mixCount: number): Promise<number>
  stop(): Promise<void>
}

/** Starts a process with an engine of its own that runs the mix of the history's bench; resolves when its items are written. */
export async function startMixProcess(dataDir: string, isSmall: boolean): Promise<MixProcess> {
  const child = start('./history-embedded.js', [dataDir, isSmall ? 'small' : 'large'])
  const { next } = lineReader(child, 'engine process')
  if ((await next()) !== 'ready' || child.pid === undefined) throw new Error('the engine process said something else')
  return {
    pid: child.pid,
    async turn(entryCount, mixCount) {
      child.stdin.write(`${entryCount} ${mixCount}\n`)
      return Number(await next())
    },
    async stop() {
      child.stdin.end()
      await ended(child)
    },
  }
}
