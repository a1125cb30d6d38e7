// What the demo prints: colours on a terminal only, tables whose columns line up, a progress bar that leaves no traces in
// a file.
import type { WriteStream } from 'node:tty'

export type Paint = (text: string) => string

export interface TableColumn {
  readonly title: string
  readonly cells: readonly string[]
  readonly align?: 'left' | 'right'
  readonly paint?: Paint
}

export class Terminal {
  readonly isInteractive: boolean
  /** Columns of text; wide enough for what the demo prints, no wider than is pleasant to read. */
  readonly width: number
  readonly #out: WriteStream
  readonly #hasColours: boolean

  constructor(out: WriteStream) {
    this.#out = out
    this.isInteractive = out.isTTY === true
    this.width = Math.min(100, Math.max(60, out.columns ?? 100))
    this.#hasColours = this.isInteractive && (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb'
  }

  readonly bold: Paint = (text) => this.#paint(1, text)
  readonly dim: Paint = (text) => this.#paint(2, text)
  readonly red: Paint = (text) => this.#paint(31, text)
  readonly green: Paint = (text) => this.#paint(32, text)
  readonly yellow: Paint = (text) => this.#paint(33, text)
  readonly blue: Paint = (text) => this.#paint(34, text)
  readonly cyan: Paint = (text) => this.#paint(36, text)

  #paint(code: number, text: string): string {
    return this.#hasColours ? `\x1b[${code}m${text}\x1b[0m` : text
  }

  line(text = ''): void {
    this.#out.write(`${text}\n`)
  }

  lines(texts: readonly string[]): void {
    for (const text of texts) this.line(`  ${text}`)
  }

  heading(title: string, detail = ''): void {
    this.line()
    this.line(this.bold(title) + (detail === '' ? '' : `  ${this.dim(detail)}`))
  }

  table(columns: readonly TableColumn[]): void {
    const widths = columns.map(({ title, cells }) => Math.max(...[title, ...cells].map((text) => text.length)))
    const row = (texts: readonly string[], paintOf: (column: TableColumn) => Paint) =>
      texts
        .map((text, i) => {
          const column = columns[i]
          const padded = column.align === 'left' ? text.padEnd(widths[i]) : text.padStart(widths[i])
          return paintOf(column)(padded)
        })
        .join('  ')
        .trimEnd()
    this.lines([
      row(
        columns.map(({ title }) => title),
        () => this.bold,
      ),
      this.dim(widths.map((width) => '─'.repeat(width)).join('──')),
    ])
    const rowCount = Math.max(...columns.map(({ cells }) => cells.length))
    for (let i = 0; i < rowCount; i++) {
      const cells = columns.map((column) => column.cells[i] ?? '')
      this.lines([row(cells, ({ paint }) => paint ?? ((text) => text))])
    }
  }

  /** Shows how far something is, on one line that is written over; nothing where that cannot be seen. */
  progress(title: string, doneCount: number, totalCount: number): void {
    if (!this.isInteractive) return
    const width = 30
    const filled = Math.round((width * doneCount) / Math.max(1, totalCount))
    const bar = this.green('█'.repeat(filled)) + this.dim('░'.repeat(width - filled))
    const counts = `${thousands(doneCount)} of ${thousands(totalCount)} rows`
    this.#out.write(`\r\x1b[2K  ${title} ${bar} ${counts}`)
  }

  endProgress(): void {
    if (this.isInteractive) this.#out.write('\r\x1b[2K')
  }
}

/** 1234567 as "1,234,567", whatever the machine's language. */
export function thousands(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ',')
}

export function milliseconds(durationMs: number): string {
  if (durationMs >= 1000) return `${(durationMs / 1000).toFixed(1)} s`
  return `${durationMs.toFixed(durationMs < 10 ? 1 : 0)} ms`
}
