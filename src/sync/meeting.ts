/**
 * How two processes find each other and agree on one connection.
 *
 * Each listens at `<run>/<role>.sync.sock` and, while it has no link, tries to connect to the
 * other's path; so it does not matter who starts first. Both may succeed at the same moment: the
 * proxy says HELLO on every connection, whoever opened it, and the agent answers with its own on
 * the one that is to be the link. One chooses, so there is nothing to disagree about, and no
 * message is ever sent on a connection that is then given up.
 *
 * What must stay true: only processes of our user get further than `accept`; a connection that has
 * not said HELLO is one of a few and does not live long; nobody here waits. A peer that is stopped
 * accepts nothing, and one attempt then stays open until it goes on, instead of ever new ones.
 */
import { rmSync } from 'node:fs'
import path from 'node:path'
import { assert } from '../assert.ts'
import { EAGAIN, ECONNREFUSED, ENOENT, errnoText } from '../linux/errno.ts'
import { type Watch, watchReadable } from '../linux/event-loop.ts'
import { close } from '../linux/socket.ts'
import {
  acceptSeqpacket,
  connectSeqpacket,
  listenSeqpacket,
  peerCredentials,
} from '../linux/unix.ts'
import type { Repeats } from '../log.ts'
import { Connection, type ConnectionOwner } from './connection.ts'
import type { Role } from './peer.ts'
import {
  GOODBYE,
  type GoodbyeReason,
  HELLO,
  type Hello,
  json,
  readGoodbye,
  readHello,
} from './protocol.ts'

/** Connections that have not said HELLO; there is one peer, and it opens one at a time. */
const STRANGERS_MAX = 8
/** Of our running time; the peer says HELLO at once. */
const STRANGER_MS = 2000
const ACCEPTS_MAX = 16
/** At least, between attempts while nobody is there: at each tick, if nobody waits. */
const RETRY_MS = 300
/** After somebody was there with whom we could not agree. */
const RETRY_REFUSED_MS = 5000

export interface MeetingOptions {
  readonly run: string
  readonly role: Role
  readonly repeats: Repeats
}

/** The link's side; what `ConnectionOwner` says is said of the connection that became the link. */
export interface MeetingOwner extends ConnectionOwner {
  /** The body of our HELLO, with what is held at this moment. */
  hello(): Uint8Array
  /** A connection has become the link; the one before it, if any, has ended. */
  linked(connection: Connection, hello: Hello): void
  /** Something was refused or broke the rules. */
  refused(): void
}

/** The path of a role's listening socket. */
export function syncSocketPath(run: string, role: Role): string {
  return path.join(run, `${role}.sync.sock`)
}

export class Meeting {
  readonly #options: MeetingOptions
  readonly #owner: MeetingOwner
  readonly #peerRole: Role
  readonly #listener: number
  #watch: Watch | null = null
  /** Running time at which each that has not said HELLO ends; Infinity for our own attempt. */
  readonly #strangers = new Map<Connection, number>()
  #attempt: Connection | null = null
  #link: { readonly connection: Connection; readonly instance: string } | null = null
  #runningMs = 0
  #retryAtMs = 0

  /** Listens, and tries to connect at once. Throws SocketError, EADDRINUSE when our role runs. */
  constructor(options: MeetingOptions, owner: MeetingOwner) {
    this.#options = options
    this.#owner = owner
    this.#peerRole = options.role === 'agent' ? 'proxy' : 'agent'
    this.#listener = listenSeqpacket(syncSocketPath(options.run, options.role))
    this.#listen()
  }

