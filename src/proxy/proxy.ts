/**
 * The proxy: the data plane with the last policy. It takes policy from the agent while there is
 * one, else from disk; it reads no policy files and knows no cluster, so that there is little in it
 * that could fail or need an upgrade.
 */
import manifest from '../../package.json' with { type: 'json' }
import type { Config } from '../config/load.ts'
import { Daemon } from '../daemon/daemon.ts'
import { applyReload } from '../daemon/reload.ts'
import { runUntilStopped } from '../daemon/run.ts'
import type { PolicyOrigin } from '../daemon/view.ts'
import { workerEntry } from '../daemon/worker-entry.ts'
import type { Log } from '../log.ts'
import type { Snapshot } from '../policy/snapshot.ts'

/** Runs the proxy until it is stopped; its exit code. */
export function runProxy(config: Config, log: Log, load: () => Config): Promise<number> {
  return runUntilStopped(() => new Proxy(config, log), config.file, load, log)
}

class Proxy {
  readonly #daemon: Daemon
  readonly #log: Log
  /** Until the first policy is there, `start` waits for it here. */
  #firstPolicy: PromiseWithResolvers<void> | null = null
  #last: Promise<void> = Promise.resolve()

  constructor(config: Config, log: Log) {
    this.#log = log
    this.#daemon = new Daemon({
      role: 'proxy',
      config,
      version: manifest.version,
      log,
      workerEntry: workerEntry(),
    })
    this.#daemon.onPeerSnapshot = (snapshot) => this.#enforce(snapshot, 'peer')
  }

  async start(): Promise<void> {
    await this.#daemon.begin()
    if (this.#daemon.policyFrom === 'none') await this.#policyWithoutPeer()
    await this.#daemon.serve()
  }

  async reload(config: Config): Promise<void> {
    applyReload(this.#daemon, config)
  }

  async stop(): Promise<void> {
    await this.#last
    await this.#daemon.stop()
  }

  async #policyWithoutPeer(): Promise<void> {
    const { config } = this.#daemon
    const last = this.#daemon.lastPolicy()
    if (last !== null) {
      await this.#enforce(last, 'disk')
      return
    }
    if (config.policy === null && config.clients.file === null) return
    // Without any policy we would have to guess who is governed: closed before available.
    this.#log.warn({}, 'no agent and no last policy: waiting for an agent before serving')
    this.#firstPolicy = Promise.withResolvers()
    await this.#firstPolicy.promise
  }

  /** Rejects when it is not in force: then the agent must not be told that it is. */
  #enforce(snapshot: Snapshot, from: PolicyOrigin): Promise<void> {
    const enforced = this.#last.then(() => this.#daemon.enforce(snapshot, from))
    this.#last = enforced.catch((error: Error) => {
      this.#log.error({ error: error.message }, 'policy cannot be enforced yet')
    })
    void enforced.then(() => this.#firstPolicy?.resolve()).catch(() => {})
    return enforced
  }
}
