// What a call that must fail fails with.
import { FramesError } from '../dist/engine/errors.js'

/** The error of work that must fail; what is no FramesError is a defect, and thrown on. */
export async function failureOf(work: Promise<unknown>): Promise<FramesError> {
  try {
    await work
  } catch (error) {
    if (error instanceof FramesError) return error
    throw error
  }
  throw new Error('it should have failed')
}

export async function codeOf(work: Promise<unknown>): Promise<string> {
  return (await failureOf(work)).code
}
