import { test } from 'node:test'
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../test/support/process.ts'
import { bundle, compileAll } from './build.ts'
import { ROOT } from './files.ts'

/** A program of the same shape as ours: main, a thread found by the rule, a CommonJS package, koffi. */
const MAIN = `
  import { Worker } from 'node:worker_threads'
  import koffi from 'koffi'
  import pino from 'pino'
  import { shared } from './shared.ts'
  const file = import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js'
  pino({ level: 'silent' }).info('nothing')
  new Worker(new URL(file, import.meta.url)).on('message', (said) => {
    process.stdout.write(shared(String(said)) + ' ' + typeof koffi.load + '\\n')
  })
`
const WORKER = `
  import { parentPort } from 'node:worker_threads'
  import { shared } from './shared.ts'
  parentPort?.postMessage(shared('hello'))
`
const SHARED = 'export function shared(text: string): string { return `<${text}>` }\n'

test('the bundle runs as the sources do, and both threads take their code from the cache', async () => {
  // Below the checkout, because packages are found from where a file lies.
  const folder = mkdtempSync(join(ROOT, 'node_modules', '.build-test-'))
  try {
    for (const [name, text] of Object.entries({ main: MAIN, worker: WORKER, shared: SHARED })) {
      writeFileSync(join(folder, `${name}.ts`), text)
    }
    const dist = join(folder, 'dist')
    await bundle({ worker: join(folder, 'worker.ts'), main: join(folder, 'main.ts') }, dist)
    await compileAll(dist)
    assert(readdirSync(join(dist, 'cache')).length > 0)

    const ran = await run(process.execPath, [join(dist, 'main.js')], {
      cwd: tmpdir(),
      env: { NODE_DEBUG_NATIVE: 'COMPILE_CACHE', NODE_COMPILE_CACHE: undefined },
    })
    assert.match(ran.stdout + ran.stderr, /^<<hello>> function$/m)
    for (const file of ['main-main.js', 'worker-main.js']) {
      assert.match(ran.stderr, new RegExp(`${file} was accepted`), `${file} comes from the cache`)
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
