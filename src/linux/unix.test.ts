import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { F_GETFD } from './constants.ts'
import { EAGAIN, EBADF, ECONNREFUSED, EMSGSIZE, ENAMETOOLONG, ENOENT, EPIPE } from './errno.ts'
import * as libc from './libc.ts'
import { lockFile } from './process.ts'
import { Region } from './region.ts'
import { close } from './socket.ts'
import {
  DESCRIPTORS_MAX,
  acceptSeqpacket,
  connectSeqpacket,
  listenSeqpacket,
  peerCredentials,
  receiveMessage,
  sendMessage,
} from './unix.ts'

let directory = ''
let path = ''
const region = Region.create(256 * 1024)

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'namegate-unix-'))
  path = join(directory, 'sync.sock')
})

afterEach(() => rmSync(directory, { recursive: true }))

function write(text: string): number {
  return region.u8.set(Buffer.from(text)) ?? Buffer.byteLength(text)
}

function sendText(fd: number, text: string, descriptors: readonly number[] = []): number {
  return sendMessage(fd, region.address, write(text), descriptors)
}

/** The next message as text, with its descriptors. */
function receiveText(
  fd: number,
  bytesMax = 4096,
): { text: string; descriptors: readonly number[] } {
  const { bytes, descriptors } = receiveMessage(fd, region.address, bytesMax)
  assert.ok(bytes >= 0, `errno ${-bytes}`)
  return { text: Buffer.from(region.u8.subarray(0, bytes)).toString(), descriptors }
}

interface Pair extends Disposable {
  readonly listener: number
  readonly near: number
  readonly far: number
}

function connectPair(): Pair {
  const listener = listenSeqpacket(path)
  const near = connectSeqpacket(path)
  const far = acceptSeqpacket(listener)
  assert.ok(near > 0 && far > 0)
  const dispose = (): void => [near, far, listener].forEach(close)
  return { listener, near, far, [Symbol.dispose]: dispose }
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}

test('messages keep their bounds and their order, both ways', () => {
  using pair = connectPair()
  assert.equal(receiveMessage(pair.far, region.address, 100).bytes, -EAGAIN)
  assert.equal(sendText(pair.near, 'one'), 3)
  assert.equal(sendText(pair.near, 'three'), 5)
  assert.equal(receiveText(pair.far).text, 'one')
  assert.equal(receiveText(pair.far).text, 'three')
  assert.equal(sendText(pair.far, 'back'), 4)
  assert.deepEqual(receiveText(pair.near), { text: 'back', descriptors: [] })
})

test('a message carries 16 descriptors, which are closed on exec', () => {
  using pair = connectPair()
  const file = join(directory, 'file')
  writeFileSync(file, 'content')
  const opened = Array.from({ length: DESCRIPTORS_MAX }, () => openSync(file, 'r'))
  assert.equal(sendText(pair.near, 'files', opened), 5)
  opened.forEach((fd) => closeSync(fd))
  const { text, descriptors } = receiveText(pair.far)
  assert.equal(text, 'files')
  assert.equal(descriptors.length, DESCRIPTORS_MAX)
  const FD_CLOEXEC = 1
  for (const fd of descriptors) {
    assert.equal(readFileSync(fd, 'utf8'), 'content')
    assert.equal(libc.fcntl(fd, F_GETFD, 0), FD_CLOEXEC)
    closeSync(fd)
  }
})

test('a cut message is an error, and the descriptors that came with it are closed', () => {
  using pair = connectPair()
  const before = openDescriptors()
  sendText(pair.near, 'too long', [pair.near, pair.near])
  sendText(pair.near, 'next')
  const cut = receiveMessage(pair.far, region.address, 7)
  assert.deepEqual(cut, { bytes: -EMSGSIZE, descriptors: [] })
  assert.equal(openDescriptors(), before)
  assert.equal(receiveText(pair.far).text, 'next')
})

test('a descriptor that is not open can not be sent', () => {
  using pair = connectPair()
  assert.equal(sendText(pair.near, 'x', [100_000]), -EBADF)
  assert.equal(receiveMessage(pair.far, region.address, 7).bytes, -EAGAIN)
})

test('128 KiB pass as one message; what can never pass is refused', () => {
  using pair = connectPair()
  const size = 128 * 1024
  region.u8.fill(0x78)
  assert.equal(sendMessage(pair.near, region.address, size), size)
  assert.equal(receiveMessage(pair.far, region.address, size).bytes, size)
  const huge = Region.create(4 * 1024 * 1024)
  assert.equal(sendMessage(pair.near, huge.address, huge.bytes), -EMSGSIZE)
})

test('a reader that does not read makes the writer wait, and loses nothing', () => {
  using pair = connectPair()
  let sent = 0
  while (sendMessage(pair.near, region.address, 32 * 1024) > 0) sent++
  assert.ok(sent > 3, `${sent}`)
  assert.equal(sendText(pair.near, 'x'), -EAGAIN)
  let received = 0
  while (receiveMessage(pair.far, region.address, 32 * 1024).bytes > 0) received++
  assert.equal(received, sent)
})

