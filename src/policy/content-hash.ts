/**
 * Short ids that follow from content: subjects and port sets are called by them in the kernel, so
 * the same content has to get the same id in every process and release.
 *
 * Ids are for names, not for trust: two contents with one id are possible, and whoever gives ids
 * out (policy/compile.ts, policy/port-set.ts) compares the contents and adds a salt.
 */

/**
 * @param digits  hexadecimal digits, 1 to 16
 * @param salt  0, or how many other contents with this id came before
 */
export function contentId(content: string, digits: number, salt = 0): string {
  // Two 32-bit lanes over UTF-16 units, each multiplied by its own odd constant and mixed at the
  // end; changing anything here renames everything in the kernel.
  let high = 0x9e3779b9 ^ salt
  let low = 0x85ebca6b ^ content.length
  for (let index = 0; index < content.length; index++) {
    const unit = content.charCodeAt(index)
    high = Math.imul(high ^ unit, 0x9e3779b1)
    low = Math.imul(low ^ unit, 0x5f356495)
    high = (high << 13) | (high >>> 19)
  }
  const first = finish(high ^ (low >>> 16))
  const second = finish(low ^ Math.imul(first, 0xc2b2ae35))
  return (hex(first) + hex(second)).slice(0, digits)
}

function finish(value: number): number {
  let hash = value
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0')
}
