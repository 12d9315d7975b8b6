/**
 * How the forwarder speaks to servers: what the worker does with sockets (channels.ts), and a test
 * without any.
 *
 * A try of a flight has one channel: over UDP a socket of its own, over TCP or TLS a place on a
 * connection that it shares. The loop knows channels by number: below the number of flights it is
 * that flight's UDP socket, above it a connection.
 */
import type { Server } from './routes.ts'

export interface Channels {
  /** The question of flight n lies at n × QUESTION_BYTES: memory that the kernel may read. */
  readonly questions: Uint8Array
  /** What `openRelay` sends lies here, at QUESTION_AT: room for a message of any length. */
  readonly message: Uint8Array
  /** The reply that `next` found, from replyAt; it may be changed until the next call of `next`. */
  readonly reply: Uint8Array
  readonly replyAt: number
  /** Its length; CHANNEL_FAILED or CHANNEL_LOST when there is none and won't be. */
  readonly replyBytes: number
  /** Replies on streams to what was not asked there: they ended their connections. */
  readonly mismatches: number
  /**
   * Opens a flight's channel and asks its question: one at a time for each flight. On a stream the
   * question gets another ID, and leaves with the next `flush` or when the connection stands.
   * @returns 0, or a negative errno; -EMFILE: it is we who have no channel left
   */
  open(
    flight: number,
    server: Server,
    isStream: boolean,
    questionBytes: number,
    nowMs: number,
  ): number
  /**
   * The same for `message`, of which nothing is kept. On a stream it is the only one there, and gets
   * another ID as well: it stands in `message` afterwards.
   */
  openRelay(
    flight: number,
    server: Server,
    isStream: boolean,
    messageBytes: number,
    nowMs: number,
  ): number
  /** Something has happened on a channel: does what can be done; then comes `next`. */
  ready(channel: number, events: number, nowMs: number): void
  /**
   * The next flight that a channel has something for, or NOTHING_YET. After a reply on a stream,
   * and after a failure, the flight has no channel any more.
   */
  next(channel: number): number
  /** What `next` found on this stream is no answer to what was asked there. */
  distrust(stream: number): void
  /** The flight waits no more, if it did. */
  close(flight: number): void
  /** Sends what `open` left. At the end of a turn. */
  flush(): void
  /** Closes connections that are idle or old. Now and then. */
  sweep(nowMs: number): void
}

/** next: no flight. */
export const NOTHING_YET = -1

/** replyBytes: the server or its host refused, or closed the first time that it was asked. */
export const CHANNEL_FAILED = -1
/** replyBytes: a connection that had worked ended; that says nothing about the server. */
export const CHANNEL_LOST = -2

/** What TCP wants before a message. */
export const LENGTH_BYTES = 2
/**
 * Header 12, name 255, type and class 4, OPT 11, with padding a multiple of 128; and room for a
 * length before it, 2.
 */
export const QUESTION_BYTES = 392
/** Where the message begins: the two bytes before it are the length that TCP wants. */
export const QUESTION_AT = 4
