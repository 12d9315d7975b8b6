/**
 * Policy from files: a directory of policies and the clients file, read whole whenever one of them
 * has changed. Only the agent has this; the proxy gets what came of it.
 *
 * A file that is edited in place passes through states that nobody meant; what a faulty version
 * does to the clients it selects is policy/sources/policies.ts's matter. A directory or file that
 * cannot be read at all keeps what was read before: taking a policy away must be done by removing
 * its file, not by breaking a mount.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import type { Config } from '../config/load.ts'
import { EMPTY_INVENTORY, type Inventory } from '../identity/endpoint.ts'
import { lookEvery } from '../linux/looks.ts'
import type { Log } from '../log.ts'
import type { PolicyDocument } from '../policy/rule.ts'
import type { PolicyFault } from '../policy/snapshot.ts'
import { readClients } from '../policy/sources/clients.ts'
import { readPolicies } from '../policy/sources/policies.ts'

/** How often files are looked at; one `stat` each. */
const LOOK_MS = 1000

export interface PolicyInput {
  readonly inventory: Inventory
  readonly policies: readonly PolicyDocument[]
  /** Faults of the clients file; then the inventory is the one before. */
  readonly clientFaults: readonly PolicyFault[]
}

export class PolicyFiles {
  readonly #log: Log
  readonly #node: string
  #config: Config
  #fingerprint = ''
  #texts = new Map<string, string>()
  #inventory: Inventory = EMPTY_INVENTORY
  #policies: readonly PolicyDocument[] = []
  #isReadable = true
  #looks: Disposable | null = null

  constructor(config: Config, log: Log) {
    this.#config = config
    this.#node = config.node
    this.#log = log
  }

  /** Another configuration holds from now on; the next look sees it. */
  configure(config: Config): void {
    this.#config = config
    this.#fingerprint = ''
  }

  read(): PolicyInput {
    this.#fingerprint = this.#look()
    const files = this.#policyFiles().flatMap((file) => {
      const text = this.#readText(file)
      return text === null ? [] : [{ file: path.basename(file), text }]
    })
    this.#policies = readPolicies(files, this.#policies)
    const clientFaults = this.#readClients()
    for (const fault of [...this.#policies.flatMap(({ faults }) => faults), ...clientFaults]) {
      const { file, line, column, field, message } = fault
      this.#log.warn({ file, line, column, field }, message)
    }
    return { inventory: this.#inventory, policies: this.#policies, clientFaults }
  }

  /** Calls `changed` when a file has appeared, gone, or been written. */
  watch(changed: () => void): void {
    this.#looks = lookEvery(LOOK_MS, () => {
      if (this.#look() !== this.#fingerprint) changed()
    })
  }

  close(): void {
    this.#looks?.[Symbol.dispose]()
  }

  #readClients(): readonly PolicyFault[] {
    const file = this.#config.clients.file
    if (file === null) {
      this.#inventory = EMPTY_INVENTORY
      return []
    }
    const text = this.#readText(file)
    if (text === null) return []
    const { inventory, faults, notes } = readClients(text, path.basename(file), this.#node)
    for (const note of notes) this.#log.info({ file: path.basename(file) }, note)
    if (faults.length === 0) this.#inventory = inventory
    return faults
  }

  /** The text of a file, or what it last was; null when it was never readable. */
  #readText(file: string): string | null {
    try {
      const text = readFileSync(file, 'utf8')
      this.#texts.set(file, text)
      return text
    } catch (error) {
      this.#log.error({ file, error: (error as Error).message }, 'file cannot be read')
      return this.#texts.get(file) ?? null
    }
  }

  #policyFiles(): string[] {
    const directory = this.#config.policy?.directory
    if (directory === undefined) return []
    try {
      const names = readdirSync(directory)
      this.#isReadable = true
      return names
        .filter((name) => /\.(ya?ml|json)$/.test(name) && !name.startsWith('.'))
        .sort()
        .map((name) => path.join(directory, name))
    } catch (error) {
      // Said once, not at every look.
      if (this.#isReadable) {
        this.#log.error(
          { directory, error: (error as Error).message },
          'policy directory cannot be read: the policies read before stay in force',
        )
      }
      this.#isReadable = false
      return [...this.#texts.keys()].filter((file) => path.dirname(file) === directory)
    }
  }

  /** Names, sizes and times of all files: differs when one was changed. */
  #look(): string {
    const files = this.#policyFiles()
    if (this.#config.clients.file !== null) files.push(this.#config.clients.file)
    return files
      .map((file) => {
        try {
          const { mtimeMs, size, ino } = statSync(file)
          return `${file} ${mtimeMs} ${size} ${ino}`
        } catch {
          return `${file} missing`
        }
      })
      .join('\n')
  }
}
