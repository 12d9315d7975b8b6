/**
 * Reads the elements of a set of ours, by netlink.
 *
 * nft 1.0.6 can't: of several `list set` in one run it finds only the last, and all sets at once
 * would mean 100,000 grants whenever a dozen clients are asked for. It also prints whole seconds
 * where the kernel knows milliseconds. Source: <linux/netfilter/nf_tables.h>, nftables' nft_set_elem.
 */
import {
  NFGENMSG_BYTES,
  NLM_F_DUMP,
  type NetlinkSocket,
  attribute,
  attributeEnd,
  concatBytes,
  findAttribute,
  nfgenmsg,
} from '../../linux/netlink.ts'
import { TABLE } from './names.ts'
import { NftError } from './tool.ts'

const NFT_MSG_NEWSETELEM = (10 << 8) | 12
const NFT_MSG_GETSETELEM = (10 << 8) | 13
const NFPROTO_INET = 1
const NFTA_SET_ELEM_LIST_TABLE = 1
const NFTA_SET_ELEM_LIST_SET = 2
const NFTA_SET_ELEM_LIST_ELEMENTS = 3
const NFTA_SET_ELEM_KEY = 1
const NFTA_SET_ELEM_EXPIRATION = 5
const NFTA_DATA_VALUE = 1
const ENOENT = 2
const EINTR = 4

/** Somebody who changes rules while we read makes us begin anew; with so many, another time. */
const ATTEMPTS_MAX = 5

export interface SetElement {
  /** The fields of the key one after the other, each padded to 4 bytes. */
  readonly key: Uint8Array
  /** 0: it does not expire. */
  readonly expiresMs: number
  /** All that the kernel says of it, for comparison. */
  readonly raw: Uint8Array
}

/** Elements of a set or map of our table, in no order; empty when it does not exist. */
export function readElements(socket: NetlinkSocket, set: string): SetElement[] {
  const payload = concatBytes(
    nfgenmsg(NFPROTO_INET, 0),
    attribute(NFTA_SET_ELEM_LIST_TABLE, zeroEnded(TABLE)),
    attribute(NFTA_SET_ELEM_LIST_SET, zeroEnded(set)),
  )
  for (let attempt = 1; ; attempt++) {
    const elements: SetElement[] = []
    const result = socket.request(
      NFT_MSG_GETSETELEM,
      NLM_F_DUMP,
      payload,
      (type, bytes, at, end) => {
        if (type === NFT_MSG_NEWSETELEM) collect(elements, bytes, at + NFGENMSG_BYTES, end)
      },
    )
    if (result === 0) return elements
    if (result === -ENOENT) return []
    if (result !== -EINTR || attempt === ATTEMPTS_MAX) {
      throw new NftError('failed', `read the set ${set}: errno ${-result}; needs CAP_NET_ADMIN`)
    }
  }
}

function collect(elements: SetElement[], bytes: Uint8Array, at: number, end: number): void {
  const list = findAttribute(bytes, at, end, NFTA_SET_ELEM_LIST_ELEMENTS)
  if (list < 0) return
  const listEnd = attributeEnd(bytes, list)
  for (let next = list; next + 4 <= listEnd; ) {
    const value = next + 4
    const valueEnd = attributeEnd(bytes, value)
    if (valueEnd <= value || valueEnd > listEnd) return
    const element = parseElement(bytes, value, valueEnd)
    if (element !== null) elements.push(element)
    next = (valueEnd + 3) & ~3
  }
}

function parseElement(bytes: Uint8Array, at: number, end: number): SetElement | null {
  const outer = findAttribute(bytes, at, end, NFTA_SET_ELEM_KEY)
  if (outer < 0) return null
  const key = findAttribute(bytes, outer, attributeEnd(bytes, outer), NFTA_DATA_VALUE)
  if (key < 0) return null
  const expires = findAttribute(bytes, at, end, NFTA_SET_ELEM_EXPIRATION)
  const hasExpiry = expires >= 0 && attributeEnd(bytes, expires) - expires === 8
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  return {
    key: bytes.slice(key, attributeEnd(bytes, key)),
    expiresMs: hasExpiry ? view.getUint32(expires) * 2 ** 32 + view.getUint32(expires + 4) : 0,
    raw: bytes.slice(at, end),
  }
}

function zeroEnded(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`)
}
