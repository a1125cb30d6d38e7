// Power cuts, simulated: node test/power-cut/run.mjs [--states 200] [--seed 1] [--seconds 15]
//
// A process writes while record.c notes each change of its files. From the records come states in which a disk may be
// after the power went: what a sync has covered is there; of what came after, nothing, all, a beginning, or any 4 KiB
// pages or 512-byte sectors, in any order; names of files are as before or as after (the model of Pillai et al., "All
// File Systems Are Not Created Equal", OSDI 2014, section 3). Each state is opened: all that was acknowledged until then
// must be there, deleted rows gone, replaced tables whole, and writes taken. Needs Linux with glibc and a C compiler.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values: options } = parseArgs({
  options: {
    states: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '15' },
  },
})
const here = (name) => fileURLToPath(new URL(name, import.meta.url))
const kinds = { written: 1, truncated: 2, synced: 3, renamed: 4, removed: 5 }
const headByteLength = 48
const pageByteLength = 4096
const sectorByteLength = 512

const work = mkdtempSync(join(tmpdir(), 'framesd-power-cut-'))

async function run() {
  const random = randomOf(Number(options.seed))
  const records = recordWrites()
  const begin = records.findIndex(({ note }) => note?.tables)
  if (begin < 0) throw new Error('the writer made no tables; give it more --seconds')
  const points = new Set()
  const pointCount = Math.min(Number(options.states), records.length - begin - 1)
  while (points.size < pointCount) points.add(begin + 1 + Math.floor(random() * (records.length - begin - 1)))

  const disk = new Disk()
  const expected = new Expected()
  const checker = new Checker()
  let badCount = 0
  for (const [index, record] of records.entries()) {
    if (points.has(index)) {
      const folder = join(work, 'state')
      const how = disk.writeState(folder, random)
      for (const text of await checker.check(folder, expected)) {
        console.log(`state ${index}, ${how}: ${text}`)
        badCount++
      }
    }
    if (record.note) expected.take(record.note)
    else disk.apply(record, index)
  }
  checker.end()
  const syncCount = records.filter(({ kind }) => kind === kinds.synced).length
  console.log(
    `${records.length} changes, ${syncCount} syncs; ${pointCount} states (seed ${options.seed}): ${badCount} faults`,
  )
  return badCount === 0
}

/** Lets the writer run and returns what it changed; of its file of notes, the notes. */
function recordWrites() {
  const library = join(work, 'record.so')
  execFileSync('cc', ['-O1', '-shared', '-fPIC', '-o', library, here('record.c'), '-ldl', '-lpthread'])
  const folder = join(work, 'written')
  mkdirSync(folder)
  const notes = join(folder, 'notes')
  const { status, signal, stderr } = spawnSync(
    process.execPath,
    [here('writer.mjs'), join(folder, 'data'), notes, String(Number(options.seconds) * 1000)],
    { env: { ...process.env, LD_PRELOAD: library, RECORD_FOLDER: folder, RECORD_TO: join(work, 'records') } },
  )
  if (status !== 0) throw new Error(`the writer ended with ${signal ?? status}: ${stderr}`)

  const bytes = readFileSync(join(work, 'records'))
  const records = []
  for (let at = 0; at < bytes.length; ) {
    const kind = bytes.readUInt32LE(at)
    const isDurable = bytes.readUInt32LE(at + 4) === 1
    const [inode, offset, byteLength, coveredCount, pathByteLength] = [8, 16, 24, 32, 40].map((field) =>
      Number(bytes.readBigUInt64LE(at + field)),
    )
    const pathAt = at + headByteLength
    const path = bytes.toString('utf8', pathAt, pathAt + pathByteLength)
    at = pathAt + pathByteLength + (kind === kinds.written ? byteLength : 0)
    const written = bytes.subarray(at - byteLength, at)
    const note = path === notes ? JSON.parse(written) : null
    records.push({ kind, isDurable, inode, offset, bytes: written, coveredCount, path, note })
  }
  return records
}

/** What a disk holds for sure, and what it may hold as well. */
class Disk {
  /** inode → Buffer */
  #files = new Map()
  /** inode → changes that no sync has covered yet, oldest first */
  #changes = new Map()
  /** path → inode, of names that are there for sure */
  #names = new Map()
  /** Renames and removals since the folder was synced: functions of such a map. */
  #nameChanges = []
  #inodeOfPath = new Map()

