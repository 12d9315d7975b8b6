import { test } from 'node:test'
import assert from 'node:assert/strict'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../test/support/process.ts'
import { ROOT } from './files.ts'

/** A checkout with the launcher and a program that says from where it runs. */
class Checkout implements Disposable {
  readonly root = mkdtempSync(join(tmpdir(), 'ngt-launcher-'))

  constructor() {
    for (const folder of ['bin', 'src/wire', 'dist'])
      mkdirSync(join(this.root, folder), { recursive: true })
    copyFileSync(join(ROOT, 'namegate'), join(this.root, 'namegate'))
    this.write('package.json', '{"type": "module"}', 1_000)
    this.write('package-lock.json', '{}', 1_000)
    this.write('bin/namegate.ts', "process.stdout.write('sources ' + process.argv.slice(2))", 1_000)
    this.write('src/wire/name.ts', '', 1_000)
    this.write('dist/namegate.js', "process.stdout.write('bundle ' + process.argv.slice(2))", 2_000)
  }

  write(path: string, text: string, second: number): void {
    writeFileSync(join(this.root, path), text)
    utimesSync(join(this.root, path), second, second)
  }

  async start(): Promise<string> {
    const { stdout, stderr } = await run(join(this.root, 'namegate'), ['status', '-o', 'json'])
    return stdout + stderr
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true })
  }
}

test('without the pinned Node the launcher says what to type', async () => {
  using checkout = new Checkout()
  assert.match(
    await checkout.start(),
    /namegate: the pinned Node is not installed: run 'npm ci' in /,
  )
})

test('the launcher runs the bundle while it is newer than every source, else the sources', async () => {
  using checkout = new Checkout()
  symlinkSync(join(ROOT, 'node_modules'), join(checkout.root, 'node_modules'))
  assert.equal(await checkout.start(), 'bundle status,-o,json')

  checkout.write('src/wire/name.test.ts', '', 3_000)
  assert.match(await checkout.start(), /^bundle/, 'tests are not in the bundle')
  checkout.write('src/wire/name.ts', '', 3_000)
  assert.equal(await checkout.start(), 'sources status,-o,json')
  checkout.write('src/wire/name.ts', '', 1_000)
  checkout.write('package-lock.json', '{}', 3_000)
  assert.match(await checkout.start(), /^sources/, 'another dependency may be in the bundle')

  rmSync(join(checkout.root, 'dist'), { recursive: true })
  assert.match(await checkout.start(), /^sources/)
})
