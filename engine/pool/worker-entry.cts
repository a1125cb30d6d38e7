// What Piscina loads in a worker thread: CommonJS, because a thread that is ended while Node.js 20 requires an ES module
// can abort the whole process (ModuleWrap, IsGraphAsync; seen in 3 of 7000 threads). All else is in worker.ts, of which
// the build makes one file with all that it imports.

const bundle = '../../threads/worker.js'

/** Never settles when the module fails: the thread must end of it before Piscina counts it as ready. */
const worker = (import(bundle) as Promise<typeof import('./worker.js')>).catch((error: unknown) => {
  setImmediate(() => {
    throw error
  })
  return new Promise<never>(() => {})
})

export = {
  __esModule: true,
  default: worker.then((module) => module.standBy),
  standBy: worker.then((module) => module.standBy),
  closeReaders: worker.then((module) => module.closeReaders),
}
