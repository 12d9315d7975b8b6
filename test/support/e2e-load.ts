/**
 * A pod that never stops asking: the load of the end-to-end tests, a program in a pod's namespace.
 *
 *     node e2e-load.ts OPTIONS     JSON of LoadOptions; asks until it is ended
 *
 * It prints 'ready', then a line for each thing that has come to its end (e2e-traffic.ts reads
 * them): when it began, by the machine's monotonic clock; how long it took; what came of it. After
 * such lines comes 'until' with a time: all that began before it has ended, and was told.
 *
 * It is as unforgiving as a client can be: each question goes out once, from a port of its own, and
 * an answer counts only if it comes from the server that was asked, carries the question's ID and
 * name, and an address. A connection counts as open only if its first SYN passed.
 */
import { createSocket } from 'node:dgram'
import { createConnection, type Socket } from 'node:net'
import { FLAG_QR, FLAG_RD, FLAG_TC, RCODE_NOERROR, TYPE_A } from '../../src/wire/header.ts'
import { buildMessage, type Message, parseMessage } from '../../src/wire/message.ts'
import { formatName } from '../../src/wire/text.ts'

export interface LoadOptions {
  /** Asked in turn, on this port. */
  readonly servers: readonly string[]
  readonly port: number
  readonly perSecond: number
  /** Of these one in `tcpEvery` goes over TCP, by a connection of its own; 0: none. */
  readonly tcpEvery: number
  /** These are asked for in turn: names that a cache can know. */
  readonly known: readonly string[]
  /** Every second question is for a name below this domain that nobody has ever asked for. */
  readonly fresh: string | null
  /** One address in so many answered ones is connected to, on port 80, at once; 0: none. */
  readonly connectEvery: number
  /** Addresses that no answer opens: connections to them are tried all the time. */
  readonly never: readonly string[]
}

const WEB_PORT = 80
const STEP_MS = 10
const PRINT_MS = 50
/** Who has waited for so long has lost. Longer than anybody shall wait, to see who came late. */
const LOST_MS = 1200
/** A SYN that was dropped is sent again after a second. */
const CONNECT_MS = 900
const NEVER_EVERY_MS = 100
const NEVER_MS = 300

const options = JSON.parse(process.argv[2]!) as LoadOptions
/** No other run of this program asks for the same names. */
const run = `${process.pid}-${Math.random().toString(36).slice(2, 8)}`

let lines: string[] = []
let asked = 0
let answered = 0
const waiting = new Set<{ beganMs: number; end(outcome: string): void }>()

process.stdout.write('ready\n')
const beganMs = performance.now()
setInterval(() => {
  const due = ((performance.now() - beganMs) * options.perSecond) / 1000
  while (asked < due) ask(asked++)
  const oldMs = performance.now() - LOST_MS
  for (const one of waiting) {
    if (one.beganMs > oldMs) break // they are in the order in which they began
    // What has arrived while this process did not run is read before it is called lost.
    setImmediate(() => one.end('lost'))
  }
}, STEP_MS)
setInterval(() => {
  const [oldest] = waiting // they are in the order in which they began
  const endedMs = oldest === undefined ? performance.now() : oldest.beganMs
  process.stdout.write(`${[...lines, `until ${onMachineClock(endedMs)}`].join('\n')}\n`)
  lines = []
}, PRINT_MS)
let tried = 0
setInterval(() => {
  const address = options.never[tried++ % options.never.length]
  if (address !== undefined) connect('never', address, NEVER_MS)
}, NEVER_EVERY_MS)

function ask(number: number): void {
  const { servers, known, fresh, tcpEvery } = options
  const isFresh = fresh !== null && number % 2 === 1
  const turn = fresh === null ? number : number >> 1
  const name = isFresh ? `q${number}-${run}.${fresh}` : known[turn % known.length]!
  const server = servers[(number >> 1) % servers.length]!
  const id = (number * 40_503) & 0xffff
  const query = buildMessage({ id, flags: FLAG_RD, question: `${name} A` })
  const isTcp = tcpEvery > 0 && number % tcpEvery === tcpEvery - 1
  const judge = (packet: Uint8Array): string => judgeAnswer(packet, id, name, isFresh)
  if (isTcp) askByTcp(server, query, name, judge)
  else askByUdp(server, query, name, judge)
}

