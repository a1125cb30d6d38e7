// What the pages say about the tree is true: links lead somewhere, files that are named exist, the list of decisions is whole.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const notOurs = new Set(['node_modules', 'dist', '.git', 'framesd-data'])

/** All files below a folder of the tree, as paths from the root. */
function filesBelow(folder: string): string[] {
  return readdirSync(resolve(root, folder), { withFileTypes: true }).flatMap((entry) => {
    if (notOurs.has(entry.name)) return []
    const path = join(folder, entry.name)
    return entry.isDirectory() ? filesBelow(path) : [path]
  })
}
const files = filesBelow('')
const pages = files.filter((path) => path.endsWith('.md') && !path.startsWith('bench/results/'))

/** The anchors that the headings of a page have. */
function anchors(path: string): Set<string> {
  const headings = readFileSync(resolve(root, path), 'utf8').matchAll(/^#+ (.*)$/gm)
  const anchor = (text: string) =>
    text
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-')
  return new Set([...headings].map(([, text]) => anchor(text ?? '')))
}

test('every link of a page leads to a file and a heading that exist', () => {
  const broken: string[] = []
  for (const page of pages) {
    for (const [, target] of readFileSync(resolve(root, page), 'utf8').matchAll(/\]\(([^)\s]+)\)/g)) {
      if (target === undefined || /^[a-z]+:/.test(target)) continue
      const [path, anchor] = target.split('#')
      const place = path === '' ? resolve(root, page) : resolve(root, dirname(page), path ?? '')
      if (!existsSync(place)) broken.push(`${page}: ${target}`)
      else if (anchor !== undefined && !anchors(place).has(anchor)) broken.push(`${page}: ${target}`)
    }
  }
  expect(broken).toEqual([])
})

test('every source file that a page names exists', () => {
  const missing: string[] = []
  for (const page of pages) {
    // What changed once, and what was decided then, may name files that are gone.
    if (page === 'CHANGELOG.md') continue
    for (const [, name] of readFileSync(resolve(root, page), 'utf8').matchAll(
      /(?<![*\w./-])([\w./-]*\w\.(?:ts|mjs|proto|py|sh))\b/g,
    )) {
      if (name === undefined || name.includes('NAME') || name.startsWith('.')) continue
      const known =
        files.some((path) => path === name || path.endsWith(`/${name}`)) ||
        existsSync(resolve(root, dirname(page), name))
      if (!known) missing.push(`${page}: ${name}`)
    }
  }
  expect(missing).toEqual([])
})

function decisionList(): string {
  const folder = resolve(root, 'docs/decisions')
  const rows = readdirSync(folder)
    .filter((name) => /^\d{4}-/.test(name))
    .sort()
    .map((name) => {
      const text = readFileSync(resolve(folder, name), 'utf8')
      const title = text.match(new RegExp(`^# ${name.slice(0, 4)} (.+)$`, 'm'))?.[1]
      if (title === undefined) throw new Error(`the heading of ${name} does not begin with its number`)
      const state = text.match(/^(Superseded[^:\n]*):/m)?.[1] ?? 'Holds'
      return `| [${name.slice(0, 4)}](${name}) | ${title} | ${state} |`
    })
  return `# Decisions

Why it is built as it is: a page each, with what forced it, what we do, what follows from that, and what would change our mind.
Numbers are never used twice; gaps are ideas that were given a number and came to nothing. A decision that no longer holds says
so in a line at its top ("Superseded by …: why") and stays, because its reasons do.

| number | decision | state |
|---|---|---|
${rows.join('\n')}

This list is written by \`UPDATE_DOCS=1 npx vitest run test/docs.test.ts\`.
`
}

test('the list of decisions names each with its title and state', () => {
  const path = resolve(root, 'docs/decisions/README.md')
  if (process.env['UPDATE_DOCS'] === '1') writeFileSync(path, decisionList())
  expect(readFileSync(path, 'utf8')).toBe(decisionList())
})
