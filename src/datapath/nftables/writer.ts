/**
 * Writes grants as packets: the worker sends itself one per grant, and a rule of ours in the output
 * hook puts its source and destination into the set that its ports name. In force when the call
 * returns, no lock of nftables taken. chains.ts has the rules (`output`, `write`, `write_…`).
 *
 * A PACKET, IPv4 28 bytes, IPv6 48 bytes, without payload and checksum: nobody ever receives it
 *     IP   source        client
 *          destination   address that is opened
 *     UDP  source port   place of this process: the rule asks whether it is alive
 *          destination   port set and timeout class (grant/timeout-class.ts);
 *                        ALIVE_PORT: "this worker is alive"; LEAVING_PORT: "for what it
 *                        has in hand"; PROBE_PORT: must be refused
 *
 * What must stay true: a grant counts as in force only if the kernel said so. Three ways in which
 * it could say so wrongly are closed:
 * - Our table is gone (somebody's `nft flush ruleset`): then nothing refuses packets any more. So
 *   each batch ends in a probe, which our own last rule refuses. Was it let through, the batch is
 *   not in force.
 * - A stranger's output rule drops packets: that reads as a refusal, never as a success, because
 *   success is an accepted packet.
 * - This worker was stopped and is late: the kernel refuses it, since its alive element is gone.
 *
 * And what was in force must be known to be gone when it is (a flush), also when everything has been
 * put back before we look again. So an alive packet makes or extends the alive element, but is
 * accepted only if the element stood: in a table that was made anew it does not (`Pulse`).
 *
 * sendmmsg stops at a refused packet and loses the errno when others went before it, so the batch
 * is resumed behind it. It returns short for no other reason (net/socket.c, __sys_sendmmsg).
 * Cost on a noisy two-core machine: see the table in writer.linux.test.ts.
 */
import { assert } from '../../assert.ts'
import { RawSender } from '../../linux/raw.ts'
import type { GrantWriter } from '../driver.ts'
import { ALIVE_PORT, LEAVING_PORT, PROBE_PORT } from './names.ts'

export interface PacketGrantWriterOptions {
  /** Ruleset.marks.write */
  readonly mark: number
  /** This process's place, 1 to PLACES_MAX. */
  readonly place: number
  /** Grants of one batch: for an answer with the most addresses and clients with the most. */
  readonly capacity: number
}

const PROTOCOL_UDP = 17
const UDP_BYTES = 8
const V4_HEADER_BYTES = 20
const V6_HEADER_BYTES = 40

/** Documentation addresses: the packets of ours that are about no client. */
const NOBODY_V4 = Uint8Array.of(192, 0, 2, 0)
const NOBODY_V6 = Uint8Array.of(0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)

export class PacketGrantWriter implements GrantWriter, Disposable {
  readonly capacity: number
  readonly #v4: Lane
  readonly #v6: Lane
  readonly #pulse: Pulse
  /** Of each grant of the batch: its index in the lane, and in bit 31 whether that is #v6. */
  readonly #order: Int32Array
  #count = 0
  #flushed = 0
  #aliveFailures = 0
  #tableLosses = 0
  /** The kernel held our rules, and this worker's alive element, when we last looked. */
  #isHeld = false

  /** Throws SocketError. */
  constructor(options: PacketGrantWriterOptions) {
    const { capacity, mark, place } = options
    assert(capacity >= 1 && capacity <= 1000, 'a batch has 1 to 1000 grants')
    this.capacity = capacity
    this.#v4 = new Lane(4, capacity, mark, place)
    this.#v6 = new Lane(6, capacity, mark, place)
    this.#pulse = new Pulse(mark, place)
    this.#order = new Int32Array(capacity)
  }

