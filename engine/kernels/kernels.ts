// Loads kernels.wasm over a shared memory. Each thread has its own instance; all of them see the same bytes.
import { readFileSync } from 'node:fs'
import { MiB } from '../limits.js'
import type { KernelExports } from './exports.js'

/**
 * One instance of the kernels, and views of the whole memory. The memory is never grown, so a view never goes stale.
 * A kernel takes byte offsets into this memory as pointers; an index into `u32` is a byte offset / 4, and so on.
 */
export interface Kernels {
  readonly call: KernelExports
  readonly memory: WebAssembly.Memory
  readonly u8: Uint8Array
  readonly u32: Uint32Array
  readonly i32: Int32Array
  readonly f64: Float64Array
  readonly i64: BigInt64Array
  readonly view: DataView
}

/** More than the kernels' tables take; untouched pages cost nothing. */
const staticDataByteLengthMax = 16 * MiB

let compiled: WebAssembly.Module | undefined

/** The compiled module: read once a thread, at start. */
export function compileKernels(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(readFileSync(new URL('../../kernels.wasm', import.meta.url)))
  return compiled
}

/** An instance over a memory. A worker is given the module that the main thread compiled. */
export function loadKernels(memory: WebAssembly.Memory, module = compileKernels()): Kernels {
  const instance = new WebAssembly.Instance(module, { env: { memory } })
  const { buffer } = memory
  return {
    call: instance.exports as unknown as KernelExports,
    memory,
    u8: new Uint8Array(buffer),
    u32: new Uint32Array(buffer),
    i32: new Int32Array(buffer),
    f64: new Float64Array(buffer),
    i64: new BigInt64Array(buffer),
    view: new DataView(buffer),
  }
}

/** A memory of its own for a client, a test or a bench; the engine's memory is made in engine/memory. */
export function createMemory(byteLength: number): WebAssembly.Memory {
  const pages = Math.ceil(byteLength / 65536)
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
}

/** Where the kernels' static data ends: the shared memory hands out nothing below. Found with an instance on its own. */
export function kernelHeapBase(): number {
  return loadKernels(createMemory(staticDataByteLengthMax)).call.heapBase()
}
