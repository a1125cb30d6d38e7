// docs/errors.md is equal to the table of engine/errors.ts and the statuses of server/wire/errors.ts. UPDATE_DOCS=1 writes it.
import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { status } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { errorCodes } from '../dist/engine/errors.js'
import { wireForms } from '../dist/server/wire/errors.js'

const path = resolve(import.meta.dirname, '../docs/errors.md')

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(titles), `|${'---|'.repeat(titles.length)}`, ...rows.map(line)].join('\n')
}

function expectedText(): string {
  const kinds = Object.entries(wireForms).map(([kind, { grpc, http }]) => [kind, status[grpc], String(http)])
  const codes = Object.entries(errorCodes).map(([code, { kind, fix }]) => [`\`${code}\``, kind, fix])
  return `# Errors

What a caller can act on is a \`FramesError\`: a \`code\` for programs, a \`kind\`, and a \`message\` that begins with what was
wrong and ends with how to go on. The engine throws it; the server answers with the kind's status, the message, and the code
as \`framesd-error\` (gRPC: trailing metadata, HTTP: a header); the TypeScript client throws the same error again. A read
over HTTP has begun its answer when it fails, and ends with a frame that holds the text alone; the code follows as a trailer.

Anything else is a defect of framesd: it is logged with the number of the request, and answered as "internal error" with that
number.

## Codes

${table(['code', 'kind', 'what to do'], codes)}

## Kinds and statuses

HTTP statuses hold where the published protocol does not fix another: create, delete and exec answer every failure of theirs
with 500, a write with 400 (a bad request, a bad save mode) or 500.

${table(['kind', 'gRPC status', 'HTTP status'], kinds)}

This page is written by \`UPDATE_DOCS=1 npx vitest run test/errors-doc.test.ts\`.
`
}

test('docs/errors.md tells every code, kind and status', () => {
  if (process.env['UPDATE_DOCS'] === '1') writeFileSync(path, expectedText())
  expect(readFileSync(path, 'utf8')).toBe(expectedText())
})