test('a peer that closes reads as an empty message; writing to it fails', () => {
  const listening = listenSeqpacket(path)
  const near = connectSeqpacket(path)
  const far = acceptSeqpacket(listening)
  sendText(near, 'last words')
  close(near)
  assert.equal(receiveText(far).text, 'last words')
  assert.deepEqual(receiveMessage(far, region.address, 100), { bytes: 0, descriptors: [] })
  assert.equal(sendText(far, 'x'), -EPIPE)
  close(far)
  close(listening)
})

test('only the owner may connect, from the first moment on', () => {
  const before = process.umask(0)
  const listener = listenSeqpacket(path)
  process.umask(before)
  assert.equal(statSync(path).mode & 0o777, 0o600)
  close(listener)
})

test('a path that nobody listens at any more is replaced', () => {
  close(listenSeqpacket(path))
  assert.equal(connectSeqpacket(path), -ECONNREFUSED)
  const listener = listenSeqpacket(path)
  const near = connectSeqpacket(path)
  assert.ok(near > 0)
  close(near)
  close(listener)
})

test('a path where somebody answers, or is too busy to, is left alone', () => {
  const listener = listenSeqpacket(path)
  assert.throws(() => listenSeqpacket(path), { code: 'EADDRINUSE' })
  const waiting: number[] = []
  for (let fd = connectSeqpacket(path); fd !== -EAGAIN; fd = connectSeqpacket(path)) {
    assert.ok(fd > 0 && waiting.push(fd) < 1000)
  }
  assert.throws(() => listenSeqpacket(path), { code: 'EADDRINUSE' })
  assert.ok(existsSync(path))
  ;[listener, ...waiting].forEach(close)
})

test('a file that is no socket is never removed', () => {
  writeFileSync(path, 'precious')
  assert.throws(() => listenSeqpacket(path), { code: 'EADDRINUSE' })
  assert.equal(readFileSync(path, 'utf8'), 'precious')
})

test('of two that start at once only one takes the path', () => {
  const lock = lockFile(`${path}.lock`)
  assert.ok(lock !== null)
  assert.throws(() => listenSeqpacket(path), /somebody is starting there: EADDRINUSE/)
  assert.ok(!existsSync(path))
  closeSync(lock)
  close(listenSeqpacket(path))
})

test('nobody there, and a path too long for a socket, are told apart', () => {
  assert.equal(connectSeqpacket(path), -ENOENT)
  const long = join(directory, 'x'.repeat(108 - directory.length))
  assert.equal(connectSeqpacket(long), -ENAMETOOLONG)
  assert.throws(() => listenSeqpacket(long), { code: 'ENAMETOOLONG' })
  // 107 bytes are the most: with the final zero byte they fill sun_path.
  const longest = join(directory, 'x'.repeat(107 - directory.length - 1))
  assert.equal(longest.length, 107)
  const listener = listenSeqpacket(longest)
  const near = connectSeqpacket(longest)
  assert.ok(near > 0)
  close(near)
  close(listener)
  unlinkSync(longest)
})

test('a failed listening leaks no descriptor', () => {
  const listener = listenSeqpacket(path)
  const before = openDescriptors()
  assert.throws(() => listenSeqpacket(path))
  assert.equal(openDescriptors(), before)
  close(listener)
})

test('another process is known by its credentials, and takes a socket over', async () => {
  const listener = listenSeqpacket(path)
  const code = `
    const base = ${JSON.stringify(new URL('.', import.meta.url).href)}
    const { Region } = await import(base + 'region.ts')
    const { connectSeqpacket, receiveMessage, sendMessage } = await import(base + 'unix.ts')
    const { watchReadable } = await import(base + 'event-loop.ts')
    const region = Region.create(4096)
    const fd = connectSeqpacket(${JSON.stringify(path)})
    const watch = watchReadable(fd, () => {
      const { bytes, descriptors } = receiveMessage(fd, region.address, 4096)
      region.u8.set(Buffer.from('from child'))
      sendMessage(descriptors[0], region.address, 10)
      process.exit(bytes === 4 ? 0 : 1)
    })`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: 'inherit' })
  const exited = new Promise((resolve) => child.once('exit', resolve))
  let far = acceptSeqpacket(listener)
  const end = performance.now() + 10_000
  while (far === -EAGAIN && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 10))
    far = acceptSeqpacket(listener)
  }
  const expected = { pid: child.pid, uid: process.getuid?.(), gid: process.getgid?.() }
  assert.deepEqual(peerCredentials(far), expected)
  const second = listenSeqpacket(`${path}-2`)
  const near = connectSeqpacket(`${path}-2`)
  const other = acceptSeqpacket(second)
  assert.equal(sendText(far, 'take', [near]), 4)
  close(near)
  assert.equal(await exited, 0)
  assert.equal(receiveText(other).text, 'from child')
  ;[far, listener, second, other].forEach(close)
})
