/**
 * DNS over TLS to upstreams (RFC 7858): the main thread's part, because Node's TLS lives where an
 * event loop turns.
 *
 * The worker keeps its connections as ever (upstream/streams.ts), in clear text into one end of a
 * pair of sockets. What comes out of the other end goes on here, encrypted, and back.
 *
 * What must stay true: nothing of a question leaves before the server is known to be the one that
 * was meant (strict, RFC 8310 §5): its certificate is for serverName and of an authority that is
 * trusted, its key is pinned, or both if both are given. A server that is not is a server that does
 * not answer: the worker sees its end closed, and asks the next one.
 */
import { createHash } from 'node:crypto'
import { isIP, Socket } from 'node:net'
import { checkServerIdentity, connect, type TLSSocket } from 'node:tls'
import { formatAddress } from '../identity/address.ts'
import type { Log } from '../log.ts'
import type { Server, TlsIdentity } from '../upstream/routes.ts'

/** A try has a second; who has given up by then is not waited for much longer. */
const HANDSHAKE_MS = 2000

export class TlsRelay {
  readonly #log: Log
  /** What went wrong last, by server: said when it changes. */
  readonly #failures = new Map<string, string>()

  constructor(log: Log) {
    this.#log = log
  }

  /** @param fd  the near end; ours from now on */
  connect(fd: number, server: Server): void {
    const { identity } = server
    const near = new Socket({ fd, readable: true, writable: true })
    const host = formatAddress(server.address, 0, server.family)
    const text = `${server.family === 4 ? host : `[${host}]`}:${server.port}`
    const far = connect({ host, port: server.port, ...settingsOf(identity!) })
    const timer = setTimeout(() => far.destroy(new Error('no handshake in time')), HANDSHAKE_MS)
    near.unref()
    far.unref()
    far.on('secureConnect', () => {
      clearTimeout(timer)
      const fault = pinFault(far, identity!)
      if (fault !== null) {
        far.destroy(new Error(fault))
        return
      }
      this.#note(text, null)
      near.pipe(far)
      far.pipe(near)
    })
    near.on('error', () => {}) // the worker gave up; 'close' follows
    near.on('close', () => far.destroy())
    far.on('error', (error) => this.#note(text, error.message))
    far.on('close', () => {
      clearTimeout(timer)
      near.destroy()
    })
  }

  #note(server: string, failure: string | null): void {
    const former = this.#failures.get(server) ?? null
    if (former === failure) return
    if (failure === null) {
      this.#failures.delete(server)
      this.#log.info({ server }, 'upstream answers over TLS again')
    } else {
      this.#failures.set(server, failure)
      this.#log.warn({ server, error: failure }, 'upstream cannot be asked over TLS')
    }
  }
}

function settingsOf({ serverName, pins }: TlsIdentity) {
  const common = { minVersion: 'TLSv1.2', ALPNProtocols: ['dot'] } as const
  if (serverName === null) return { ...common, rejectUnauthorized: pins.length === 0 }
  return {
    ...common,
    // An address is no name to announce (RFC 6066 §3), but a certificate may be for one.
    servername: isIP(serverName) === 0 ? serverName : '',
    checkServerIdentity: (_host: string, certificate: Parameters<typeof checkServerIdentity>[1]) =>
      checkServerIdentity(serverName, certificate),
  }
}

/** What is wrong with the server's key, if it is pinned. */
function pinFault(socket: TLSSocket, { pins }: TlsIdentity): string | null {
  if (pins.length === 0) return null
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) return 'the server has no certificate'
  const key = certificate.publicKey.export({ type: 'spki', format: 'der' })
  const pin = createHash('sha256').update(key).digest('base64')
  return pins.includes(pin) ? null : `the key of the server is ${pin}, which is not among pins`
}