  push(
    family: number,
    client: Uint8Array,
    clientAt: number,
    address: Uint8Array,
    addressAt: number,
    setPort: number,
  ): number {
    assert(this.#count < this.capacity, 'a batch takes no more than its capacity')
    const lane = family === 4 ? this.#v4 : this.#v6
    const at = lane.push(client, clientAt, address, addressAt, setPort)
    const index = this.#count++
    this.#order[index] = family === 4 ? at : at | SIGN
    return index
  }

  flush(): number {
    const failed = this.#v4.flush() + this.#v6.flush()
    if (this.isUnproven) this.#lose()
    this.#flushed = this.#count
    this.#count = 0
    return failed
  }

  isInForce(index: number): boolean {
    assert(index >= 0 && index < this.#flushed, 'a grant is asked about after its batch is flushed')
    const at = this.#order[index]!
    return at < 0 ? this.#v6.isInForce(at & ~SIGN) : this.#v4.isInForce(at)
  }

  get isUnproven(): boolean {
    return this.#v4.isUnproven || this.#v6.isUnproven
  }

  refreshAlive(isLeaving = false): boolean {
    this.#pulse.say(isLeaving ? LEAVING_PORT : ALIVE_PORT)
    if (this.#pulse.send() === 1) {
      this.#isHeld = true
      return true
    }
    this.#lose()
    // Our element was not there, or no rule of ours is, or somebody drops our packets. In the first
    // case it is there now.
    const taken = this.#pulse.send()
    if (taken <= 0) this.#aliveFailures++
    this.#isHeld = taken === 1
    return false
  }

  /** Refreshes that the kernel refused since start: the rules are broken, or not yet there. */
  get aliveFailures(): number {
    return this.#aliveFailures
  }

  /** How often the kernel held our rules and then did not; also once for each time we were late. */
  get tableLosses(): number {
    return this.#tableLosses
  }

  [Symbol.dispose](): void {
    this.#v4[Symbol.dispose]()
    this.#v6[Symbol.dispose]()
    this.#pulse[Symbol.dispose]()
  }

  #lose(): void {
    if (this.#isHeld) this.#tableLosses++
    this.#isHeld = false
  }
}

const SIGN = 1 << 31

/**
 * What a worker says every 50 ms, in one call; with everything in order one of two goes through:
 *     ALIVE  accepted: our alive element stood, so the table is the one that we knew, and stands
 *            for another ALIVE_MS
 *     PROBE  refused: by our last rule, so it was our rules that accepted
 * One packet asks and refreshes, since two could meet two tables, old and new. Over IPv4 alone:
 * chain and sets are of the one table `inet`, which comes and goes as a whole.
 */
class Pulse implements Disposable {
  readonly #sender: RawSender

  constructor(mark: number, place: number) {
    const packetBytes = V4_HEADER_BYTES + UDP_BYTES
    this.#sender = new RawSender({ family: 4, packets: 2, packetBytes, mark })
    for (const [index, port] of [ALIVE_PORT, PROBE_PORT].entries()) {
      const at = this.#sender.packetAt(index)
      writeHeaders(this.#sender.u8, at, 4, place)
      writePort(this.#sender.u8, at + V4_HEADER_BYTES, port)
    }
  }

  /** What the first of them says: one of the two signs of life. */
  say(port: number): void {
    writePort(this.#sender.u8, this.#sender.packetAt(0) + V4_HEADER_BYTES, port)
  }

  /** How many were accepted before the first that was not; 0 or less: none. */
  send(): number {
    return this.#sender.send(0, 2)
  }

  [Symbol.dispose](): void {
    this.#sender[Symbol.dispose]()
  }
}

/** The grants of one family. */
class Lane implements Disposable {
  /** Whether the last batch's probe was let through. */
  isUnproven = false
  readonly #sender: RawSender
  readonly #u8: Uint8Array
  readonly #addressBytes: number
  /** Offset of the source address in a packet; the destination follows it. */
  readonly #sourceAt: number
  /** Offset of the UDP header in a packet. */
  readonly #udpAt: number
  readonly #isInForce: Uint8Array
  #count = 0

  constructor(family: 4 | 6, capacity: number, mark: number, place: number) {
    const headerBytes = family === 4 ? V4_HEADER_BYTES : V6_HEADER_BYTES
    // One more: the probe stands behind a full batch.
    const packets = capacity + 1
    const packetBytes = headerBytes + UDP_BYTES
    this.#sender = new RawSender({ family, packets, packetBytes, mark })
    this.#u8 = this.#sender.u8
    this.#addressBytes = family === 4 ? 4 : 16
    this.#sourceAt = family === 4 ? 12 : 8
    this.#udpAt = headerBytes
    this.#isInForce = new Uint8Array(capacity)
    for (let index = 0; index < packets; index++) {
      writeHeaders(this.#u8, this.#sender.packetAt(index), family, place)
    }
  }

  push(
    client: Uint8Array,
    clientAt: number,
    address: Uint8Array,
    addressAt: number,
    setPort: number,
  ): number {
    const u8 = this.#u8
    const bytes = this.#addressBytes
    const index = this.#count++
    const source = this.#sender.packetAt(index) + this.#sourceAt
    const destination = source + bytes
    for (let n = 0; n < bytes; n++) {
      u8[source + n] = client[clientAt + n]!
      u8[destination + n] = address[addressAt + n]!
    }
    this.#setPort(index, setPort)
    return index
  }

  /** How many of the batch are not in force. */
  flush(): number {
    const probe = this.#count
    this.isUnproven = false
    if (probe === 0) return 0
    this.#count = 0
    this.#setPort(probe, PROBE_PORT)
    const isInForce = this.#isInForce
    let failed = 0
    let at = 0
    while (at <= probe) {
      const sent = this.#sender.send(at, probe + 1 - at)
      const end = sent > 0 ? at + sent : at
      for (; at < end && at < probe; at++) isInForce[at] = 1
      if (end > probe) return this.#unprove(probe)
      if (end < probe) {
        isInForce[end] = 0
        failed++
      }
      at = end + 1
    }
    return failed
  }

  isInForce(index: number): boolean {
    return this.#isInForce[index] === 1
  }

  [Symbol.dispose](): void {
    this.#sender[Symbol.dispose]()
  }

  /** The probe went through: nothing of ours looked at the batch. */
  #unprove(count: number): number {
    this.isUnproven = true
    for (let index = 0; index < count; index++) this.#isInForce[index] = 0
    return count
  }

  #setPort(index: number, port: number): void {
    writePort(this.#u8, this.#sender.packetAt(index) + this.#udpAt, port)
  }
}

/** @param at  of the UDP header */
function writePort(u8: Uint8Array, at: number, port: number): void {
  u8[at + 2] = port >>> 8
  u8[at + 3] = port & 0xff
}

/** Source: RFC 791 §3.1, RFC 8200 §3, RFC 768. Hop limit 1: it could go nowhere. */
function writeHeaders(u8: Uint8Array, at: number, family: 4 | 6, place: number): void {
  let udp = at + V6_HEADER_BYTES
  if (family === 4) {
    udp = at + V4_HEADER_BYTES
    u8[at] = 0x45
    u8[at + 3] = V4_HEADER_BYTES + UDP_BYTES
    u8[at + 8] = 1
    u8[at + 9] = PROTOCOL_UDP
    u8.set(NOBODY_V4, at + 12)
    u8.set(NOBODY_V4, at + 16)
  } else {
    u8[at] = 0x60
    u8[at + 5] = UDP_BYTES
    u8[at + 6] = PROTOCOL_UDP
    u8[at + 7] = 1
    u8.set(NOBODY_V6, at + 8)
    u8.set(NOBODY_V6, at + 24)
  }
  u8[udp + 1] = place
  u8[udp + 5] = UDP_BYTES
}
