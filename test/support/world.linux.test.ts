import { test } from 'node:test'
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { missingForNamespaces, namespaceNames } from './netns.ts'
import { run, start } from './process.ts'
import { STRANGE_DNS, World, type WorldOptions } from './world.ts'

const skip = missingForNamespaces()
const ZONE = {
  records: ['www.example.com. 60 A 192.0.2.10', 'www.example.com. 60 AAAA 2001:db8:2::10'],
  fresh: ['example.net.'],
}

/** Its files are a folder of the test's own, removed with the world. */
function optionsOf(label: string): WorldOptions & Disposable {
  const files = mkdtempSync(join(tmpdir(), 'ngt-files-'))
  writeFileSync(join(files, 'anything.yaml'), '# copied\n')
  const prefix = `ngt-${process.pid}-${label}`
  const directory = join(tmpdir(), prefix)
  const remove = (): void => rmSync(files, { recursive: true })
  return { prefix, directory, files, zone: ZONE, [Symbol.dispose]: remove }
}

function namespacesOf({ prefix }: WorldOptions): string[] {
  return namespaceNames().filter((name) => name.startsWith(prefix))
}

test('pods reach DNS and the web without Namegate, by both families', { skip }, async () => {
  using options = optionsOf('plain')
  {
    using world = await World.build(options)
    assert(existsSync(join(world.directory, 'anything.yaml')))
    const see = async (line: string, pattern: RegExp): Promise<void> => {
      const { stdout, stderr } = await world.run(line.split(' '))
      assert.match(stdout + stderr, pattern, line)
    }
    // By the Service's addresses, which the node translates, and by the pod's resolv.conf.
    await see('./client dig www.example.com', /192\.0\.2\.10\n[^]*SERVER: 10\.96\.0\.10#53/)
    await see('./client dig +tcp @2001:db8:96::a www.example.com AAAA', /2001:db8:2::10\n/)
    await see('./node dig @10.96.0.10 www.example.com', /192\.0\.2\.10\n/)
    await see(`./other dig @${STRANGE_DNS} no.example.com`, /NXDOMAIN/)
    await see('./client curl -4 http://www.example.com/', /at 192\.0\.2\.10 port 80, you are 10\.0/)
    await see('./client curl -6 http://www.example.com:443/', /at 2001:db8:2::10 port 443/)
    await see('./bystander curl http://new.example.net/', /this is new\.example\.net at /)

    await world.run(['curl', '--unix-socket', 'dns.sock', 'http://dns/cut'])
    await see('./client dig +timeout=1 www.example.com', /timed out|no servers could be reached/)
    await world.run(['curl', '--unix-socket', 'dns.sock', 'http://dns/restore'])
    await see('./client dig www.example.com', /192\.0\.2\.10\n/)
    await see('curl --unix-socket dns.sock http://dns/counts', /"no\.example\.com\. A": 1/)
  }
  assert.deepEqual(namespacesOf(options), [])
  assert(!existsSync(options.directory))
})

// A story or a test was killed with SIGKILL while its world stood. Whoever builds a world of that
// name next finds namespaces with programs in them, and the directory.
test('what a killed builder left is in the way of nobody', { skip }, async () => {
  using options = optionsOf('left')
  const url = new URL('./world.ts', import.meta.url)
  const script = `import { World } from '${url}'
    await World.build(${JSON.stringify(options)}); console.log('built'); setInterval(() => {}, 1000)`
  const begin = () =>
    start(process.execPath, ['--input-type=module', '-e', script], { ready: 'built' })
  await using victim = await begin()
  assert.equal(World.owner(options.directory), victim.pid)
  victim.kill('SIGKILL')
  await victim.exited
  assert.equal(World.owner(options.directory), null)
  assert.equal(namespacesOf(options).length, 5)

  await using ended = await begin()
  ended.kill('SIGTERM')
  assert.equal((await ended.exited).code, 143)
  assert.deepEqual(namespacesOf(options), [])
  assert(!existsSync(options.directory))
})

test('a released world outlives its builder, until it is removed', { skip }, async () => {
  using options = optionsOf('kept')
  const url = new URL('./world.ts', import.meta.url)
  const script = `import { World } from '${url}'
    const world = await World.build(${JSON.stringify(options)}); world.release()`
  const builder = await run(process.execPath, ['--input-type=module', '-e', script])
  assert.equal(builder.code, 0, builder.stderr)
  const asked = await run(join(options.directory, 'client'), ['dig', '+short', 'www.example.com'])
  assert.equal(asked.stdout, '192.0.2.10\n')
  assert.equal(World.remove(options.prefix, options.directory), true)
  assert.deepEqual(namespacesOf(options), [])
  assert.equal(World.remove(options.prefix, options.directory), false)
})

test('a directory that is no world is not removed', { skip }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'ngt-files-'))
  assert.throws(() => World.remove(`ngt-${process.pid}-none`, directory), /is no world/)
  rmSync(directory, { recursive: true })
})