  apply(record, index) {
    const { kind, inode, path } = record
    if (kind === kinds.renamed) {
      const [from, to] = path.split('\n')
      const moved = this.#inodeOfPath.get(from)
      this.#nameChanges.push((names) => {
        names.delete(from)
        if (moved !== undefined) names.set(to, moved)
      })
    } else if (kind === kinds.removed) {
      this.#nameChanges.push((names) => names.delete(path))
    } else if (kind === kinds.synced) {
      this.#sync(record)
    } else {
      // A name exists from the first write on: a file that no rename announces is never looked for.
      this.#inodeOfPath.set(path, inode)
      if (!this.#names.has(path)) this.#names.set(path, inode)
      if (record.isDurable) this.#files.set(inode, changed(this.#file(inode), record))
      else this.#changesOf(inode).push({ ...record, index })
    }
  }

  #sync({ inode, coveredCount }) {
    if (!this.#changes.has(inode) && !this.#files.has(inode)) {
      for (const change of this.#nameChanges) change(this.#names) // it was the folder
      this.#nameChanges = []
      return
    }
    const changes = this.#changesOf(inode)
    const covered = changes.filter(({ index }) => index < coveredCount)
    for (const change of covered) this.#files.set(inode, changed(this.#file(inode), change))
    this.#changes.set(inode, changes.slice(covered.length))
  }

  #file(inode) {
    return this.#files.get(inode) ?? Buffer.alloc(0)
  }

  #changesOf(inode) {
    if (!this.#changes.has(inode)) this.#changes.set(inode, [])
    return this.#changes.get(inode)
  }

  /** Writes one of the possible states to a folder; returns which kind it is. */
  writeState(folder, random) {
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder)
    const how = ['nothing', 'everything', 'a beginning', 'some pages', 'some sectors'][Math.floor(random() * 5)]
    const names = new Map(this.#names)
    const nameChangeCount = Math.floor(random() * (this.#nameChanges.length + 1))
    for (const change of this.#nameChanges.slice(0, nameChangeCount)) change(names)
    for (const [path, inode] of names) {
      if (!path.endsWith('.mdb')) continue
      const changes = this.#changesOf(inode)
      const count = { nothing: 0, 'a beginning': Math.floor(random() * (changes.length + 1)) }[how] ?? changes.length
      const partByteLength = { 'some pages': pageByteLength, 'some sectors': sectorByteLength }[how] ?? 0
      let file = Buffer.from(this.#file(inode))
      for (const change of changes.slice(0, count)) {
        if (partByteLength === 0 || change.kind === kinds.truncated) file = changed(file, change)
        else for (const part of partsOf(change, partByteLength)) if (random() < 0.5) file = changed(file, part)
      }
      writeFileSync(join(folder, basename(path)), file)
    }
    return `${how} of what was not synced`
  }
}

/** A file after a change: the same memory where that is long enough. */
function changed(file, { kind, offset, bytes }) {
  const end = kind === kinds.truncated ? offset : Math.max(file.length, offset + bytes.length)
  let after = file
  if (end < file.length) after = file.subarray(0, end)
  if (end > file.length) {
    after = Buffer.alloc(end)
    file.copy(after)
  }
  if (kind === kinds.written) bytes.copy(after, offset)
  return after
}

/** A write as writes of whole pages or sectors of the disk. */
function partsOf({ kind, offset, bytes }, partByteLength) {
  const parts = []
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + partByteLength - ((offset + at) % partByteLength))
    parts.push({ kind, offset: offset + at, bytes: bytes.subarray(at, end) })
    at = end
  }
  return parts
}

/** What the writer has been told, and what it had begun. */
class Expected {
  rows = {}
  counters = {}
  records = {}
  version = { acknowledged: 0, begun: 0 }
  pruned = { acknowledged: 0, deletedBelow: 0 }

  take(note) {
    if (note.rows) this.rows[note.rows] = note.acknowledged
    else if (note.counter) Object.assign((this.counters[note.counter] ??= { acknowledged: 0 }), note)
    else if (note.records) this.records[note.records] = note.acknowledged
    else if (note.version) this.version[note.begun ? 'begun' : 'acknowledged'] = note.version
    else if (note.pruned) Object.assign(this.pruned, note)
  }
}

/** One process that opens the states: LMDB ends a process that reads a file damaged enough. */
class Checker {
  #start() {
    this.child = spawn(process.execPath, [here('check.mjs')], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.child.stdin.on('error', () => {}) // it has died, which the missing answer says
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]()
  }

  async check(folder, expected) {
    if (!this.child) this.#start()
    this.child.stdin.write(`${JSON.stringify({ folder, expected })}\n`)
    const { value, done } = await this.lines.next()
    if (!done) return JSON.parse(value)
    this.child = null
    return ['the process that opened it died']
  }

  end() {
    this.child?.stdin.end()
  }
}

/** Mulberry32. */
function randomOf(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

try {
  process.exitCode = (await run()) ? 0 : 1
} finally {
  rmSync(work, { recursive: true, force: true })
}
