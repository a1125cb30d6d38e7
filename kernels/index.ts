// Every export of kernels.wasm, in one list. A kernel is a pure loop over (pointer, length): no state, no allocation.
export * from './aggregate'
export * from './arithmetic'
export * from './bitmap'
export * from './blend'
export * from './group'
export * from './labels'
export * from './merge-text-runs'
export * from './order'
export * from './compact-pages'
export * from './compact-texts'
export * from './compare'
export * from './compare-pages'
export * from './convert'
export * from './names'
export * from './copy'
export * from './gather'
export * from './membership'
export * from './pairs'
export * from './item-times'
export * from './items'
export * from './window'
export * from './bools'
export * from './crc'
export * from './csv-cells'
export * from './csv-index'
export * from './csv-write'
export * from './digests'
export * from './floats'
export * from './ints'
export * from './overlay'
export * from './place-near'
export * from './page-lists'
export * from './page-runs'
export * from './segments'
export * from './shards'
export * from './statistics'
export * from './steps'
export * from './strings'
export * from './times'
export * from './utf8'
export * from './wire'
export * from './wire-like'
export * from './wire-pages'
export * from './wire-repeat'

/** Called by an assertion or an out-of-bounds trap of the debug build: stop at once, the caller replaces the worker. */
export function trap(_message: usize, _file: usize, _line: u32, _column: u32): void {
  unreachable()
}

/** Where the first byte that no kernel uses stands (static data of this module ends here). */
export function heapBase(): usize {
  return __heap_base
}
