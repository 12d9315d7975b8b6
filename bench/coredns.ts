/**
 * CoreDNS, built from its own module: there is no Debian package. With `go` on the machine it is
 * built once, into the user's cache folder, by one process at low priority; without, it is left out.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

const VERSION = 'v1.15.0'
const BUILD_MS = 20 * 60_000

/** Where the program is, once it is built. */
export function coreDnsProgram(): string {
  return join(folder(), 'coredns')
}

/** Null, or why there is none. Builds it when that has not been done: a few minutes. */
export function whyNoCoreDns(): string | null {
  if (existsSync(coreDnsProgram())) return null
  if (spawnSync('go', ['version']).status !== 0) return 'there is no go to build it with'
  console.error(`building coredns ${VERSION}, once, into ${folder()}: some minutes …`)
  mkdirSync(folder(), { recursive: true })
  const built = spawnSync('nice', ['go', 'install', `github.com/coredns/coredns@${VERSION}`], {
    env: { ...process.env, GOBIN: folder(), GOFLAGS: '-p=1', CGO_ENABLED: '0' },
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
    timeout: BUILD_MS,
  })
  if (built.status === 0) return null
  return `go install failed: ${built.stderr.trim().split('\n').at(-1)}`
}

function folder(): string {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache')
  return join(cache, 'namegate', `coredns-${VERSION}`)
}
