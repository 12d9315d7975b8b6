/**
 * The agent: the process that knows policy. It reads files, compiles them, and enforces the result
 * here, in the kernel and at the proxy. Its data plane is the proxy's; everything that both have is
 * in daemon/.
 */
import { networkInterfaces } from 'node:os'
import manifest from '../../package.json' with { type: 'json' }
import type { Config } from '../config/load.ts'
import { Daemon } from '../daemon/daemon.ts'
import { applyReload } from '../daemon/reload.ts'
import { runUntilStopped } from '../daemon/run.ts'
import { workerEntry } from '../daemon/worker-entry.ts'
import { canonicalAddress } from '../identity/address.ts'
import type { Log } from '../log.ts'
import { compileSnapshot } from '../policy/compile.ts'
import type { PortSet, Snapshot } from '../policy/snapshot.ts'
import { PolicyFiles } from './policy-files.ts'

/** Runs the agent until it is stopped; its exit code. */
export function runAgent(config: Config, log: Log, load: () => Config): Promise<number> {
  return runUntilStopped(() => new Agent(config, log), config.file, load, log)
}

class Agent {
  readonly #daemon: Daemon
  readonly #files: PolicyFiles
  /** The newest snapshot that anybody on this node has: ours gets the number after it. */
  #newest: Snapshot | null = null
  /** Every port set of this life, by number: the kernel or the proxy may still know its number. */
  readonly #portSets = new Map<number, PortSet>()
  #last: Promise<void> = Promise.resolve()

  constructor(config: Config, log: Log) {
    this.#files = new PolicyFiles(config, log)
    this.#daemon = new Daemon({
      role: 'agent',
      config,
      version: manifest.version,
      log,
      workerEntry: workerEntry(),
    })
    this.#daemon.onPeerSnapshot = async (snapshot) => this.#heard(snapshot)
  }

  async start(): Promise<void> {
    await this.#daemon.begin()
    const last = this.#daemon.lastPolicy()
    if (last !== null) this.#heard(last)
    const former = this.#newest
    await this.#compile()
    await this.#daemon.serve()
    // What this node enforced before, also when another process did: grants outlive us.
    if (former !== null) await this.#revoke(former)
    this.#files.watch(() => void this.#recompile())
  }

  async reload(config: Config): Promise<void> {
    applyReload(this.#daemon, config)
    this.#files.configure(config)
    await this.#recompile()
  }

  async stop(): Promise<void> {
    this.#files.close()
    await this.#last
    await this.#daemon.stop()
  }

  #heard(snapshot: Snapshot): void {
    if (this.#newest !== null && snapshot.revision <= this.#newest.revision) return
    this.#use(snapshot)
  }

  #use(snapshot: Snapshot): void {
    this.#newest = snapshot
    for (const portSet of snapshot.portSets) this.#portSets.set(portSet.number, portSet)
  }

  /** One at a time; a change during one is seen by the next look. */
  #recompile(): Promise<void> {
    this.#last = this.#last.then(() => this.#compile())
    return this.#last
  }

  async #compile(): Promise<void> {
    const { config, log } = this.#daemon
    const input = this.#files.read()
    const former = this.#newest
    const compiled = compileSnapshot({
      inventory: input.inventory,
      policies: input.policies,
      nodeAddresses: nodeAddresses(config),
      formerPortSets: [...this.#portSets.values()],
      revision: former?.revision ?? 0,
      mode: config.policy?.mode ?? 'enforce',
      denyResponse: config.policy?.denyResponse ?? 'refused',
      unknown: config.clients.unknown,
    })
    // The same files give the same snapshot, byte for byte: then nothing has changed.
    const isSame = former !== null && JSON.stringify(compiled) === JSON.stringify(former)
    const snapshot = isSame ? former : { ...compiled, revision: (former?.revision ?? 0) + 1 }
    this.#use(snapshot)
    if (isSame && this.#daemon.policyFrom === 'files') return
    try {
      await this.#daemon.enforce(snapshot, 'files')
    } catch (error) {
      log.error({ error: (error as Error).message }, 'policy cannot be enforced yet')
    }
    void this.#announce(snapshot, former)
  }

  /** Apart from the next compilation: a peer that hangs must not keep policy from changing here. */
  async #announce(snapshot: Snapshot, former: Snapshot | null): Promise<void> {
    const { link, log } = this.#daemon
    const outcome = await link.announceSnapshot(snapshot.revision, JSON.stringify(snapshot))
    log.info({ revision: snapshot.revision, outcome }, 'policy announced to the proxy')
    if (former !== null) await this.#revoke(former)
  }

  /** Takes back what the policy before gave and this one does not. */
  async #revoke(former: Snapshot): Promise<void> {
    try {
      await this.#daemon.revoke(former)
    } catch (error) {
      const fields = { error: (error as Error).message }
      this.#daemon.log.error(fields, 'grants of the former policy cannot be revoked')
    }
  }
}

/** Addresses of this node: no part of the world that a policy can open. */
function nodeAddresses({ listen }: Config): string[] {
  const present = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .flatMap(({ address }) => canonicalAddress(address.replace(/%.*$/, '')) ?? [])
  // By a route, so no interface need say it.
  return [...present, ...listen.addresses]
}
