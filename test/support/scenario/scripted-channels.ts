/**
 * The forwarder's channels without sockets: what it asks goes to scripted servers, and what they say
 * comes back by the clock. As with sockets, nothing arrives at a channel that was closed meanwhile,
 * and a datagram waits until it is read.
 */
import assert from 'node:assert/strict'
import { formatAddress } from '../../../src/identity/address.ts'
import {
  CHANNEL_FAILED,
  type Channels,
  NOTHING_YET,
  QUESTION_AT,
  QUESTION_BYTES,
} from '../../../src/upstream/channel.ts'
import type { Server } from '../../../src/upstream/routes.ts'
import { MESSAGE_BYTES_MAX } from '../../../src/wire/header.ts'
import type { VirtualClock } from '../clock.ts'
import type { ScriptedServer } from './server-script.ts'

/** There and back: nothing is answered in the moment it is asked. */
const ROUND_TRIP_MS = 1

interface Open {
  readonly waiting: (Uint8Array | 'refused')[]
}

export class ScriptedChannels implements Channels {
  readonly questions: Uint8Array
  readonly message = new Uint8Array(QUESTION_AT + MESSAGE_BYTES_MAX)
  readonly reply = new Uint8Array(MESSAGE_BYTES_MAX + 1)
  readonly replyAt = 0
  replyBytes = 0
  readonly mismatches = 0
  /** Replies that came when nobody waited for them any more. */
  lateReplies = 0
  /** Called when a flight's channel has something; the forwarder's channelReady. */
  onReady: (flight: number) => void = () => {}
  /** Called when the server at `address` asks us something. */
  onForward: (address: string, question: Uint8Array, say: (bytes: Uint8Array) => void) => void =
    () => {}
  readonly #clock: VirtualClock
  readonly #serverOf: (address: string) => ScriptedServer
  readonly #open: (Open | null)[]

  constructor(
    flightsMax: number,
    clock: VirtualClock,
    serverOf: (address: string) => ScriptedServer,
  ) {
    this.questions = new Uint8Array(flightsMax * QUESTION_BYTES)
    this.#clock = clock
    this.#serverOf = serverOf
    this.#open = Array.from({ length: flightsMax }, () => null)
  }

  /** But for probes, which go on while a server is ill. */
  openCountBut({ from, until }: { from: number; until: number }): number {
    const isProbe = (channel: number): boolean => channel >= from && channel < until
    return this.#open.filter((open, channel) => open !== null && !isProbe(channel)).length
  }

  open(flight: number, server: Server, isStream: boolean, questionBytes: number): number {
    const at = flight * QUESTION_BYTES + QUESTION_AT
    return this.#ask(flight, server, isStream, this.questions.slice(at, at + questionBytes))
  }

  openRelay(flight: number, server: Server, isStream: boolean, messageBytes: number): number {
    const message = this.message.slice(QUESTION_AT, QUESTION_AT + messageBytes)
    return this.#ask(flight, server, isStream, message)
  }

  #ask(flight: number, server: Server, isStream: boolean, question: Uint8Array): number {
    assert(this.#open[flight] === null, 'one channel a flight')
    const channel: Open = { waiting: [] }
    this.#open[flight] = channel
    const address = formatAddress(server.address, 0, server.family)
    const said = this.#serverOf(address).ask(question, isStream)
    for (const one of said) {
      const { bytes } = one
      this.#clock.after(ROUND_TRIP_MS + one.afterMs, () => {
        if (bytes !== 'forwarded') this.#arrive(flight, channel, bytes)
        else this.onForward(address, question, (reply) => this.#arrive(flight, channel, reply))
      })
    }
    return 0
  }

  #arrive(flight: number, channel: Open, said: Uint8Array | 'refused'): void {
    if (this.#open[flight] !== channel) {
      this.lateReplies++
      return
    }
    channel.waiting.push(said)
    this.onReady(flight)
  }

  ready(): void {}

  next(flight: number): number {
    const said = this.#open[flight]?.waiting.shift()
    if (said === undefined) return NOTHING_YET
    if (said === 'refused') {
      this.replyBytes = CHANNEL_FAILED
      this.close(flight)
      return flight
    }
    this.reply.set(said)
    this.replyBytes = said.length
    return flight
  }

  distrust(): void {}

  flush(): void {}

  sweep(): void {}

  close(flight: number): void {
    this.#open[flight] = null
  }
}
