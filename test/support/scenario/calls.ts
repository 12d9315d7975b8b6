/**
 * How a test talks with the programs that it starts inside namespaces: calls by a unix socket, in
 * lines of JSON, any number under way at once. (Socket files are seen from every network
 * namespace.) Such a program lives for one test: it ends when the test's connection does.
 *
 *     test      {"id":1,"name":"connect","args":{…}}
 *     program   {"id":1,"result":"open"}   or   {"id":1,"error":"…"}
 */
import { once } from 'node:events'
import { createConnection, createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'

export type CallHandlers = Readonly<Record<string, (args: never) => unknown>>

/** The program's side: takes the one connection, and says 'ready' on standard output. */
export function serveCalls(socketPath: string, handlers: CallHandlers): void {
  const server = createServer((socket) => {
    server.close()
    socket.on('error', () => {})
    socket.on('close', () => process.exit(0))
    createInterface({ input: socket }).on('line', (line) => void answer(socket, handlers, line))
  })
  server.listen(socketPath, () => process.stdout.write('ready\n'))
}

async function answer(socket: Socket, handlers: CallHandlers, line: string): Promise<void> {
  const { id, name, args } = JSON.parse(line) as { id: number; name: string; args: never }
  try {
    const result = (await handlers[name]!(args)) ?? null
    socket.write(`${JSON.stringify({ id, result })}\n`)
  } catch (error) {
    socket.write(`${JSON.stringify({ id, error: (error as Error).message })}\n`)
  }
}

/** The test's side. */
export class Caller implements Disposable {
  readonly #socket: Socket
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>()
  #nextId = 1

  static async connect(socketPath: string): Promise<Caller> {
    const socket = createConnection(socketPath)
    await once(socket, 'connect')
    return new Caller(socket)
  }

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('error', () => {}) // 'close' follows
    socket.on('close', () => {
      for (const one of this.#waiting.values()) one.reject(new Error('the program has ended'))
    })
    createInterface({ input: socket }).on('line', (line) => {
      const { id, result, error } = JSON.parse(line) as {
        id: number
        result: unknown
        error?: string
      }
      const one = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (error === undefined) one?.resolve(result)
      else one?.reject(new Error(error))
    })
  }

  call<Result>(name: string, args: object = {}): Promise<Result> {
    const one = Promise.withResolvers<unknown>()
    const id = this.#nextId++
    this.#waiting.set(id, one)
    this.#socket.write(`${JSON.stringify({ id, name, args })}\n`)
    return one.promise as Promise<Result>
  }

  [Symbol.dispose](): void {
    this.#socket.destroy()
  }
}
