import { expect, test } from 'vitest'
import { FramesError, fromErrorMessage, toErrorMessage } from '../dist/engine/errors.js'

test('an error says what was wrong first and how to fix it last', () => {
  const error = new FramesError('TABLE_NOT_FOUND', "No TSDB schema file found at 'users/cpu'")
  expect(error.message).toBe(
    "No TSDB schema file found at 'users/cpu'. Check its name and container, or make it: with create, or in kv and csv by writing to it.",
  )
  expect(error.kind).toBe('not-found')
})

test('an error is the same after it crossed a thread boundary', () => {
  const error = new FramesError('DISK_FULL', 'no space').prefixed("can't add frame")
  const back = fromErrorMessage(structuredClone(toErrorMessage(error)))
  expect(back).toBeInstanceOf(FramesError)
  expect([back.code, back.message]).toEqual([error.code, error.message])
})
