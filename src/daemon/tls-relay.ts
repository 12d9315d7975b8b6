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
 *
 * A connection that follows another resumes its session (RFC 8446 §2.2), which spares both ends the
 * signatures. A resumed session says that the server is the one of before, and shows no certificate:
 * so a session is kept only of a server that was known, for those of the very same identity only,
 * and no certificate is believed for longer than SESSION_MS.
 */
import { createHash } from 'node:crypto'
import { isIP, Socket } from 'node:net'
import {
  checkServerIdentity,
  connect,
  createSecureContext,
  type SecureContext,
  type TLSSocket,
} from 'node:tls'
import { formatAddress } from '../identity/address.ts'
import type { Log } from '../log.ts'
import type { Server, TlsIdentity } from '../upstream/routes.ts'

/** A try has a second; who has given up by then is not waited for much longer. */
const HANDSHAKE_MS = 2000
/** After that the server proves anew who it is, although it could go on with tickets for ever. */
const SESSION_MS = 3_600_000
/** As many as there are connections to a server. Each is used once (RFC 8446 §C.4). */
const SESSIONS_MAX = 4
/** Servers that something is kept of; a reload can bring others. */
const SERVERS_KEPT_MAX = 256

interface Session {
  readonly bytes: Buffer
  /** When the certificate was seen that it goes back to. */
  readonly verifiedMs: number
}

/** What is kept of a server from one connection to the next. */
interface Kept {
  readonly context: SecureContext
  readonly sessions: Session[]
}

export class TlsRelay {
  readonly #log: Log
  readonly #now: () => number
  /** What went wrong last, by server: said when it changes. */
  readonly #failures = new Map<string, string>()
  /** By address and identity. */
  readonly #kept = new Map<string, Kept>()

  /** @param now  milliseconds */
  constructor(log: Log, now: () => number = Date.now) {
    this.#log = log
    this.#now = now
  }

  /** @param fd  the near end; ours from now on */
  connect(fd: number, server: Server): void {
    const identity = server.identity!
    const near = new Socket({ fd, readable: true, writable: true })
    const host = formatAddress(server.address, 0, server.family)
    const text = `${server.family === 4 ? host : `[${host}]`}:${server.port}`
    const { context, sessions } = this.#keptOf(`${text} ${JSON.stringify(identity)}`, identity)
    const session = takeSession(sessions, this.#now() - SESSION_MS)
    const far = connect({
      ...{ host, port: server.port, secureContext: context, ...settingsOf(identity) },
      ...(session === null ? {} : { session: session.bytes }),
    })
    const timer = setTimeout(() => far.destroy(new Error('no handshake in time')), HANDSHAKE_MS)
    near.unref()
    far.unref()
    let verifiedMs: number | null = null
    let ticket: Buffer | null = null
    const keep = (): void => {
      if (verifiedMs === null || ticket === null) return
      sessions.push({ bytes: ticket, verifiedMs })
      if (sessions.length > SESSIONS_MAX) sessions.shift()
      ticket = null
    }
    far.on('session', (bytes) => {
      ticket = bytes // by TLS 1.2 it comes before the server is known
      keep()
    })
    far.on('secureConnect', () => {
      clearTimeout(timer)
      // What was checked when the session began holds; there is nothing to check anew.
      const isResumed = session !== null && far.isSessionReused()
      const fault = isResumed ? null : pinFault(far, identity)
      if (fault !== null) {
        far.destroy(new Error(fault))
        return
      }
      verifiedMs = isResumed ? session.verifiedMs : this.#now()
      keep()
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

  #keptOf(key: string, { authorities }: TlsIdentity): Kept {
    const known = this.#kept.get(key)
    if (known !== undefined) return known
    if (this.#kept.size === SERVERS_KEPT_MAX) this.#kept.clear()
    const settings = authorities === null ? {} : { ca: authorities }
    const context = createSecureContext({ minVersion: 'TLSv1.2', ...settings })
    const kept = { context, sessions: [] }
    this.#kept.set(key, kept)
    return kept
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

/** The newest session that goes back to a certificate seen after `sinceMs`. */
function takeSession(sessions: Session[], sinceMs: number): Session | null {
  for (;;) {
    const session = sessions.pop()
    if (session === undefined) return null
    if (session.verifiedMs > sinceMs) return session
  }
}

function settingsOf({ serverName, pins }: TlsIdentity) {
  const common = { ALPNProtocols: ['dot'] }
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
