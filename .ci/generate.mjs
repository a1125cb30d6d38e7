// Writes proto/gen/ from proto/*.proto. With --check it writes nothing and fails when what is committed is not what
// would be written.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const committed = join(root, 'proto/gen')

/** Runs the generator into a folder of its own; returns file name → text. */
function generate() {
  const out = mkdtempSync(join(tmpdir(), 'framesd-proto-'))
  try {
    const bin = join(root, 'node_modules/.bin')
    const template = {
      version: 'v2',
      plugins: [{ local: 'protoc-gen-es', out, opt: ['target=ts', 'import_extension=js'] }],
    }
    execFileSync(process.execPath, [join(bin, 'buf'), 'generate', 'proto', '--template', JSON.stringify(template)], {
      cwd: root,
      stdio: 'inherit',
      env: { ...process.env, PATH: bin + delimiter + process.env.PATH },
    })
    return new Map(readdirSync(out).map((name) => [name, readFileSync(join(out, name), 'utf8')]))
  } finally {
    rmSync(out, { recursive: true })
  }
}

const files = generate()
if (process.argv.includes('--check')) {
  const names = readdirSync(committed)
  const stale = [...files].filter(([name, text]) => {
    return !names.includes(name) || readFileSync(join(committed, name), 'utf8') !== text
  })
  const extra = names.filter((name) => !files.has(name))
  const different = [...stale.map(([name]) => name), ...extra]
  if (different.length > 0) {
    console.error(`proto/gen differs from proto/*.proto in ${different.join(', ')}; run: node .ci/generate.mjs`)
    process.exit(1)
  }
} else {
  rmSync(committed, { recursive: true, force: true })
  mkdirSync(committed, { recursive: true })
  for (const [name, text] of files) writeFileSync(join(committed, name), text)
  console.log(`wrote ${[...files.keys()].join(', ')}`)
}
