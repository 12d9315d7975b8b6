/**
 * The other side of scenarios: a program in the `internet` namespace with the upstream servers of a
 * scenario (server-script.ts, on real sockets), and whatever a client is to connect to.
 *
 *     node internet-program.ts SOCKET     serves the calls of `handlers` below (calls.ts)
 */
import assert from 'node:assert/strict'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { serveCalls } from './calls.ts'
import type { RecordChange, ServerFault } from './scenario.ts'
import { ScriptedServer, ServerRecords } from './server-script.ts'

/** Where a client is to find somebody. */
export interface Somebody {
  readonly protocol: 'tcp' | 'udp'
  readonly address: string
  readonly port: number
}

const DNS_PORT = 53

/** One upstream: its sockets are closed while it refuses, so that the kernel says so. */
class Upstream {
  readonly script = new ScriptedServer(new ServerRecords())
  readonly #address: string
  #udp: UdpSocket | null = null
  #tcp: Server | null = null
  readonly #connections = new Set<Socket>()

  constructor(address: string) {
    this.#address = address
  }

  async open(): Promise<void> {
    if (this.#udp !== null) return
    const udp = createSocket(this.#address.includes(':') ? 'udp6' : 'udp4')
    udp.on('message', (question, from) => {
      this.#say(question, false, (bytes) => {
        if (this.#udp === udp) udp.send(bytes, from.port, from.address)
      })
    })
    udp.bind({ port: DNS_PORT, address: this.#address })
    const tcp = createServer((socket) => this.#accept(socket))
    tcp.listen(DNS_PORT, this.#address)
    await Promise.all([once(udp, 'listening'), once(tcp, 'listening')])
    this.#udp = udp
    this.#tcp = tcp
  }

  close(): void {
    this.#udp?.close()
    this.#tcp?.close()
    for (const socket of this.#connections) socket.destroy()
    this.#udp = null
    this.#tcp = null
  }

  #accept(socket: Socket): void {
    this.#connections.add(socket)
    socket.on('close', () => this.#connections.delete(socket))
    socket.on('error', () => {}) // a client that goes away in the middle is its own matter
    let stream = Buffer.alloc(0)
    socket.on('data', (more: Buffer) => {
      stream = Buffer.concat([stream, more])
      while (stream.length >= 2 && stream.length >= 2 + stream.readUInt16BE()) {
        const end = 2 + stream.readUInt16BE()
        this.#say(stream.subarray(2, end), true, (bytes) => {
          const length = Buffer.alloc(2)
          length.writeUInt16BE(bytes.length)
          if (!socket.destroyed) socket.write(Buffer.concat([length, bytes]))
        })
        stream = stream.subarray(end)
      }
    })
  }

  #say(question: Uint8Array, isTcp: boolean, send: (bytes: Uint8Array) => void): void {
    for (const { afterMs, bytes } of this.script.ask(question, isTcp)) {
      assert(bytes !== 'forwarded', 'a server of this world reaches no daemon')
      if (bytes === 'refused') continue // it came just before the sockets were closed
      if (afterMs === 0) send(bytes)
      else setTimeout(() => send(bytes), afterMs)
    }
  }
}

const upstreams = new Map<string, Upstream>()
/** By 'protocol address port'. */
const listeners = new Map<string, Server | UdpSocket>()

serveCalls(process.argv[2]!, {
  /** A scenario begins: these servers, which know nothing, and nobody else. */
  begin: async (args: { servers: readonly string[] }) => {
    for (const upstream of upstreams.values()) upstream.close()
    upstreams.clear()
    for (const listener of listeners.values()) listener.close()
    listeners.clear()
    for (const server of args.servers) upstreams.set(server, new Upstream(server))
    await Promise.all([...upstreams.values()].map((upstream) => upstream.open()))
  },
  records: (change: RecordChange) => {
    for (const [address, { script }] of upstreams) {
      if (change.server === null || change.server === address) script.records.change(change)
    }
  },
  fault: async ({ server, fault }: { server: string; fault: ServerFault }) => {
    const upstream = upstreams.get(server)!
    upstream.script.setFault(fault)
    if (upstream.script.isRefusing) upstream.close()
    else await upstream.open()
  },
  asked: (args: { server: string; name: string; isTcp: boolean | null }) =>
    upstreams.get(args.server)!.script.askedCount(args.name, args.isTcp),
  /** Somebody is there at that address and port from now on. */
  listen: async ({ protocol, address, port }: Somebody) => {
    const key = `${protocol} ${address} ${port}`
    if (listeners.has(key)) return
    const listener = protocol === 'tcp' ? createServer((socket) => socket.end()) : echo(address)
    listeners.set(key, listener)
    if ('listen' in listener) listener.listen(port, address)
    else listener.bind({ port, address })
    await once(listener, 'listening')
  },
})

function echo(address: string): UdpSocket {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  return socket.on('message', (bytes, from) => socket.send(bytes, from.port, from.address))
}
