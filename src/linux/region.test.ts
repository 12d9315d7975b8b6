import assert from 'node:assert/strict'
import { openSync, closeSync } from 'node:fs'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { EFAULT } from './errno.ts'
import * as libc from './libc.ts'
import { orErrno } from './libc.ts'
import { Region } from './region.ts'

test('a new region is zero in every view, and has the size asked for, up to 8 bytes', () => {
  const region = Region.create(4001)
  assert.equal(region.bytes, 4008)
  assert.deepEqual(
    [region.u8.length, region.u16.length, region.i32.length, region.u32.length],
    [4008, 2004, 1002, 1002],
  )
  assert.ok(region.u8.every((byte) => byte === 0))
})

test('the kernel may write up to the end of a region and no byte around its pages', () => {
  const zero = openSync('/dev/zero', 'r')
  const page = libc.getpagesize()
  const region = Region.create(page)
  region.u8.fill(7)
  assert.equal(orErrno(libc.read(zero, region.address, page)), page)
  assert.ok(region.u8.every((byte) => byte === 0))
  assert.equal(orErrno(libc.read(zero, region.address - 1, 1)), -EFAULT)
  assert.equal(orErrno(libc.read(zero, region.pointer(page), 1)), -EFAULT)
  closeSync(zero)
})

test('a pointer outside its region is refused', () => {
  const region = Region.create(64)
  assert.throws(() => region.pointer(65), /points into its region/)
  assert.throws(() => region.pointer(-1), /points into its region/)
})

test('another thread attaches by a plain descriptor and sees what is published', async () => {
  const region = Region.create(4096)
  region.i32[1] = 41
  Atomics.store(region.i32, 0, 1)
  const code = `
    import { parentPort, workerData } from 'node:worker_threads'
    const { Region } = await import(workerData.module)
    const region = Region.attach(workerData.descriptor)
    if (Atomics.load(region.i32, 0) === 1) region.i32[2] = region.i32[1] + 1
    Atomics.store(region.i32, 0, 2)
    parentPort.postMessage('done')`
  const module = new URL('./region.ts', import.meta.url).href
  const descriptor = structuredClone(region.descriptor)
  const url = new URL(`data:text/javascript,${encodeURIComponent(code)}`)
  const worker = new Worker(url, { workerData: { module, descriptor } })
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
  await worker.terminate()
  assert.equal(Atomics.load(region.i32, 0), 2)
  assert.equal(region.i32[2], 42)
  assert.equal(region.u8[1024], 0, 'the memory outlives the thread that attached')
})

test('memory stays where it is through garbage collections and many views', () => {
  const region = Region.create(4096)
  region.u32[5] = 0xdeadbeef
  for (let round = 0; round < 200; round++) {
    const again = Region.attach(region.descriptor)
    assert.equal(again.u32[5], 0xdeadbeef)
    void new Uint8Array(1 << 20)
  }
  assert.equal(region.u32[5], 0xdeadbeef)
})
