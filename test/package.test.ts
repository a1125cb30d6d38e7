// What is published: the pages that come along link to nothing that stays behind.
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const { files }: { files: string[] } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

test('the links of the published README lead to files that are published', () => {
  const text = readFileSync(join(root, 'README.md'), 'utf8')
  const links = [...text.matchAll(/\]\(([^)#\s]+)/g)]
    .map(([, link]) => link!)
    .filter((link) => !link.startsWith('http'))
  expect(links.length).toBeGreaterThan(5)
  expect(links.filter((link) => !files.some((file) => link === file || link.startsWith(`${file}/`)))).toEqual([])
})
