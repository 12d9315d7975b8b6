/**
 * The control server: how commands ask a daemon, over a unix stream socket in `run`.
 *
 * One question a connection, in lines of JSON:
 *
 *     server  {"hello":{"role":"agent","pid":41,"protocol":1}}     at once, so that a client
 *                                                                  notices a daemon that hangs
 *     client  {"command":"observe","args":{"follow":true}}
 *     server  {"row":{…}}                                          any number
 *     server  {"beat":1}                                           every second while rows may come
 *     server  {"end":true}   or   {"error":{"code":"…","message":"…"}}
 *
 * Everybody who can open the socket may read what clients look up and clear the cache, so the
 * directory is 0700 and the socket 0600. What must stay true: no client can make the daemon wait,
 * grow or fall: lines, clients and time are bounded, a reader that does not read is dropped, and
 * many rows are written in slices (turns.ts).
 */
import { chmodSync, lstatSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import path from 'node:path'
import { assert } from '../assert.ts'
import type { Log } from '../log.ts'
import { Slice } from './turns.ts'

export const CONTROL_PROTOCOL = 1

/** Answers a command with rows. `signal` is aborted when the client is gone. */
export type Handler = (
  args: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
) => AsyncIterable<object>

/** A handler's way to say no. `code` is stable: 'bad-request', 'not-found', … */
export class ControlError extends Error {
  override name = 'ControlError'
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

/** The directory or the socket cannot be used. */
export class ControlSocketError extends Error {
  override name = 'ControlSocketError'
}

export interface ControlOptions {
  /** Its directory is made when it is not there. At most SOCKET_PATH_MAX bytes. */
  readonly socketPath: string
  readonly role: 'agent' | 'proxy'
  readonly log: Log
  /** How long a client may take to ask, or to take what was written to it; default 10 s. */
  readonly patienceMs?: number
}

/** sun_path of unix(7) has 108 bytes with its final zero; ours ends in '.' and the pid at first. */
export const SOCKET_PATH_MAX = 96
/** A command and a few filters; the longest question is an `explain`. */
const LINE_BYTES_MAX = 16_384
/** One person, a few scripts, a scraper. */
const CLIENTS_MAX = 32
const BEAT_MS = 1000
const PATIENCE_MS = 10_000

/** Where a daemon's control socket is. */
export function controlSocketPath(run: string, role: 'agent' | 'proxy'): string {
  return path.join(run, `${role}.ctl.sock`)
}

export class ControlServer {
  readonly #options: ControlOptions
  readonly #handlers: ReadonlyMap<string, Handler>
  readonly #server: Server
  readonly #sessions = new Set<Session>()
  #inode = 0

  /** Opens the socket; throws ControlSocketError when it cannot. */
  static async open(
    options: ControlOptions,
    handlers: Readonly<Record<string, Handler>>,
  ): Promise<ControlServer> {
    const server = new ControlServer(options, handlers)
    await server.#listen()
    return server
  }

  private constructor(options: ControlOptions, handlers: Readonly<Record<string, Handler>>) {
    this.#options = options
    this.#handlers = new Map(Object.entries(handlers))
    this.#server = createServer((socket) => this.#accept(socket))
  }

  get sessionCount(): number {
    return this.#sessions.size
  }

  /** Ends all sessions and removes the socket, unless another process has put its own there. */
  async close(): Promise<void> {
    for (const session of this.#sessions) session.close()
    await new Promise((resolve) => this.#server.close(resolve))
    if (inodeOf(this.#options.socketPath) === this.#inode) {
      rmSync(this.#options.socketPath, { force: true })
    }
  }

  /**
   * Binds beside the path and renames onto it: a path left by a dead process is replaced without
   * a moment in which there is none, and closing does not remove a successor's (libuv unlinks the
   * name it has bound). Which process may run at all is not decided here but by its lock.
   */
  async #listen(): Promise<void> {
    const { socketPath } = this.#options
    if (Buffer.byteLength(socketPath) > SOCKET_PATH_MAX) {
      throw new ControlSocketError(
        `${socketPath}: longer than a socket's path may be (${SOCKET_PATH_MAX} bytes); set run in the configuration`,
      )
    }
    openDirectory(path.dirname(socketPath))
    const temporary = `${socketPath}.${process.pid}`
    rmSync(temporary, { force: true })
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(temporary, resolve)
    })
    this.#server.on('error', (error) => {
      this.#options.log.error({ error, unexpected: true }, 'the control socket failed')
    })
    chmodSync(temporary, 0o600)
    renameSync(temporary, socketPath)
    this.#inode = inodeOf(socketPath)
  }

  #accept(socket: Socket): void {
    const session = new Session(socket, this.#options, this.#handlers)
    if (this.#sessions.size >= CLIENTS_MAX) {
      session.refuse('busy', `${CLIENTS_MAX} clients are connected already; try again`)
      return
    }
    this.#sessions.add(session)
    socket.on('close', () => this.#sessions.delete(session))
    session.start()
  }
}

/** What a client's line asks for; throws ControlError. Exported for its fuzz target. */
export function readCommand(line: string): {
  readonly command: string
  readonly args: Readonly<Record<string, unknown>>
} {
  let request: unknown
  try {
    request = JSON.parse(line)
  } catch {
    throw new ControlError('bad-request', 'a request is one line of JSON')
  }
  const { command, args = {} } = isRecord(request) ? request : {}
  if (typeof command !== 'string' || !isRecord(args)) {
    throw new ControlError('bad-request', 'a request is {"command": …, "args": {…}}')
  }
  return { command, args }
}

/** One connection. */
class Session {
  readonly #socket: Socket
  readonly #options: ControlOptions
  readonly #handlers: ReadonlyMap<string, Handler>
  readonly #gone = new AbortController()
  readonly #patienceMs: number
  #received: Buffer = Buffer.alloc(0)
  #patience: NodeJS.Timeout | undefined

  constructor(socket: Socket, options: ControlOptions, handlers: ReadonlyMap<string, Handler>) {
    this.#socket = socket
    this.#options = options
    this.#handlers = handlers
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      clearTimeout(this.#patience)
      this.#gone.abort()
    })
  }

  start(): void {
    const { role } = this.#options
    void this.#write({ hello: { role, pid: process.pid, protocol: CONTROL_PROTOCOL } })
    this.#beginPatience()
    this.#socket.on('data', (bytes: Buffer) => this.#receive(bytes))
  }

  close(): void {
    this.#socket.destroy()
  }

  refuse(code: string, message: string): void {
    this.#finish({ error: { code, message } })
  }

  /** The last line; a client that then neither reads nor closes is dropped. */
  #finish(message: object): void {
    if (this.#socket.destroyed) return
    this.#socket.end(`${JSON.stringify(message)}\n`)
    this.#beginPatience()
  }

  #receive(bytes: Buffer): void {
    this.#received = Buffer.concat([this.#received, bytes])
    const end = this.#received.indexOf(0x0a)
    if (end < 0 && this.#received.length <= LINE_BYTES_MAX) return
    this.#socket.removeAllListeners('data')
    this.#socket.resume() // to notice that the client closes
    clearTimeout(this.#patience)
    if (end < 0 || end > LINE_BYTES_MAX) {
      this.refuse('bad-request', `a request has at most ${LINE_BYTES_MAX} bytes`)
      return
    }
    void this.#answer(this.#received.subarray(0, end).toString())
  }

  async #answer(line: string): Promise<void> {
    const beat = setInterval(() => void this.#beat(), BEAT_MS)
    try {
      const { handler, args } = this.#parse(line)
      const slice = new Slice()
      for await (const row of handler(args, this.#gone.signal)) {
        if (this.#gone.signal.aborted) return
        if (!(await this.#write({ row }))) return
        if (slice.isOver) await slice.next()
      }
      this.#finish({ end: true })
    } catch (error) {
      if (this.#gone.signal.aborted) return
      if (error instanceof ControlError) this.refuse(error.code, error.message)
      else {
        this.#options.log.error({ error, unexpected: true }, 'a command could not be answered')
        this.refuse('failed', `${(error as Error).message}; the daemon's log has more`)
      }
    } finally {
      clearInterval(beat)
    }
  }

  #parse(line: string): { handler: Handler; args: Readonly<Record<string, unknown>> } {
    const { command, args } = readCommand(line)
    const handler = this.#handlers.get(command)
    if (!handler) {
      const known = [...this.#handlers.keys()].join(', ')
      throw new ControlError('unknown-command', `no command '${command}'; known are ${known}`)
    }
    return { handler, args }
  }

  /** A beat only goes out when nothing waits: it tells that we run, not that the client reads. */
  async #beat(): Promise<void> {
    if (this.#socket.writableLength === 0) await this.#write({ beat: 1 })
  }

  /** Writes one line; resolves when there is room for the next, to false when the client is gone. */
  async #write(message: object): Promise<boolean> {
    const socket = this.#socket
    if (socket.destroyed || socket.writableEnded) return false
    if (socket.write(`${JSON.stringify(message)}\n`)) return true
    this.#beginPatience()
    await new Promise<void>((resolve) => {
      const done = () => {
        socket.off('drain', done)
        socket.off('close', done)
        resolve()
      }
      socket.on('drain', done)
      socket.on('close', done)
    })
    clearTimeout(this.#patience)
    return !socket.destroyed
  }

  #beginPatience(): void {
    clearTimeout(this.#patience)
    this.#patience = setTimeout(() => this.#socket.destroy(), this.#patienceMs)
  }
}

/**
 * Makes the directory with mode 0700. One that exists must be ours and writable for nobody else:
 * whoever can write it could put a socket of his own there.
 */
function openDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new ControlSocketError(
      `create ${directory}: ${(error as Error).message}; set run in the configuration to a directory that can be made`,
      { cause: error },
    )
  }
  const { uid, mode } = statSync(directory)
  assert(process.getuid !== undefined, 'this is a Unix')
  if (uid !== process.getuid() || (mode & 0o022) !== 0) {
    throw new ControlSocketError(
      `${directory}: others can write there or own it; it must belong to user ${process.getuid()} with mode 0700`,
    )
  }
}

/** 0 when nothing is there. */
function inodeOf(file: string): number {
  return lstatSync(file, { throwIfNoEntry: false })?.ino ?? 0
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
