// The parts of the demo that decide whether an answer is right, and how it is drawn. CI runs the whole.
import { expect, test } from 'vitest'
import { Frame, frameFromRows } from '../dist/client/index.js'
import { dayOf, hasSameRows, isNear, monthOf, nextMonth, summarize } from '../dist/server/demo/answers.js'
import { hasSameRecords } from '../dist/server/demo/records.js'
import { msPerDay, readDataSets, readQuakes } from '../dist/server/demo/data-files.js'
import { plotLines } from '../dist/server/demo/plot.js'
import { milliseconds, thousands } from '../dist/server/demo/terminal.js'

const plain = (text: string) => text

test('the files are read whole, their times as UTC', () => {
  const { weather, index, stocks } = readDataSets()
  expect([weather, index, stocks].map(({ frame }) => frame.length)).toEqual([8759, 5105, 560])
  expect(weather.frame.indices[0].stringAt(0)).toBe('2010-01-01T01:00:00Z')
  expect(stocks.frame.indices[0].stringAt(1)).toBe('2000-02-01T00:00:00Z')
  expect(index.frame.column('volume').intAt(0)).toBe(931_800_000n)
})

test('earthquakes are read in order of time, and cut by day', () => {
  const { frame, dayStarts } = readQuakes()
  expect(frame.length).toBe(1707)
  expect(frame.indices[0].stringAt(0)).toBe('2018-01-31T01:49:59.65Z')
  expect(dayStarts[0]).toBe(0)
  expect(dayStarts.at(-1)).toBe(1707)
  const times = Array.from(frame.indices[0].times(), (timeNs) => Number(timeNs / 1_000_000n))
  for (let row = 1; row < times.length; row++) expect(times[row]).toBeGreaterThanOrEqual(times[row - 1])
  const days = dayStarts.slice(0, -1).map((row) => dayOf(times[row]))
  expect(days).toEqual([...new Set(times.map(dayOf))])
  // Numbers that nobody reported stay missing.
  expect(
    frame
      .column('felt')
      .values()
      .filter((felt) => felt === null),
  ).toHaveLength(1580)
})

test('records may come in any order, but those of one network in their own', () => {
  const records = (...rows: readonly (readonly [net: string, mag: number])[]) =>
    frameFromRows(
      rows.map(([net, mag]) => ({ time: new Date(0), net, mag })),
      ['time'],
    )
  const expected = records(['us', 1], ['ci', 2], ['us', 3])
  expect(hasSameRecords(expected, [records(['ci', 2]), records(['us', 1], ['us', 3])])).toBe(true)
  expect(hasSameRecords(expected, [records(['ci', 2]), records(['us', 3], ['us', 1])])).toBe(false)
  expect(hasSameRecords(expected, [records(['ci', 2]), records(['us', 1])])).toBe(false)
  expect(hasSameRecords(expected, [records(['ci', 2]), records(['us', 1], ['us', 3], ['us', 3])])).toBe(false)
})

test('answers are compared cell by cell, in any order of frames', () => {
  const row = (second: number, value: number) => ({ time: new Date(1000 * second), value })
  const expected = frameFromRows([row(1, 0.1), row(2, 0.2), row(3, 0.3)], ['time'], { city: 'a' })
  const part = (...rows: ReturnType<typeof row>[]) => frameFromRows(rows, ['time'], { city: 'a' })
  expect(hasSameRows(expected, [part(row(3, 0.3)), part(row(1, 0.1), row(2, 0.2))])).toBe(true)
  expect(hasSameRows(expected, [part(row(3, 0.3)), part(row(1, 0.1), row(2, 0.2 + 2 ** -54))])).toBe(false)
  expect(hasSameRows(expected, [part(row(1, 0.1), row(2, 0.2))])).toBe(false)
  const elsewhere = new Frame({ columns: expected.columns, indices: expected.indices, labels: { city: 'b' } })
  expect(hasSameRows(expected, [elsewhere])).toBe(false)
})

test('summaries are those of their group', () => {
  const summaries = summarize([1, 2, 6, 5], (row) => row % 2)
  expect(summaries.get(0)).toEqual({ count: 2, min: 1, mean: 3.5, max: 6 })
  expect(isNear(3.5, 3.5 + 1e-13)).toBe(true)
  expect(isNear(3.5, 3.5 + 1e-10)).toBe(false)
  expect(isNear(Number.NaN, 1)).toBe(false)
})

test('days and months begin at midnight UTC', () => {
  const leapDay = Date.UTC(2024, 1, 29, 23, 59)
  expect(dayOf(leapDay)).toBe(Date.UTC(2024, 1, 29))
  expect(nextMonth(monthOf(leapDay)) - monthOf(leapDay)).toBe(29 * msPerDay)
  expect(nextMonth(Date.UTC(2023, 11))).toBe(Date.UTC(2024, 0))
})

test('a plot is as wide and high as it is asked to be', () => {
  const values = Array.from({ length: 300 }, (_, i) => Math.sin(i / 20) * 100)
  const options = { width: 40, height: 6, ticks: [{ at: 0, text: 'start' }], dim: plain }
  const lines = plotLines([{ values, paint: plain }], options)
  expect(lines).toHaveLength(7)
  expect(lines[0]).toMatch(/^ 100 ┤/)
  expect(lines[5]).toMatch(/^-100 ┤/)
  expect(Math.max(...lines.map((line) => line.length))).toBe(6 + 40)
  expect(plotLines([{ values: [5, Number.NaN, 5], paint: plain }], options)[0]).toMatch(/5 ┤/)
})

test('numbers are written for readers', () => {
  expect([0, 999, 1000, 1234567].map(thousands)).toEqual(['0', '999', '1,000', '1,234,567'])
  expect([0.25, 12.3, 1500].map(milliseconds)).toEqual(['0.3 ms', '12 ms', '1.5 s'])
})
