/**
 * Names that are no question for a DNS server: whoever asks one of them on the network only tells
 * others what it is looking for. The pipeline answers them itself (pipeline/special.ts).
 *
 *     localhost, and below      the client's own loopback addresses        RFC 6761 §6.3
 *     invalid, and below        does not exist                             RFC 6761 §6.4
 *     onion, and below          does not exist in DNS                      RFC 7686 §2
 *     alt, and below            does not exist in DNS                      RFC 9476
 *     resolver.arpa, and below  exists and has no record: there is no encrypted resolver here, and
 *                               one of the upstream's would not be us      RFC 9462
 *
 * Others of the registry stay questions, because people give them a meaning of their own that an
 * upstream knows: local (cluster.local), test, home.arpa, reverse zones of private addresses.
 */
import { isInZone } from './name.ts'

export const SPECIAL_NONE = 0
export const SPECIAL_LOCALHOST = 1
export const SPECIAL_NO_NAME = 2
export const SPECIAL_NO_DATA = 3

// In wire form.
const LOCALHOST = Uint8Array.from([9, ...ascii('localhost'), 0])
const INVALID = Uint8Array.from([7, ...ascii('invalid'), 0])
const ONION = Uint8Array.from([5, ...ascii('onion'), 0])
const ALT = Uint8Array.from([3, ...ascii('alt'), 0])
const RESOLVER_ARPA = Uint8Array.from([8, ...ascii('resolver'), 4, ...ascii('arpa'), 0])

/**
 * SPECIAL_*. Two bytes of the end tell nearly every name that it is none; only then labels count.
 * @param name  wire form, lower case, `length` bytes from its start
 */
export function specialName(name: Uint8Array, length: number): number {
  if (length < 5) return SPECIAL_NONE // '.alt' is the shortest
  switch ((name[length - 3]! << 8) | name[length - 2]!) {
    case 0x7374: // st
      return isInZone(name, 0, length, LOCALHOST) ? SPECIAL_LOCALHOST : SPECIAL_NONE
    case 0x6964: // id
      return isInZone(name, 0, length, INVALID) ? SPECIAL_NO_NAME : SPECIAL_NONE
    case 0x6f6e: // on
      return isInZone(name, 0, length, ONION) ? SPECIAL_NO_NAME : SPECIAL_NONE
    case 0x6c74: // lt
      return isInZone(name, 0, length, ALT) ? SPECIAL_NO_NAME : SPECIAL_NONE
    case 0x7061: // pa
      return isInZone(name, 0, length, RESOLVER_ARPA) ? SPECIAL_NO_DATA : SPECIAL_NONE
    default:
      return SPECIAL_NONE
  }
}

function ascii(text: string): number[] {
  return Array.from(text, (character) => character.charCodeAt(0))
}
