// A place in the engine's one shared memory.

/** Plain numbers, so that a message to a worker can carry it. Byte offsets are what a kernel takes as a pointer. */
export interface Slice {
  readonly byteOffset: number
  readonly byteLength: number
}

export const emptySlice: Slice = { byteOffset: 0, byteLength: 0 }
