/**
 * Bad input: a running proxy is sent what nobody should send, by UDP, by TCP and as an upstream's
 * reply, while a client asks a good question every 20 ms. That client must not notice; what deserves
 * an error gets it and the rest gets nothing; and when it is over the process is as it was.
 *
 * Needs no root: a proxy on the loopback interface.
 */
import { after, before, describe, test, type TestContext } from 'node:test'
import assert from 'node:assert/strict'
import { randomBytes, randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import {
  FLAG_QR,
  FLAG_RD,
  FLAGS_AT,
  OPCODE_SHIFT,
  QDCOUNT_AT,
  QUESTION_AT,
  RCODE_BADVERS,
  RCODE_FORMERR,
  RCODE_NOERROR,
  RCODE_NOTIMP,
  RCODE_SERVFAIL,
} from '../../src/wire/header.ts'
import { buildMessage, parseMessage } from '../../src/wire/message.ts'
import { formatRecord } from '../../src/wire/record-text.ts'
import { LoneProxy, LOOPBACK } from '../support/e2e-lone.ts'
import { BAD_ADDRESS, GOOD_ADDRESS, RogueServer } from '../support/e2e-rogue.ts'
import { Traffic } from '../support/e2e-traffic.ts'
import { sleep, until } from '../support/process.ts'

/** A good question waits no longer, whatever else comes in. */
const PATIENCE_MS = 200
const QUESTION = 'good.example.com. A'
const RANDOM_PACKETS = 5000
const CONNECTIONS = 300
const PIPELINED = 500
/** What a process may hold more than before: buffers that were touched for the first time. */
const MEMORY_MIB = 24
/** More than waits for a client that keeps up. */
const MANY_BYTES = 4 << 20
/** A connection that says nothing is closed after 10 s. */
const IDLE_MS = 15_000
/** No upstream is waited for longer than 5 s. */
const UPSTREAM_MS = 7000

let upstream: RogueServer
let proxy: LoneProxy
let client: Traffic

// One suite: where no test of it is asked for, nothing is started.
describe('a running proxy and its client', () => {
  before(async () => {
    upstream = await RogueServer.start()
    proxy = await LoneProxy.start({ upstream: `${LOOPBACK}:${upstream.port}` })
    client = await Traffic.of({
      ...{ servers: [LOOPBACK], port: proxy.port, known: ['good.example.com.'], fresh: null },
      ...{ perSecond: 50, tcpEvery: 0, connectEvery: 0, never: [] },
    })
    await sleep(300)
  })

  after(async () => {
    await client?.[Symbol.asyncDispose]()
    await proxy?.[Symbol.asyncDispose]()
    await upstream?.[Symbol.asyncDispose]()
  })

  test('what is no query gets no reply', async (t) => {
    await unnoticed(t, async () => {
      const query = buildMessage({ id: 7, flags: FLAG_RD, question: QUESTION })
      const response = buildMessage({ id: 7, flags: FLAG_QR, question: QUESTION })
      const packets = [
        ...Array.from({ length: 12 }, (_, bytes) => query.subarray(0, bytes)),
        response,
        response.subarray(0, 12),
        randomWithFlags(60_000, FLAG_QR),
        Buffer.concat([query, Buffer.alloc(65_000)]),
      ]
      const replies = await Promise.all(packets.map((packet) => proxy.ask(packet, 500)))
      assert.deepEqual(
        replies,
        packets.map(() => null),
      )
    })
  })

  const QUERY = buildMessage({ id: 7, flags: FLAG_RD, question: QUESTION })
  const WITH_OPT = buildMessage({ id: 7, question: QUESTION, edns: {} })
  const OPT = WITH_OPT.subarray(QUERY.length)

  const FAULTS: readonly (readonly [what: string, packet: Uint8Array, rcode: number])[] = [
    ['a header alone', QUERY.subarray(0, 12), RCODE_FORMERR],
    ['no question', changed(QUERY, QDCOUNT_AT + 1, 0), RCODE_FORMERR],
    ['two questions', changed(QUERY, QDCOUNT_AT + 1, 2), RCODE_FORMERR],
    ['a question that is cut', QUERY.subarray(0, QUERY.length - 3), RCODE_FORMERR],
    ['a name that points to itself', changed(QUERY, QUESTION_AT, 0xc0, 12), RCODE_FORMERR],
    ['a name that points behind itself', changed(QUERY, QUESTION_AT, 0xc0, 14), RCODE_FORMERR],
    ['a label of a reserved kind', changed(QUERY, QUESTION_AT, 0x84), RCODE_FORMERR],
    ['a label longer than the message', changed(QUERY, QUESTION_AT, 63), RCODE_FORMERR],
    ['records that are not there', changed(QUERY, 11, 9), RCODE_FORMERR],
    ['bytes behind the end', Buffer.concat([QUERY, Buffer.alloc(5)]), RCODE_FORMERR],
    ['two OPT records', changed(Buffer.concat([WITH_OPT, OPT]), 11, 2), RCODE_FORMERR],
    ['an OPT record that is cut', WITH_OPT.subarray(0, WITH_OPT.length - 1), RCODE_FORMERR],
    ['a DSO message', changed(QUERY, FLAGS_AT, 6 << (OPCODE_SHIFT - 8)), RCODE_NOTIMP],
    [
      'a version of EDNS that nobody speaks',
      buildMessage({ id: 7, question: QUESTION, edns: { version: 1 } }),
      RCODE_BADVERS,
    ],
  ]

  test('a query with a fault gets an error and nothing else', async (t) => {
    await unnoticed(t, async () => {
      const replies = await Promise.all(FAULTS.map(([, packet]) => proxy.ask(packet)))
      for (const [index, [what, , rcode]] of FAULTS.entries()) {
        const reply = replies[index]
        assert(reply !== null && reply !== undefined, what)
        const message = parseMessage(reply)
        assert.deepEqual([message?.id, message?.rcode, message?.answers], [7, rcode, []], what)
      }
    })
  })

  test('random and mutated datagrams stop nothing', async (t) => {
    await unnoticed(t, async () => {
      using socket = disposable(createSocket('udp4'))
      let isStranger = false
      socket.on('message', (reply, from) => {
        isStranger ||= from.port !== proxy.port || (reply.readUInt16BE(FLAGS_AT) & FLAG_QR) === 0
      })
      for (let count = 0; count < RANDOM_PACKETS; count++) {
        const packet = count % 2 === 0 ? randomBytes(randomInt(1, 1500)) : mutated(WITH_OPT)
        socket.send(packet, proxy.port, LOOPBACK)
        if (count % 50 === 0) await sleep(5)
      }
      await sleep(200)
      assert(!isStranger, 'every reply is a response, and from where it was asked')
    })
  })

  test('TCP: halves, wrong lengths, slow writers', async (t) => {
    await unnoticed(t, async () => {
      const framed = frame(QUERY)
      const closed = [Buffer.from([0, 0]), Buffer.from([0xff, 0xff, 1]), frame(randomBytes(3))]
      for (const bytes of closed) {
        using socket = await connectTcp()
        socket.write(bytes)
        await until('the connection is closed', () => socket.closed, 2000)
      }
      using half = await connectTcp()
      half.write(framed.subarray(0, 9))
      using slow = await connectTcp()
      const answers = messagesOf(slow)
      for (const byte of framed) {
        slow.write(Uint8Array.of(byte))
        await sleep(5)
      }
      await until('the slow writer has its answer', () => answers.length === 1)
      assert.equal(parseMessage(answers[0]!)?.rcode, RCODE_NOERROR)
      half.write(framed.subarray(9))
      assert.equal((await once(half, 'data')).length, 1)
    })
  })

  test('TCP: a client opens more connections than there is room for', async (t) => {
    await unnoticed(t, async () => {
      const sockets = await Promise.all(Array.from({ length: CONNECTIONS }, () => connectTcp()))
      await sleep(300)
      const open = sockets.filter((socket) => !socket.closed)
      t.diagnostic(`${open.length} of ${CONNECTIONS} connections stay open`)
      assert.equal(open.length, 128, 'half of what there is')
      using other = await connectTcp('127.0.0.2')
      const others = messagesOf(other)
      other.write(frame(QUERY))
      await until('another client has its answer', () => others.length === 1)
      for (const socket of sockets) socket.destroy()
      await until('there is room again', async () => {
        using socket = await connectTcp()
        const answers = messagesOf(socket)
        socket.write(frame(QUERY))
        await sleep(100)
        return answers.length === 1
      })
    })
  })

  test('TCP: 500 questions at once are all answered', async (t) => {
    await unnoticed(t, async () => {
      using socket = await connectTcp()
      const answers = messagesOf(socket)
      const queries = Array.from({ length: PIPELINED }, (_, id) => {
        const name = id % 2 === 0 ? 'good' : `good-${id}`
        return frame(buildMessage({ id, flags: FLAG_RD, question: `${name}.example.com. A` }))
      })
      socket.write(Buffer.concat(queries))
      await until('all are answered', () => answers.length >= PIPELINED)
      const ids = new Set(answers.map((answer) => parseMessage(answer)?.id))
      assert.equal(ids.size, PIPELINED)
    })
  })

  test('TCP: a client that never reads is let go', async (t) => {
    await unnoticed(t, async () => {
      using socket = await connectTcp()
      socket.pause()
      const many = Buffer.concat(Array.from({ length: 20_000 }, () => frame(QUERY)))
      // Until the way there is full: for a client that does not read, nothing is read on.
      await until('it reads no more', () => {
        if (socket.writableLength < MANY_BYTES) socket.write(many)
        return socket.writableLength >= MANY_BYTES
      })
      await until('the connection is closed', () => socket.closed, IDLE_MS)
    })
  })

  test('an upstream that lies, hangs or sends rubbish: no wrong answer', async (t) => {
    await unnoticed(t, async () => {
      const kinds = ['silent', 'garbage', 'short', 'truncated', 'forged', 'loops', 'late']
      const replies = await Promise.all(
        kinds.map((kind) => {
          const question = `${kind}.example.com. A`
          return proxy.ask(buildMessage({ id: 7, flags: FLAG_RD, question }), UPSTREAM_MS)
        }),
      )
      const seen = replies.map((reply, index) => {
        const message = reply === null ? null : parseMessage(reply)
        const records = message?.answers.map((record) => formatRecord(record)) ?? []
        return `${kinds[index]}: ${message?.rcode ?? 'no reply'} ${records.join()}`
      })
      assert(!seen.join().includes(BAD_ADDRESS), seen.join('\n'))
      for (const line of seen.slice(0, -1)) assert.match(line, new RegExp(`: ${RCODE_SERVFAIL} $`))
      assert(seen.at(-1)!.includes(GOOD_ADDRESS), seen.join('\n'))
    })
  })
})

/** `act` happens, and the client that asks all the time notices nothing; nor is anything left. */
async function unnoticed(t: TestContext, act: () => Promise<void>): Promise<void> {
  const filesBefore = proxy.openFiles
  const memoryBefore = proxy.memoryMib
  const seen = await client.during(act)
  t.diagnostic(`slowest ${seen.slowestMs} ms of ${seen.asked}`)
  assert.deepEqual(seen.faults, [])
  assert(seen.slowestMs <= PATIENCE_MS, `a good question waited ${seen.slowestMs} ms`)
  assert.equal((await proxy.status()).role, 'proxy')
  await until('open files are as many as before', () => proxy.openFiles <= filesBefore, IDLE_MS)
  // What was needed for a moment is given back when growth has ended (linux/resident.ts).
  const grown = (): number => proxy.memoryMib - memoryBefore
  t.diagnostic(`memory grew by ${grown().toFixed(1)} MiB to ${proxy.memoryMib.toFixed(0)}`)
  await until(
    `memory is not ${MEMORY_MIB} MiB more than before`,
    () => grown() < MEMORY_MIB,
    IDLE_MS,
  )
}

function changed(packet: Uint8Array, at: number, ...bytes: number[]): Uint8Array {
  const copy = packet.slice()
  copy.set(bytes, at)
  return copy
}

function mutated(packet: Uint8Array): Uint8Array {
  const copy = packet.slice(0, randomInt(1, packet.length + 1))
  for (let count = randomInt(1, 4); count > 0; count--)
    copy[randomInt(copy.length)] = randomInt(256)
  return copy
}

function randomWithFlags(bytes: number, flags: number): Uint8Array {
  const packet = randomBytes(bytes)
  packet.writeUInt16BE(flags, FLAGS_AT)
  return packet
}

function frame(message: Uint8Array): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(message.length)
  return Buffer.concat([length, message])
}

async function connectTcp(localAddress = LOOPBACK): Promise<Socket & Disposable> {
  const host = LOOPBACK
  const socket = createConnection({ host, port: proxy.port, localAddress, allowHalfOpen: false })
  socket.on('error', () => {}) // a reset is one way of being closed
  await once(socket, 'connect')
  const close = { [Symbol.dispose]: () => void socket.destroy() }
  return Object.assign(socket, close)
}

function disposable<T extends { close(): void }>(thing: T): T & Disposable {
  return Object.assign(thing, { [Symbol.dispose]: () => thing.close() })
}

/** Whole messages, as they come. */
function messagesOf(socket: Socket): Buffer[] {
  const messages: Buffer[] = []
  let bytes = Buffer.alloc(0)
  socket.on('data', (more: Buffer) => {
    bytes = Buffer.concat([bytes, more])
    while (bytes.length >= 2 && bytes.length >= 2 + bytes.readUInt16BE()) {
      const end = 2 + bytes.readUInt16BE()
      messages.push(bytes.subarray(2, end))
      bytes = bytes.subarray(end)
    }
  })
  return messages
}
