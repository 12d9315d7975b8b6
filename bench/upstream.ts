/**
 * The upstream of the benchmarks: answers for NAME_COUNT generated names, so that every subject is
 * filled with the same answers. It runs in the bench's own process: once a subject knows the names,
 * nobody asks it any more.
 */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'

export const NAME_COUNT = 10_000
const SUFFIX = 'bench.example.com'
const TTL_SECONDS = 3600
const HEADER_BYTES = 12
const FLAGS_ANSWER = 0x8180
const RCODE_NXDOMAIN = 3
const TYPE_A = 1

/** Names of realistic length; the answer to each has one address. */
export function benchName(index: number): string {
  return `service-${String(index).padStart(5, '0')}.${SUFFIX}`
}

export class BenchUpstream {
  /** Queries answered so far: while a cache is measured this must stand still. */
  answered = 0
  readonly #socket: Socket

  private constructor(socket: Socket) {
    this.#socket = socket
  }

  /** Listens on 127.0.0.1 at a port of the kernel's choice. */
  static async start(): Promise<BenchUpstream> {
    const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 })
    const upstream = new BenchUpstream(socket)
    socket.on('message', (query, { port, address }) => {
      upstream.answered++
      socket.send(answerTo(query), port, address)
    })
    socket.bind(0, '127.0.0.1')
    await once(socket, 'listening')
    return upstream
  }

  get port(): number {
    return this.#socket.address().port
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close()
    await once(this.#socket, 'close')
  }
}

/** 192.0.2.0/24 in turn for our names of type A; NXDOMAIN without SOA for everything else. */
function answerTo(query: Buffer): Buffer {
  const questionEnd = endOfQuestion(query)
  const label = query.subarray(HEADER_BYTES + 1, HEADER_BYTES + 1 + query[HEADER_BYTES]!)
  const number = /^service-(\d{5})$/.exec(label.toString('latin1').toLowerCase())?.[1]
  const isAnswered = number !== undefined && query.readUInt16BE(questionEnd - 4) === TYPE_A
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt16BE(query.readUInt16BE(0), 0)
  header.writeUInt16BE(isAnswered ? FLAGS_ANSWER : FLAGS_ANSWER | RCODE_NXDOMAIN, 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(isAnswered ? 1 : 0, 6)
  const parts = [header, query.subarray(HEADER_BYTES, questionEnd)]
  if (isAnswered) {
    const record = Buffer.from([
      0xc0,
      HEADER_BYTES,
      0,
      TYPE_A,
      0,
      1,
      0,
      0,
      0,
      0,
      0,
      4,
      192,
      0,
      2,
      0,
    ])
    record.writeUInt32BE(TTL_SECONDS, 6)
    record[15] = Number(number) % 256
    parts.push(record)
  }
  return Buffer.concat(parts)
}

function endOfQuestion(query: Buffer): number {
  let at = HEADER_BYTES
  while (query[at] !== 0 && at < query.length) at += 1 + query[at]!
  return at + 5
}
