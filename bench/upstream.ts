/**
 * The upstream of the benchmarks (upstream.c), running, and the names that it is asked for. It
 * knows every name, so the names of a benchmark are those of its query file (names.ts).
 */
import { readFileSync } from 'node:fs'
import type { Namespace } from '../test/support/netns.ts'
import type { RunningProcess } from '../test/support/process.ts'

export interface UpstreamOptions {
  readonly address: string
  /** Written by the upstream: queries that it answered. */
  readonly countFile: string
  /** How many different addresses its answers have. */
  readonly addresses: number
}

const DNS_PORT = 53

export class Upstream implements AsyncDisposable {
  readonly process: RunningProcess
  readonly #countFile: string

  /** @param program  upstream.c, compiled */
  static async start(
    namespace: Namespace,
    program: string,
    options: UpstreamOptions,
  ): Promise<Upstream> {
    const { address, countFile, addresses } = options
    const words = [address, String(DNS_PORT), countFile, String(addresses)]
    return new Upstream(await namespace.start(program, words, { ready: 'ready' }), countFile)
  }

  private constructor(process: RunningProcess, countFile: string) {
    this.process = process
    this.#countFile = countFile
  }

  /** Queries answered so far: while a cache is measured this must stand still. */
  answered(): number {
    return Number(readFileSync(this.#countFile).readBigUInt64LE())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]()
  }
}
