/**
 * The last policy on disk: what a process starts from when it has nobody to ask.
 *
 *     policy.json            a header line, then the snapshot as it travels between the processes
 *     policy.json.previous   the one before it, for when the newest is damaged
 *     policy.lock            held while the two processes compare and replace
 *     policy.json.damaged    the last newest that was found damaged, for whoever wants to know why
 *
 * The header is `namegate-policy layout=1 revision=41 bytes=5120 sha256=…`; the checksum is over
 * the header up to ` sha256=` and the text, so that no byte of the file can change unnoticed.
 *
 * What must stay true: a file is used whole or not at all; `policy.json` is replaced by a rename
 * of what is on the disk already, so that a crash at any moment leaves the old or the new one; an
 * older revision never replaces a newer one. Both processes write here. Writing never blocks the event loop (a busy disk may take seconds for an
 * fsync, and a silent main thread ends its process) and a full disk stops nothing: it is said,
 * and tried again.
 */
import { createHash } from 'node:crypto'
import { closeSync, readFileSync, renameSync } from 'node:fs'
import { link, mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { lockFile } from '../linux/process.ts'
import type { Log } from '../log.ts'

const NAME = 'policy.json'
const LAYOUT = 1
/** Ten digits: a revision is a u32 where it travels (sync/protocol.ts). */
const HEADER =
  /^namegate-policy layout=(\d+) revision=([1-9]\d{0,9}) bytes=(\d+) sha256=([0-9a-f]{64})$/
const HEADER_BYTES_MAX = 256
const RETRY_MS_MIN = 1000
const RETRY_MS_MAX = 60_000
const LOCK_MS = 2000
const LOCK_EVERY_MS = 10

export interface KeptPolicy {
  readonly revision: number
  readonly text: string
}

type Inspected =
  | { readonly kind: 'whole'; readonly policy: KeptPolicy; readonly sha256: string }
  | { readonly kind: 'missing' }
  | { readonly kind: 'damaged' | 'other-layout' | 'unreadable'; readonly why: string }

export class LastPolicy {
  readonly #directory: string
  readonly #log: Log
  #waiting: KeptPolicy | null = null
  #writing: Promise<void> | null = null
  #retry: { readonly timer: NodeJS.Timeout; readonly ms: number } | null = null
  #isClosed = false
  /** Why the newest policy is not on disk, for `status`; null: it is, or is about to be. */
  fault: string | null = null

  /** @param directory  made with mode 0700 when it is missing, now or when it is written to */
  constructor(directory: string, log: Log) {
    this.#directory = directory
    this.#log = log
  }

  /**
   * The newest that is whole, or null. A damaged one is set aside; every reason why a newer one is
   * not used is logged. For the start: it reads synchronously.
   */
  read(): KeptPolicy | null {
    for (const name of [NAME, `${NAME}.previous`]) {
      const file = path.join(this.#directory, name)
      const found = inspectSync(file)
      if (found.kind === 'whole') {
        if (name !== NAME) {
          const { revision } = found.policy
          this.#log.warn({ file, revision }, 'starting from the policy before the last')
        }
        return found.policy
      }
      if (found.kind !== 'missing') this.#report(file, found)
    }
    return null
  }

  /** Puts a policy on disk, soon; of several in a row perhaps only the newest. */
  keep(revision: number, text: string): void {
    this.#waiting = { revision, text }
    if (this.#retry !== null) clearTimeout(this.#retry.timer)
    this.#begin()
  }

  /** Resolves when nothing is being written, however that ended. */
  async written(): Promise<void> {
    while (this.#writing !== null) await this.#writing
  }

  /** What could not be written is not tried again. Resolves when nothing is being written. */
  async close(): Promise<void> {
    this.#isClosed = true
    if (this.#retry !== null) clearTimeout(this.#retry.timer)
    await this.written()
  }

  #begin(): void {
    if (this.#writing !== null || this.#isClosed) return
    this.#writing = this.#writeAll().finally(() => {
      this.#writing = null
      // One that came after the last look; after a failure the timer begins.
      if (this.#waiting !== null && this.fault === null) this.#begin()
    })
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting !== null) {
      const policy = this.#waiting
      this.#waiting = null
      try {
        await this.#write(policy)
        this.#succeeded(policy)
      } catch (error) {
        this.#failed(policy, error as Error)
        return
      }
    }
  }

  async #write(policy: KeptPolicy): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 })
    const lock = await this.#lock()
    try {
      await this.#replace(policy)
    } finally {
      if (lock !== null) closeSync(lock)
    }
  }

  async #replace(policy: KeptPolicy): Promise<void> {
    const file = path.join(this.#directory, NAME)
    const own = `${file}.${process.pid}`
    const { header, sha256 } = headerOf(policy)
    const present = await inspect(file)
    if (present.kind === 'whole') {
      // The other process was quicker, with the same or even a later one.
      if (present.sha256 === sha256 || present.policy.revision > policy.revision) return
    }
    try {
      await writeNew(`${own}.new`, `${header}\n${policy.text}`)
      if (present.kind === 'whole') {
        await rm(`${own}.previous`, { force: true })
        await link(file, `${own}.previous`)
        await rename(`${own}.previous`, `${file}.previous`)
      } else if (present.kind === 'damaged') setAside(file)
      await rename(`${own}.new`, file)
      await syncDirectory(this.#directory)
    } finally {
      await rm(`${own}.new`, { force: true })
      await rm(`${own}.previous`, { force: true })
    }
  }

  /**
   * So that the two processes compare and replace one after the other. Null when the other one
   * keeps it for too long: it was stopped, will learn of this policy when it goes on, and write it.
   */
  async #lock(): Promise<number | null> {
    for (let waitedMs = 0; waitedMs < LOCK_MS; waitedMs += LOCK_EVERY_MS) {
      const lock = lockFile(path.join(this.#directory, 'policy.lock'))
      if (lock !== null) return lock
      await sleep(LOCK_EVERY_MS)
    }
    return null
  }

  #succeeded({ revision }: KeptPolicy): void {
    this.#retry = null
    if (this.fault === null) return
    this.fault = null
    this.#log.info({ revision }, 'the last policy is on disk again')
  }

  #failed(policy: KeptPolicy, error: Error): void {
    if (this.fault === null) {
      const { revision } = policy
      const fields = { revision, directory: this.#directory, error }
      this.#log.error(fields, 'the policy could not be written to disk; it is tried again')
    }
    this.fault = `write policy ${policy.revision} to ${this.#directory}: ${error.message}`
    this.#waiting ??= policy
    if (this.#isClosed) return
    const ms = Math.min((this.#retry?.ms ?? RETRY_MS_MIN / 2) * 2, RETRY_MS_MAX)
    const timer = setTimeout(() => this.#begin(), ms)
    timer.unref()
    this.#retry = { timer, ms }
  }

  #report(file: string, found: Extract<Inspected, { why: string }>): void {
    const { kind, why } = found
    const fields = { file, why, unexpected: kind === 'damaged' }
    if (kind === 'damaged') setAside(file)
    const sentence = {
      damaged: 'a policy on disk is damaged and not used; it was set aside',
      'other-layout': 'a policy on disk is of another release and not used',
      unreadable: 'a policy on disk can not be read',
    }
    this.#log.error(fields, sentence[kind])
  }
}

function headerOf({ revision, text }: KeptPolicy): { header: string; sha256: string } {
  const start = `namegate-policy layout=${LAYOUT} revision=${revision} bytes=${Buffer.byteLength(text)}`
  const sha256 = checksum(start, Buffer.from(text))
  return { header: `${start} sha256=${sha256}`, sha256 }
}

function checksum(headerStart: string, text: Uint8Array): string {
  return createHash('sha256').update(headerStart).update('\n').update(text).digest('hex')
}

function inspectSync(file: string): Inspected {
  try {
    return judge(readFileSync(file))
  } catch (error) {
    return failed(error as NodeJS.ErrnoException)
  }
}

async function inspect(file: string): Promise<Inspected> {
  try {
    return judge(await readFile(file))
  } catch (error) {
    return failed(error as NodeJS.ErrnoException)
  }
}

function failed(error: NodeJS.ErrnoException): Inspected {
  if (error.code === 'ENOENT') return { kind: 'missing' }
  return { kind: 'unreadable', why: error.message }
}

function judge(content: Buffer): Inspected {
  const end = content.subarray(0, HEADER_BYTES_MAX).indexOf(0x0a)
  const header = content.subarray(0, Math.max(end, 0)).toString('latin1')
  const [, layout, revision, bytes, sha256] = HEADER.exec(header) ?? []
  if (revision === undefined || sha256 === undefined) return damaged('it has no header of ours')
  const text = content.subarray(end + 1)
  const isWhole = checksum(header.slice(0, header.indexOf(' sha256=')), text) === sha256
  if (Number(layout) !== LAYOUT && isWhole) {
    return { kind: 'other-layout', why: `layout ${layout}, not ${LAYOUT}` }
  }
  if (text.length !== Number(bytes)) return damaged(`${text.length} bytes of text, not ${bytes}`)
  if (!isWhole) return damaged('its checksum is not that of its content')
  const policy = { revision: Number(revision), text: text.toString() }
  return { kind: 'whole', policy, sha256 }
}

function damaged(why: string): Inspected {
  return { kind: 'damaged', why }
}

function setAside(file: string): void {
  try {
    renameSync(file, `${file}.damaged`)
  } catch {
    // A disk that can't even rename: the file stays, and is found damaged again.
  }
}

/** A new file with this content, on the disk when it resolves. */
async function writeNew(file: string, content: string): Promise<void> {
  await rm(file, { force: true })
  const handle = await open(file, 'wx', 0o600)
  try {
    await handle.writeFile(content)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes renames last. */
async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