  /** To be called every 100 to 500 ms, with what of it was our running time. */
  tick(passedMs: number): void {
    this.#runningMs += passedMs
    if (this.#watch === null) this.#listen()
    for (const [connection, endMs] of this.#strangers) {
      if (this.#runningMs < endMs) continue
      this.#forget(connection)
      this.#refuse('said nothing', {})
    }
    if (this.#link === null && this.#runningMs >= this.#retryAtMs) this.#connect()
  }

  /** Whether anybody is at the peer's path, found out now. */
  isAnybodyThere(): boolean {
    if (this.#link !== null || this.#strangers.size > 0) return true
    return this.#connect()
  }

  /** The link has ended: look for another. */
  unlinked(isFault: boolean): void {
    this.#link = null
    if (isFault) this.#retryAtMs = this.#runningMs + RETRY_REFUSED_MS
  }

  /** Ends everything but the link, which is its owner's. */
  close(): void {
    this.#watch?.close()
    this.#watch = null
    close(this.#listener)
    rmSync(syncSocketPath(this.#options.run, this.#options.role), { force: true })
    for (const connection of this.#strangers.keys()) this.#forget(connection)
  }

  #listen(): void {
    this.#watch = watchReadable(this.#listener, () => this.#accept())
  }

  #accept(): void {
    for (let count = 0; count < ACCEPTS_MAX && this.#watch !== null; count++) {
      const fd = acceptSeqpacket(this.#listener)
      if (fd === -EAGAIN) return
      if (fd < 0) {
        // No descriptor left, most likely: not again in this turn, nor in every turn from now on.
        this.#refuse('could not be accepted', { error: errnoText(-fd) })
        this.#watch.close()
        this.#watch = null
        return
      }
      if (!this.#isOurUser(fd)) close(fd)
      else if (this.#strangers.size >= STRANGERS_MAX) {
        close(fd)
        this.#refuse('is one too many', { strangers: this.#strangers.size })
      } else this.#greet(fd, this.#runningMs + STRANGER_MS)
    }
  }

  /** False when nobody listens there. */
  #connect(): boolean {
    this.#retryAtMs = this.#runningMs + RETRY_MS
    if (this.#attempt !== null) return true
    const fd = connectSeqpacket(syncSocketPath(this.#options.run, this.#peerRole))
    if (fd === -ENOENT || fd === -ECONNREFUSED) return false
    if (fd < 0) {
      // EAGAIN: so many wait there already that somebody must be stopped.
      if (fd !== -EAGAIN) this.#refuse('could not be opened', { error: errnoText(-fd) })
      return true
    }
    if (this.#isOurUser(fd)) this.#attempt = this.#greet(fd, Number.POSITIVE_INFINITY)
    else close(fd)
    return true
  }

  #isOurUser(fd: number): boolean {
    const { uid, pid } = peerCredentials(fd)
    assert(process.getuid !== undefined, 'this is a Unix')
    if (uid === process.getuid()) return true
    this.#refuse('is of another user', { uid, pid })
    return false
  }

  #greet(fd: number, endMs: number): Connection {
    const connection = new Connection(fd, {
      received: (type, body, descriptors) => this.#received(connection, type, body, descriptors),
      ended: (why, isFault) => this.#ended(connection, why, isFault),
    })
    this.#strangers.set(connection, endMs)
    if (this.#options.role === 'proxy') connection.send(HELLO, this.#owner.hello())
    return connection
  }

  #received(
    connection: Connection,
    type: number,
    body: Uint8Array,
    descriptors: number[],
  ): 'fine' | 'malformed' {
    if (connection === this.#link?.connection) {
      return this.#owner.received(type, body, descriptors)
    }
    if (type === GOODBYE) {
      const reason = readGoodbye(body)
      if (reason !== 'spare' && reason !== 'stopping') {
        this.#delay()
        this.#refuse('was refused by the peer', { reason })
      }
      this.#forget(connection)
      return 'fine'
    }
    const hello = type === HELLO ? readHello(body) : null
    if (hello === null) return 'malformed'
    if ('otherProtocol' in hello) {
      this.#delay()
      this.#dismiss(connection, 'protocol')
      this.#refuse('speaks another protocol', { protocols: hello.otherProtocol })
    } else if (hello.role !== this.#peerRole) {
      this.#delay()
      this.#dismiss(connection, 'role')
      this.#refuse('has a role that we have no place for', { role: hello.role })
    } else this.#choose(connection, hello)
    return 'fine'
  }

  /** Both sides' rule: the agent takes the first, the proxy what the agent took. */
  #choose(connection: Connection, hello: Hello): void {
    const { role } = this.#options
    const former = this.#link
    if (role === 'agent' && former?.instance === hello.instance) {
      this.#dismiss(connection, 'spare')
      return
    }
    if (former !== null) {
      // A new process of that role: the former one is dead, and we have not yet read its end.
      former.connection.close()
      this.#link = null
      this.#owner.ended('replaced by a new process', false)
    }
    this.#strangers.delete(connection)
    if (connection === this.#attempt) this.#attempt = null
    if (this.#attempt !== null) this.#dismiss(this.#attempt, 'spare')
    if (role === 'agent') connection.send(HELLO, this.#owner.hello())
    this.#link = { connection, instance: hello.instance }
    this.#owner.linked(connection, hello)
  }

  #ended(connection: Connection, why: string, isFault: boolean): void {
    if (connection === this.#link?.connection) {
      this.#owner.ended(why, isFault)
      return
    }
    this.#forget(connection)
    if (isFault) {
      this.#delay()
      this.#refuse('broke the rules', { why })
    }
  }

  #dismiss(connection: Connection, reason: GoodbyeReason): void {
    connection.send(GOODBYE, json({ reason }))
    this.#forget(connection)
  }

  #forget(connection: Connection): void {
    this.#strangers.delete(connection)
    if (connection === this.#attempt) this.#attempt = null
    connection.close()
  }

  #delay(): void {
    this.#retryAtMs = this.#runningMs + RETRY_REFUSED_MS
  }

  #refuse(what: string, fields: object): void {
    this.#owner.refused()
    this.#options.repeats.warn(what, fields, `a connection between agent and proxy ${what}`)
  }
}
