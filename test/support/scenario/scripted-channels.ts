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
import type { Said, ScriptedServer } from './server-script.ts'

/** There and back: nothing is answered in the moment it is asked. */
const ROUND_TRIP_MS = 1

interface Open {
  readonly waiting: Said[]
}

export class ScriptedChannels implements Channels {
  readonly questions: Uint8Array
  readonly reply = new Uint8Array(MESSAGE_BYTES_MAX + 1)
  readonly replyAt = 0
  replyBytes = 0
  readonly mismatches = 0
  /** Replies that came when nobody waited for them any more. */
  lateReplies = 0
  /** Called when a flight's channel has something; the forwarder's channelReady. */
  onReady: (flight: number) => void = () => {}
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

  get openCount(): number {
    return this.#open.filter((channel) => channel !== null).length
  }

  open(flight: number, server: Server, isStream: boolean, questionBytes: number): number {
    assert(this.#open[flight] === null, 'one channel a flight')
    const channel: Open = { waiting: [] }
    this.#open[flight] = channel
    const at = flight * QUESTION_BYTES + QUESTION_AT
    const address = formatAddress(server.address, 0, server.family)
    const said = this.#serverOf(address).ask(this.questions.slice(at, at + questionBytes), isStream)
    for (const one of said) {
      this.#clock.after(ROUND_TRIP_MS + one.afterMs, () => {
        if (this.#open[flight] !== channel) {
          this.lateReplies++
          return
        }
        channel.waiting.push(one)
        this.onReady(flight)
      })
    }
    return 0
  }

  ready(): void {}

  next(flight: number): number {
    const said = this.#open[flight]?.waiting.shift()
    if (said === undefined) return NOTHING_YET
    if (said.bytes === 'refused') {
      this.replyBytes = CHANNEL_FAILED
      this.close(flight)
      return flight
    }
    this.reply.set(said.bytes)
    this.replyBytes = said.bytes.length
    return flight
  }

  distrust(): void {}

  flush(): void {}

  sweep(): void {}

  close(flight: number): void {
    this.#open[flight] = null
  }
}
