/**
 * `npm run build`: the daemons as they ship, in dist/.
 *
 *     namegate.js   starts the program: turns the compile cache on, loads namegate-main.js
 *     worker.js     the same for the data-plane thread and worker-main.js
 *     chunk-*.js    what they share, and what is loaded only when it is needed
 *     cache/        V8's compiled code, made here by running the bundle
 *
 * Why: main and worker from the sources cost 91 MiB and 250 ms until the worker runs; bundled,
 * 69 MiB and 150 ms. A thread does not inherit its process's compile cache, so each entry turns it
 * on for itself. The cache is bound to the exact Node; another one ignores it and compiles.
 *
 * All files lie in one folder, so that `new URL('./worker.js', import.meta.url)` finds the worker
 * from any of them. koffi stays outside, because it loads a native file out of its own package at
 * run time: whoever ships dist/ ships node_modules/koffi and node_modules/@koromix beside it.
 *
 * namegate.js is written last: `./namegate` takes the bundle only if it is newer than the sources.
 */
import { build } from 'esbuild'
import { spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { ROOT } from './files.ts'

/** Entry's name in dist → its source. */
export type Entries = Readonly<Record<string, string>>

const ENTRIES: Entries = {
  worker: join(ROOT, 'src/worker/main.ts'),
  namegate: join(ROOT, 'bin/namegate.ts'), // last: its stub tells that the bundle is whole
}

/** CommonJS packages in an ESM bundle ask for `require`. */
const REQUIRE = `import { createRequire as requireFor } from 'node:module'; const require = requireFor(import.meta.url);`

/** A port of the loopback interface that nothing else is likely to hold while we try the bundle. */
const TRIAL_PORT = 53_536
/** How long the trial runs: long enough for the worker to have been everywhere once. */
const TRIAL_MS = 1_500

/** @param dist  made anew */
export async function bundle(entries: Entries, dist: string): Promise<void> {
  rmSync(dist, { recursive: true, force: true })
  mkdirSync(dist, { recursive: true })
  const entryPoints = Object.entries(entries).map(([name, path]) => ({
    in: path,
    out: `${name}-main`,
  }))
  await build({
    entryPoints,
    outdir: dist,
    chunkNames: 'chunk-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node26',
    external: ['koffi'],
    banner: { js: REQUIRE },
    minifySyntax: true,
    sourcemap: 'linked',
    sourcesContent: false,
    legalComments: 'linked',
    logLevel: 'warning',
  })
  for (const name of Object.keys(entries)) {
    writeFileSync(
      join(dist, `${name}.js`),
      `import { enableCompileCache } from 'node:module'\n` +
        "enableCompileCache({ directory: import.meta.dirname + '/cache', portable: true })\n" +
        `await import('./${name}-main.js')\n`,
    )
  }
}

/**
 * Loads every file of the bundle in a thread of its own, so that each has an entry in the cache.
 * What the files say to being loaded alone does not matter: they are compiled by then.
 */
export async function compileAll(dist: string): Promise<void> {
  for (const file of readdirSync(dist).filter((name) => name.endsWith('.js'))) {
    const thread = new Worker(
      `import { enableCompileCache, flushCompileCache } from 'node:module'
       enableCompileCache({ directory: ${JSON.stringify(join(dist, 'cache'))}, portable: true })
       try { await import(${JSON.stringify(join(dist, file))}) } finally { flushCompileCache() }`,
      { eval: true, stdout: true, stderr: true, env: environment() },
    )
    thread.on('error', () => {})
    const ended = new Promise((resolve) => thread.once('exit', resolve))
    const late = setTimeout(() => void thread.terminate(), 2_000)
    await ended
    clearTimeout(late)
  }
}

/**
 * Runs the proxy of the bundle for a moment, without privileges, and ends it in order: the cache
 * then also holds the functions that a running daemon compiles.
 */
async function trialRun(dist: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'namegate-build-'))
  const config = join(folder, 'namegate.yaml')
  writeFileSync(
    config,
    `state: ${folder}/state\nrun: ${folder}/run\n` +
      `listen: {addresses: [127.0.0.1], port: ${TRIAL_PORT}}\n` +
      'upstreams: [{zones: ["."], servers: [127.0.0.1]}]\n',
  )
  const child = spawn(process.execPath, [join(dist, 'namegate.js'), 'proxy', '-c', config], {
    stdio: 'ignore',
    env: environment(),
  })
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
  setTimeout(() => child.kill('SIGTERM'), TRIAL_MS)
  const late = setTimeout(() => child.kill('SIGKILL'), TRIAL_MS + 5_000)
  const code = await ended
  clearTimeout(late)
  rmSync(folder, { recursive: true, force: true })
  if (code !== 0) print(`the trial run ended with ${code}: the cache holds less than it could`)
}

/** Ours without a compile cache of somebody else's choosing, which would win over dist/cache. */
function environment(): NodeJS.ProcessEnv {
  const { NODE_COMPILE_CACHE: _, ...rest } = process.env
  return rest
}

async function main(): Promise<void> {
  const missing = Object.values(ENTRIES).filter((path) => !existsSync(path))
  if (missing.length > 0) {
    print(
      `nothing to build: there is no ${missing.map((path) => path.slice(ROOT.length + 1)).join(', no ')}`,
    )
    process.exitCode = 1
    return
  }
  const begunMs = performance.now()
  const dist = join(ROOT, 'dist')
  try {
    await bundle(ENTRIES, dist)
  } catch {
    process.exitCode = 1 // esbuild has said what is wrong, with its place
    return
  }
  await trialRun(dist)
  await compileAll(dist)
  for (const name of readdirSync(dist).filter((each) => each.endsWith('.js'))) {
    print(`dist/${name}  ${(statSync(join(dist, name)).size / 1024).toFixed(1)} KiB`)
  }
  print(`built in ${((performance.now() - begunMs) / 1000).toFixed(1)} s`)
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

if (import.meta.main) await main()
