/**
 * Ends conntrack entries of revoked grants: connections that a client began to an address.
 *
 * driver.ts calls it after the grant and its shortcut are gone (chains.ts, `revoked`). The kernel
 * can't delete by addresses alone, so all entries of a family are read and those that match are
 * deleted one by one. The main thread yields between pieces: a busy node has 100,000 entries.
 * Source: <linux/netfilter/nfnetlink_conntrack.h>.
 */
import {
  NETLINK_NETFILTER,
  NFGENMSG_BYTES,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  NetlinkSocket,
  attributeEnd,
  concatBytes,
  findAttribute,
  nfgenmsg,
} from '../../linux/netlink.ts'
import { NftError } from './tool.ts'

const IPCTNL_MSG_CT_GET = (1 << 8) | 1
const IPCTNL_MSG_CT_DELETE = (1 << 8) | 2
const AF_INET = 2
const AF_INET6 = 10
const CTA_TUPLE_ORIG = 1
const CTA_ID = 12
const CTA_ZONE = 18
const CTA_TUPLE_IP = 1
const CTA_IP_V4_SRC = 1
const CTA_IP_V6_SRC = 3
const ATTRIBUTE_BYTES = 4

/** Pieces of 32 KiB, about 130 entries each, between two turns of the event loop. */
const PIECES_A_TURN = 16

export interface AddressPair {
  /** 4 or 16 bytes each. */
  readonly client: Uint8Array
  readonly address: Uint8Array
}

/**
 * Deletes every entry whose original direction is one of the pairs. How many there were. Throws
 * NftError.
 */
export async function deleteConnections(pairs: readonly AddressPair[]): Promise<number> {
  using reader = new NetlinkSocket(NETLINK_NETFILTER)
  using deleter = new NetlinkSocket(NETLINK_NETFILTER)
  let deleted = 0
  for (const family of [AF_INET, AF_INET6]) {
    const bytes = family === AF_INET ? 4 : 16
    const wanted = new Set(
      pairs
        .filter((pair) => pair.client.length === bytes)
        .map((pair) => key(pair.client, pair.address)),
    )
    if (wanted.size === 0) continue
    const sequence = reader.send(IPCTNL_MSG_CT_GET, NLM_F_REQUEST | NLM_F_DUMP, nfgenmsg(family, 0))
    let result = sequence < 0 ? sequence : 1
    for (let piece = 1; result === 1; piece++) {
      result = reader.receive(sequence, (_type, message, at, end) => {
        const attributes = at + NFGENMSG_BYTES
        if (!isWanted(message, attributes, end, bytes, wanted)) return
        deleted += remove(deleter, family, message, attributes, end)
      })
      if (piece % PIECES_A_TURN === 0) await nextTurn()
    }
    if (result < 0) {
      const tried = 'end connections of revoked grants: read conntrack'
      throw new NftError(
        'failed',
        `${tried}: errno ${-result}; needs CAP_NET_ADMIN and nf_conntrack`,
      )
    }
  }
  return deleted
}

function isWanted(
  message: Uint8Array,
  at: number,
  end: number,
  bytes: number,
  wanted: ReadonlySet<string>,
): boolean {
  const tuple = findAttribute(message, at, end, CTA_TUPLE_ORIG)
  if (tuple < 0) return false
  const ip = findAttribute(message, tuple, attributeEnd(message, tuple), CTA_TUPLE_IP)
  if (ip < 0) return false
  const type = bytes === 4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC
  const ipEnd = attributeEnd(message, ip)
  const source = findAttribute(message, ip, ipEnd, type)
  const destination = findAttribute(message, ip, ipEnd, type + 1)
  if (source < 0 || destination < 0) return false
  const client = message.subarray(source, source + bytes)
  return wanted.has(key(client, message.subarray(destination, destination + bytes)))
}

/** 1 when the entry was there. Its own words are sent back: tuple, zone, and which one of them. */
function remove(
  socket: NetlinkSocket,
  family: number,
  message: Uint8Array,
  at: number,
  end: number,
): number {
  const parts = [CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID].flatMap((type) => {
    const value = findAttribute(message, at, end, type)
    if (value < 0) return []
    const valueEnd = attributeEnd(message, value)
    const padded = Math.min(end, (valueEnd + 3) & ~3)
    return [message.slice(value - ATTRIBUTE_BYTES, padded)]
  })
  const payload = concatBytes(nfgenmsg(family, 0), ...parts)
  const result = socket.request(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, payload, () => {})
  // Not there: it ended by itself in between.
  return result === 0 ? 1 : 0
}

function key(client: Uint8Array, address: Uint8Array): string {
  return `${client.join('.')} ${address.join('.')}`
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
