/**
 * A DNS server over TLS, for tests of the relay and of a running proxy: it answers everything, and
 * its certificate is of no authority that anybody trusts.
 */
import { createHash, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer, type TLSSocket } from 'node:tls'
import { answerTo } from '../upstream/forwarder-fixture.ts'
import { getU16, putU16 } from '../wire/bytes.ts'
import { PADDING_BYTES_MAX, padOpt } from '../wire/edns.ts'
import { FLAG_QR, FLAGS_AT, OPCODE_MASK } from '../wire/header.ts'
import { parseMessage } from '../wire/message.ts'
import { formatName } from '../wire/text.ts'

export class TlsServer {
  questionCount = 0
  /** Connections that went on with a former one's session. */
  resumedCount = 0
  /** Lengths of the questions, each once. */
  readonly lengths = new Set<number>()
  protocol: string | false | null = null
  readonly #sockets: TLSSocket[] = []
  readonly #server = createServer(
    { key: TEST_KEY, cert: TEST_CERTIFICATE, ALPNProtocols: ['dot'] },
    (socket) => {
      this.#sockets.push(socket)
      this.protocol = socket.alpnProtocol
      if (socket.isSessionReused()) this.resumedCount++
      socket.on('error', () => {}) // who does not trust us goes away
      let stream = Buffer.alloc(0)
      socket.on('data', (more: Buffer) => {
        stream = Buffer.concat([stream, more])
        while (stream.length >= 2 && stream.length >= 2 + stream.readUInt16BE()) {
          const bytes = stream.subarray(2, 2 + stream.readUInt16BE())
          stream = stream.subarray(2 + bytes.length)
          this.questionCount++
          this.lengths.add(bytes.length)
          const answer = replyTo(bytes)
          const length = Buffer.alloc(2)
          length.writeUInt16BE(answer.length)
          socket.write(Buffer.concat([length, answer]))
        }
      })
    },
  )

  static async start(): Promise<TlsServer> {
    const server = new TlsServer()
    server.#server.on('tlsClientError', () => {})
    server.#server.listen(0, '127.0.0.1')
    await once(server.#server, 'listening')
    return server
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get connectionCount(): number {
    return this.#sockets.length
  }

  [Symbol.dispose](): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }
}

/** Padded, as servers do for those who pad; but what is no question comes back as it is. */
function replyTo(bytes: Uint8Array): Uint8Array {
  const flags = getU16(bytes, FLAGS_AT)
  if ((flags & OPCODE_MASK) !== 0) {
    const reply = Uint8Array.from(bytes)
    putU16(reply, FLAGS_AT, flags | FLAG_QR)
    return reply
  }
  const answer = answerTo({ bytes, name: formatName(parseMessage(bytes)!.question!.name) })
  const out = new Uint8Array(answer.length + PADDING_BYTES_MAX)
  out.set(answer)
  return out.subarray(0, padOpt(out, 0, answer.length))
}

/** For dns.example.net and 127.0.0.1, of its own authority, until 2126. */
export const TEST_CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBrDCCAVOgAwIBAgIUSaDRmj+dX+fX+4VVevynZS+KNsgwCgYIKoZIzj0EAwIw
GjEYMBYGA1UEAwwPZG5zLmV4YW1wbGUubmV0MCAXDTI2MTEyMTIwNTc1NFoYDzIx
MjYxMDI4MjA1NzU0WjAaMRgwFgYDVQQDDA9kbnMuZXhhbXBsZS5uZXQwWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAAQYcndC5t1tD3CW2iRJXPovZgDIaYh6NtjEaOhw
Rdn+w/6DTFzWDxzgK0QT7Q5L2PYSX5LLZALZkqIh+KO1rxKQo3UwczAdBgNVHQ4E
FgQUn1izVc0MMK8h6J+eyzjmBTS3oXkwHwYDVR0jBBgwFoAUn1izVc0MMK8h6J+e
yzjmBTS3oXkwDwYDVR0TAQH/BAUwAwEB/zAgBgNVHREEGTAXgg9kbnMuZXhhbXBs
ZS5uZXSHBH8AAAEwCgYIKoZIzj0EAwIDRwAwRAIgBsavWpbTcqhP78GNYSaSv/91
zSZnq2HApfgkpJ7LisYCIDCl+yV25X0Mwn5jphXt6eNXlROvVFOkVeTB2YXvjAHJ
-----END CERTIFICATE-----`

/** A key that protects nothing. */
const TEST_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDb7/tyajPD9J4Da/
28ns1q8bAIwLY8dUoY61/7u/QLuhRANCAAQYcndC5t1tD3CW2iRJXPovZgDIaYh6
NtjEaOhwRdn+w/6DTFzWDxzgK0QT7Q5L2PYSX5LLZALZkqIh+KO1rxKQ
-----END PRIVATE KEY-----`

export const TEST_PIN = createHash('sha256')
  .update(new X509Certificate(TEST_CERTIFICATE).publicKey.export({ type: 'spki', format: 'der' }))
  .digest('base64')
