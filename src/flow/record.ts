/**
 * The flow record: what one decision looks like in the flow ring, on the way to the peer, and in
 * the history that `observe` reads. The worker writes it (pipeline/record.ts) and the main thread
 * writes it for connections the kernel dropped; flow/decode.ts reads it when somebody looks.
 *
 * LAYOUT, bytes; numbers little-endian
 *      0  u32  seconds since 1970
 *      4  u16  milliseconds of that second
 *      6  u8   type            FLOW_QUESTION or FLOW_CONNECTION
 *      7  u8   verdict         VERDICT_*
 *      8  u8   reason          flow/reason.ts
 *      9  u8   family          4 or 6
 *     10  u8   protocol        IP protocol number: 6 TCP, 17 UDP
 *     11  u8   flags           FLAG_* and above them the opcode (question), TCP flags (connection)
 *     12  u16  source port     the client's
 *     14  u16  destination port
 *     16  16B  source address  an IPv4 address takes the first 4 bytes, the rest is 0
 *     32  16B  destination     whom the client asked or connected to
 *     48  u16  question type
 *     50  u16  question class
 *     52  u32  microseconds from question to answer
 *     56  u16  name bytes      question name, wire form, lower case; 0 for connections, and when
 *                              a message is there, whose question says it
 *     58  u16  message bytes   the answer as sent, cut at MESSAGE_BYTES_MAX; 0 when none was
 *     60  u32  interface       index of the interface it came in by, 0 unknown
 *     64       name, then message; then up to three bytes more that say nothing
 *
 * It holds addresses and no table indexes: tables change while records lie in the history.
 */
export const FLOW_SECONDS = 0
export const FLOW_MILLISECONDS = 4
export const FLOW_TYPE = 6
export const FLOW_VERDICT = 7
export const FLOW_REASON = 8
export const FLOW_FAMILY = 9
export const FLOW_PROTOCOL = 10
export const FLOW_FLAGS = 11
export const FLOW_SOURCE_PORT = 12
export const FLOW_DESTINATION_PORT = 14
export const FLOW_SOURCE = 16
export const FLOW_DESTINATION = 32
export const FLOW_QTYPE = 48
export const FLOW_QCLASS = 50
export const FLOW_DURATION_US = 52
export const FLOW_NAME_BYTES = 56
export const FLOW_MESSAGE_BYTES = 58
export const FLOW_INTERFACE = 60
export const FLOW_HEADER_BYTES = 64

/** Enough for the addresses and CNAMEs that a line of `observe` shows; longer answers are cut. */
export const MESSAGE_BYTES_MAX = 512

/** The longest record in whole words: header, a name of 255 bytes, a message. */
export const FLOW_BYTES_MAX = FLOW_HEADER_BYTES + 256 + MESSAGE_BYTES_MAX

/** FLOW_TYPE */
export const FLOW_QUESTION = 1
export const FLOW_CONNECTION = 2

/** FLOW_VERDICT, in Hubble's words FORWARDED, DROPPED, ERROR, AUDIT. */
export const VERDICT_FORWARDED = 1
export const VERDICT_DENIED = 2
export const VERDICT_ERROR = 3
export const VERDICT_AUDIT = 4

/** FLOW_FLAGS of a question. */
export const FLAG_CACHED = 1
export const FLAG_STALE = 2
/** Single flight: answered by the exchange that another client's question had begun. */
export const FLAG_SHARED = 4
/** From this bit on the opcode of the message, four bits. */
export const FLAGS_OPCODE_SHIFT = 4

/** Ring record kinds (flow/ring.ts). */
export const RECORD_FLOW = 1
/** A flow that the peer decided, as it lies in the history; no ring carries it. */
export const RECORD_FOREIGN_FLOW = 3
/** An answer learned, for the peer's cache: cache/learned.ts. */
export const RECORD_LEARNED = 2
