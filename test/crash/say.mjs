// Tells the test what a process that will be killed has done: at once, since what it has said must not wait in a buffer.
import { writeSync } from 'node:fs'

const pause = new Int32Array(new SharedArrayBuffer(4))

export function say(line) {
  let bytes = Buffer.from(`${line}\n`)
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(1, bytes))
    } catch (error) {
      // The pipe is full: who reads it is behind.
      if (error.code !== 'EAGAIN') throw error
      Atomics.wait(pause, 0, 0, 1)
    }
  }
}
