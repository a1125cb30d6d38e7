// Line plots in braille characters: each has 2 × 4 dots.
import type { Paint } from './terminal.js'

export interface PlotLine {
  /** At equal distances; NaN where there is nothing to draw. */
  readonly values: readonly number[]
  readonly paint: Paint
}

export interface PlotOptions {
  /** Characters of the drawing itself. */
  readonly width: number
  readonly height: number
  /** Texts below the drawing, at a share (0 to 1) of its width. */
  readonly ticks: readonly { readonly at: number; readonly text: string }[]
  readonly dim: Paint
}

/** The dot of each place within a braille character, left column first, from the top. */
const dots = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
] as const
const brailleBlank = 0x2800
const noPaint = -1

/** Lines of text: the drawing with a scale on its left, then the ticks. A later line covers the colour of an earlier. */
export function plotLines(lines: readonly PlotLine[], { width, height, ticks, dim }: PlotOptions): string[] {
  const present = lines.flatMap(({ values }) => values.filter((value) => !Number.isNaN(value)))
  const low = Math.min(...present)
  const high = Math.max(...present)
  const cells = new Uint8Array(width * height)
  const paints = new Int8Array(width * height).fill(noPaint)
  const dotRowCount = 4 * height
  lines.forEach((line, lineNumber) => {
    const rows = columnMeans(line.values, 2 * width).map((value) =>
      Number.isNaN(value) ? value : Math.round(((high - value) / (high - low || 1)) * (dotRowCount - 1)),
    )
    rows.forEach((row, x) => {
      if (Number.isNaN(row)) return
      // From the dot of the column before to this one, so that the line has no holes where it is steep.
      const before = x > 0 && !Number.isNaN(rows[x - 1]) ? rows[x - 1] : row
      const step = row >= before ? 1 : -1
      for (let y = before === row ? row : before + step; ; y += step) {
        const cell = Math.floor(y / 4) * width + (x >> 1)
        cells[cell] |= dots[x & 1][y & 3]
        paints[cell] = lineNumber
        if (y === row) break
      }
    })
  })

  const scale = (row: number): string => {
    if (row === 0) return high.toFixed(0)
    if (row === height - 1) return low.toFixed(0)
    return row === height >> 1 ? ((high + low) / 2).toFixed(0) : ''
  }
  const scaleWidth = Math.max(...Array.from({ length: height }, (_, row) => scale(row).length))
  const drawn = Array.from({ length: height }, (_, row) => {
    const inked = Array.from({ length: width }, (_, x) => row * width + x)
    return dim(`${scale(row).padStart(scaleWidth)} ┤`) + paintRuns(inked, cells, paints, lines)
  })
  let below = ' '.repeat(scaleWidth + 2)
  for (const { at, text } of ticks) {
    const place = scaleWidth + 2 + Math.round(at * (width - 1))
    if (place >= below.length && place + text.length <= scaleWidth + 2 + width) below = below.padEnd(place) + text
  }
  return [...drawn, dim(below)]
}

/** The characters of a row of cells; neighbours of one colour are painted together. */
function paintRuns(row: readonly number[], cells: Uint8Array, paints: Int8Array, lines: readonly PlotLine[]): string {
  let text = ''
  for (let start = 0, end = 0; start < row.length; start = end) {
    const paint = paints[row[start]]
    let run = ''
    for (; end < row.length && paints[row[end]] === paint; end++) {
      run += paint === noPaint ? ' ' : String.fromCharCode(brailleBlank + cells[row[end]])
    }
    if (paint !== noPaint) text += lines[paint].paint(run)
    else if (end < row.length) text += run
  }
  return text
}

/** The mean of the values that fall into each of `count` equal parts; the value at its start where none does. */
function columnMeans(values: readonly number[], count: number): number[] {
  return Array.from({ length: count }, (_, x) => {
    const start = Math.floor((x * values.length) / count)
    const end = Math.max(start + 1, Math.floor(((x + 1) * values.length) / count))
    const part = values.slice(start, end).filter((value) => !Number.isNaN(value))
    return part.length === 0 ? Number.NaN : part.reduce((sum, value) => sum + value, 0) / part.length
  })
}
