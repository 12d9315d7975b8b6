/**
 * The command's side of the control socket (observe/control.ts has the protocol).
 *
 * Most commands can be answered by either daemon: the agent is asked first, the proxy when the
 * agent is not there. "Not there" includes one that hangs: the kernel accepts connections for a
 * stopped process, so only its hello proves that it runs, and only its beats that it still does.
 */
import { createConnection, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { CONTROL_PROTOCOL, controlSocketPath } from '../observe/control.ts'
import { EXIT_NO, EXIT_UNREACHABLE, Failure } from './failure.ts'

export type Role = 'agent' | 'proxy'
export const ROLES: readonly Role[] = ['agent', 'proxy']

export interface Question {
  /** Directory of the sockets. */
  readonly run: string
  /** In the order in which they are tried. */
  readonly roles: readonly Role[]
  readonly command: string
  readonly args: Readonly<Record<string, unknown>>
}

/** How long a daemon may be silent before it counts as hanging: its hello, and between beats. */
const HELLO_MS = 1000
const SILENCE_MS = 4000

/** A daemon that does not answer. `isGone`: it did at first. */
export class NoAnswer extends Failure {
  readonly role: Role
  readonly isGone: boolean

  constructor(role: Role, message: string, isGone: boolean) {
    super(EXIT_UNREACHABLE, message)
    this.role = role
    this.isGone = isGone
  }
}

/** Rows of the first daemon that answers; throws Failure when none does or it says no. */
export async function* ask<Row>(question: Question): AsyncGenerator<Row, Role> {
  const { run, roles, command, args } = question
  const silent: NoAnswer[] = []
  for (const role of roles) {
    try {
      yield* askOne<Row>(run, role, command, args)
      return role
    } catch (error) {
      if (!(error instanceof NoAnswer) || error.isGone) throw error
      silent.push(error)
    }
  }
  const tried = silent.map(({ message }) => message).join('; ')
  throw new Failure(
    EXIT_UNREACHABLE,
    `no daemon answers: ${tried}; start one (namegate proxy -c FILE), or give the FILE that it was started with by -c`,
  )
}

/** Rows of one daemon; throws NoAnswer when it is not there or stops answering. */
export async function* askOne<Row>(
  run: string,
  role: Role,
  command: string,
  args: Readonly<Record<string, unknown>>,
): AsyncGenerator<Row> {
  const socketPath = controlSocketPath(run, role)
  const socket = createConnection(socketPath)
  try {
    await connected(socket, role, socketPath)
    const lines = createInterface({ input: socket })[Symbol.asyncIterator]()
    const hello = await nextMessage(lines, HELLO_MS)
    if (hello === 'silent' || hello === 'closed') {
      const message = `${role} (${socketPath}): accepts connections and says nothing: it hangs`
      throw new NoAnswer(role, message, false)
    }
    checkHello(hello)
    socket.write(`${JSON.stringify({ command, args })}\n`)
    for (;;) {
      const message = await nextMessage(lines, SILENCE_MS)
      if (message === 'silent' || message === 'closed') {
        const what = message === 'closed' ? 'went away' : 'stopped answering'
        throw new NoAnswer(role, `the ${role} ${what} before it had answered`, true)
      }
      if (message['error']) {
        const { code, message: text } = message['error'] as { code: string; message: string }
        throw new Failure(EXIT_NO, `${role}: ${text}`, code)
      }
      if (message['end']) return
      if (message['row']) yield message['row'] as Row
    }
  } finally {
    socket.destroy()
  }
}

async function connected(socket: Socket, role: Role, socketPath: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.on('error', (error: NodeJS.ErrnoException) => {
      const isAbsent = error.code === 'ENOENT' || error.code === 'ECONNREFUSED'
      const why = isAbsent ? 'is not running' : explain(error)
      reject(new NoAnswer(role, `${role} (${socketPath}): ${why}`, false))
    })
  })
}

function explain(error: NodeJS.ErrnoException): string {
  if (error.code === 'EACCES') return 'permission denied: it belongs to another user (sudo?)'
  if (error.code === 'EAGAIN') return 'its queue is full: it hangs'
  return error.message
}

type Message = Readonly<Record<string, unknown>>

async function nextMessage(
  lines: AsyncIterator<string>,
  patienceMs: number,
): Promise<Message | 'silent' | 'closed'> {
  let timer: NodeJS.Timeout | undefined
  const silence = new Promise<'silent'>((resolve) => {
    timer = setTimeout(resolve, patienceMs, 'silent')
  })
  try {
    const next = await Promise.race([lines.next(), silence])
    if (next === 'silent') return next
    return next.done ? 'closed' : (JSON.parse(next.value) as Message)
  } catch (error) {
    if (error instanceof SyntaxError) throw new Failure(EXIT_NO, 'the daemon speaks no JSON')
    return 'closed'
  } finally {
    clearTimeout(timer)
  }
}

function checkHello(message: Message): void {
  if (message['error']) {
    const { code, message: text } = message['error'] as { code: string; message: string }
    throw new Failure(EXIT_NO, text, code)
  }
  const hello = message['hello'] as { protocol?: unknown } | undefined
  if (hello?.protocol === CONTROL_PROTOCOL) return
  throw new Failure(EXIT_NO, 'the daemon is of another release; use the namegate of that release')
}
