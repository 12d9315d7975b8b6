/**
 * Certificates in a file that the configuration names: read with it, so that a file which can't be
 * used is a fault with its line, at start as on a reload, and not a connection that fails later.
 */
import { X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'

/** A bundle of all authorities of the world has a fifth of that. */
const CA_FILE_BYTES_MAX = 1 << 20

/** The certificates of a file in PEM, without what people write between them; throws. */
export function readCertificates(file: string): string {
  const { size } = statSync(file)
  if (size > CA_FILE_BYTES_MAX) throw new Error(`${size} bytes are more than certificates have`)
  const text = readFileSync(file, 'utf8')
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []
  if (blocks.length === 0) throw new Error('it has no certificate in PEM')
  return blocks.map(checked).join('\n')
}

function checked(block: string, index: number): string {
  try {
    return new X509Certificate(block).toString().trimEnd()
  } catch (cause) {
    throw new Error(`certificate ${index + 1}: ${(cause as Error).message}`, { cause })
  }
}