type Judge = (packet: Uint8Array) => string

function askByUdp(server: string, query: Uint8Array, name: string, judge: Judge): void {
  const socket = createSocket(server.includes(':') ? 'udp6' : 'udp4')
  const end = begin('udp', name, () => socket.close())
  socket.on('error', (error) => end(`error:${error.message}`))
  socket.on('message', (packet, from) => {
    end(from.address === server && from.port === options.port ? judge(packet) : 'wrong:source')
  })
  socket.send(query, options.port, server)
}

function askByTcp(server: string, query: Uint8Array, name: string, judge: Judge): void {
  const socket = createConnection({ host: server, port: options.port })
  const end = begin('tcp', name, () => socket.destroy())
  let bytes = Buffer.alloc(0)
  socket.on('error', (error: NodeJS.ErrnoException) => end(`error:${error.code}`))
  socket.on('close', () => end('closed'))
  socket.on('data', (more) => {
    bytes = Buffer.concat([bytes, more as Buffer])
    if (bytes.length < 2 || bytes.length < 2 + bytes.readUInt16BE()) return
    end(judge(bytes.subarray(2, 2 + bytes.readUInt16BE())))
  })
  const length = Buffer.alloc(2)
  length.writeUInt16BE(query.length)
  socket.write(Buffer.concat([length, query]))
}

/** 'answered', or what is wrong with it. A good answer's address is perhaps connected to. */
function judgeAnswer(packet: Uint8Array, id: number, name: string, isFresh: boolean): string {
  const message = parseMessage(packet)
  if (message === null || message.id !== id) return 'wrong:id'
  if ((message.flags & FLAG_QR) === 0 || (message.flags & FLAG_TC) !== 0) return 'wrong:flags'
  if (message.question === null || formatName(message.question.name) !== name) return 'wrong:name'
  if (message.rcode !== RCODE_NOERROR) return `wrong:rcode-${message.rcode}`
  const address = addressOf(message)
  if (address === null) return 'wrong:empty'
  if (answered++ % options.connectEvery === 0) {
    connect(isFresh ? 'fresh' : 'known', address, CONNECT_MS)
  }
  return 'answered'
}

function addressOf({ answers }: Message): string | null {
  const record = answers.find(({ type }) => type === TYPE_A)
  return record === undefined ? null : [...record.rdata].join('.')
}

function connect(kind: string, address: string, deadlineMs: number): void {
  const socket: Socket = createConnection({ host: address, port: WEB_PORT })
  const end = begin(kind, address, () => socket.destroy())
  socket.on('connect', () => end('open'))
  socket.on('error', (error: NodeJS.ErrnoException) => end(`error:${error.code}`))
  setTimeout(() => setImmediate(() => end('shut')), deadlineMs)
}

/** Something begins; the function that is handed back ends it, once, and clears up after it. */
function begin(kind: string, what: string, clear: () => void): (outcome: string) => void {
  const one = {
    beganMs: performance.now(),
    end(outcome: string): void {
      if (!waiting.delete(one)) return
      const tookMs = performance.now() - one.beganMs
      lines.push(`${kind} ${onMachineClock(one.beganMs)} ${tookMs.toFixed(1)} ${outcome} ${what}`)
      clear()
    },
  }
  waiting.add(one)
  return one.end
}

/** What this process's clock told, by the clock that every process of the machine shares. */
function onMachineClock(ms: number): string {
  const nowMs = Number(process.hrtime.bigint() / 1_000n) / 1000
  return (nowMs - performance.now() + ms).toFixed(1)
}
