/**
 * Numbers of the DNS protocol: where the fields of a message lie, and what their values mean.
 *
 * LAYOUT of a message, bytes, network order (RFC 1035 §4.1, RFC 6895 §2)
 *      0  u16  ID_AT
 *      2  u16  FLAGS_AT     QR | opcode 4 | AA TC RD RA | Z AD CD | rcode 4
 *      4  u16  QDCOUNT_AT   1 in every message that we accept (RFC 9619)
 *      6  u16  ANCOUNT_AT
 *      8  u16  NSCOUNT_AT
 *     10  u16  ARCOUNT_AT
 *     12       QUESTION_AT  name, u16 type, u16 class; then the records
 * and of a record, behind its owner name
 *      0  u16  RECORD_TYPE    2  u16  RECORD_CLASS    4  u32  RECORD_TTL
 *      8  u16  RECORD_RDLENGTH                       10       RECORD_RDATA
 */
export const ID_AT = 0
export const FLAGS_AT = 2
export const QDCOUNT_AT = 4
export const ANCOUNT_AT = 6
export const NSCOUNT_AT = 8
export const ARCOUNT_AT = 10
export const HEADER_BYTES = 12
export const QUESTION_AT = HEADER_BYTES

export const RECORD_TYPE = 0
export const RECORD_CLASS = 2
export const RECORD_TTL = 4
export const RECORD_RDLENGTH = 8
export const RECORD_RDATA = 10

/** The largest message: TCP's length field has 16 bits, and so have our offsets. */
export const MESSAGE_BYTES_MAX = 65535

/** Bits of the flags word. */
export const FLAG_QR = 0x8000
export const OPCODE_MASK = 0x7800
export const OPCODE_SHIFT = 11
export const FLAG_AA = 0x0400
export const FLAG_TC = 0x0200
export const FLAG_RD = 0x0100
export const FLAG_RA = 0x0080
export const FLAG_AD = 0x0020
export const FLAG_CD = 0x0010
export const RCODE_MASK = 0x000f

export const OPCODE_QUERY = 0
/** Stateful operations: about the connection that they come by. Source: RFC 8490. */
export const OPCODE_DSO = 6

export const RCODE_NOERROR = 0
export const RCODE_FORMERR = 1
export const RCODE_SERVFAIL = 2
export const RCODE_NXDOMAIN = 3
export const RCODE_NOTIMP = 4
export const RCODE_REFUSED = 5
/** Needs an OPT record for its upper bits. Source: RFC 6891 §6.1.3. */
export const RCODE_BADVERS = 16

export const CLASS_IN = 1

export const TYPE_A = 1
export const TYPE_NS = 2
export const TYPE_CNAME = 5
export const TYPE_SOA = 6
export const TYPE_PTR = 12
export const TYPE_HINFO = 13
export const TYPE_MX = 15
export const TYPE_TXT = 16
export const TYPE_AAAA = 28
export const TYPE_SRV = 33
export const TYPE_DNAME = 39
export const TYPE_OPT = 41
export const TYPE_SVCB = 64
export const TYPE_HTTPS = 65
export const TYPE_ANY = 255

/** Keys of SVCB and HTTPS parameters. Source: RFC 9460 §14.3.2. */
export const SVCB_ALPN = 1
export const SVCB_PORT = 3
export const SVCB_IPV4HINT = 4
export const SVCB_IPV6HINT = 6

/** Extended errors that we give. Source: RFC 8914 §4. */
export const EDE_NONE = -1
export const EDE_STALE_ANSWER = 3
export const EDE_CACHED_ERROR = 13
export const EDE_NOT_READY = 14
export const EDE_BLOCKED = 15
export const EDE_PROHIBITED = 18
export const EDE_STALE_NXDOMAIN = 19
export const EDE_NO_REACHABLE_AUTHORITY = 22
export const EDE_NETWORK_ERROR = 23
/** Registered at IANA after the RFC. */
export const EDE_SYNTHESIZED = 29
