/**
 * Probes: the questions that ill servers are asked to see whether they are well again.
 *
 * Each asks for a name that nobody can guess, at random below the group's zone. So a probe that
 * comes to us as a client's question has come through that server: it forwards to us, or is us, and
 * to ask it is to go round in a circle. No client can pretend that by asking for a known name (the
 * fault of CoreDNS's loop plugin, CVE-2026-26018). A server in a loop is always ill first, because
 * its answers wait for its own.
 *
 * With two processes at one set of sockets the other one may be handed the question. Then it asks
 * in turn, and each finds its own loop after a few probes.
 */
import { areBytesEqual, copyBytes } from '../wire/bytes.ts'
import { CLASS_IN, TYPE_A } from '../wire/header.ts'
import { NAME_BYTES_MAX } from '../wire/name.ts'
import type { FlightQuestion } from './transport.ts'

/** Under way at one time; the next wait for their turn. */
export const PROBES_MAX = 32
const LABEL_BYTES = 32
const NAME_ROOM = NAME_BYTES_MAX + 1
const HEX = new TextEncoder().encode('0123456789abcdef')

export class Probes {
  /** The name of probe n, wire form, lower case, at n × NAME_ROOM. */
  readonly #names = new Uint8Array(PROBES_MAX * NAME_ROOM)
  /** 0: free. */
  readonly #nameBytes = new Uint16Array(PROBES_MAX)
  readonly hasReturned = new Uint8Array(PROBES_MAX)
  /** Reused: what `question` returns is valid until it is called again. */
  readonly #question = {
    ...{ name: this.#names, nameAt: 0, nameBytes: 0, type: TYPE_A, class: CLASS_IN },
    ...{ isDnssecOk: false, isCheckingDisabled: false },
  }
  readonly #random: () => number
  #count = 0

  /** @param random  0 to 65,535, not to be guessed */
  constructor(random: () => number) {
    this.#random = random
  }

  question(probe: number): FlightQuestion {
    this.#question.nameAt = probe * NAME_ROOM
    this.#question.nameBytes = this.#nameBytes[probe]!
    return this.#question
  }

  /** A free probe with a new name below the zone; -1: none is free. */
  begin(zone: Uint8Array): number {
    const probe = this.#nameBytes.indexOf(0)
    if (probe < 0) return -1
    // A zone too deep for the label is probed itself: then a loop is not told from an illness.
    const label = 1 + LABEL_BYTES + zone.length <= NAME_BYTES_MAX ? 1 + LABEL_BYTES : 0
    const at = probe * NAME_ROOM
    if (label > 0) this.#putLabel(at)
    copyBytes(zone, 0, zone.length, this.#names, at + label)
    this.#nameBytes[probe] = label + zone.length
    this.hasReturned[probe] = 0
    this.#count++
    return probe
  }

  end(probe: number): void {
    this.#nameBytes[probe] = 0
    this.#count--
  }

  /** The probe that asks for this name, or -1. */
  find(name: Uint8Array, nameAt: number, nameBytes: number): number {
    if (this.#count === 0 || name[nameAt] !== LABEL_BYTES) return -1
    for (let probe = 0; probe < PROBES_MAX; probe++) {
      if (this.#nameBytes[probe] !== nameBytes) continue
      if (areBytesEqual(this.#names, probe * NAME_ROOM, name, nameAt, nameBytes)) return probe
    }
    return -1
  }

  #putLabel(at: number): void {
    this.#names[at] = LABEL_BYTES
    for (let index = 0; index < LABEL_BYTES; index += 4) {
      const word = this.#random()
      for (let digit = 0; digit < 4; digit++) {
        this.#names[at + 1 + index + digit] = HEX[(word >> (4 * digit)) & 15]!
      }
    }
  }
}
