/**
 * One process of Namegate, agent or proxy: the parts that both have, and the order in which they
 * begin and end. What the roles differ in is where their policy comes from (agent/, proxy/).
 *
 *     begin   directories, lock → data plane, holding → control socket → peer: sockets, policy,
 *             answers → policy → sockets → kernel structure → proof → serve
 *     end     drain (no further questions are wanted; those that come are answered, then nothing is
 *             read any more, and what is in hand is answered) → goodbye → close
 *
 * What must stay true:
 * - Nothing is read from a shared socket before policy and structure are in force here: a process
 *   that begins beside one that serves must not know less than it.
 * - A stop leaves the ruleset as it is: governed clients stay closed, the others fall through.
 */
import { chmodSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '../config/load.ts'
import { NftablesDriver } from '../datapath/nftables/driver.ts'
import { missingCapabilities, probeNftables } from '../datapath/nftables/probe.ts'
import { judgeRevocation } from '../grant/revocation.ts'
import { NflogListener } from '../linux/nflog.ts'
import { lockFile, monotonicMs } from '../linux/process.ts'
import { keepSmall } from '../linux/resident.ts'
import { SocketError } from '../linux/socket.ts'
import type { Log } from '../log.ts'
import { ControlServer, controlSocketPath } from '../observe/control.ts'
import { FlowHistory } from '../observe/history.ts'
import { filterInSlices } from '../observe/turns.ts'
import { SNAPSHOT_LAYOUT, type Snapshot } from '../policy/snapshot.ts'
import type { StandIns } from '../policy/stand-ins.ts'
import { PolicyTable } from '../policy/table.ts'
import { encodeTable } from '../policy/table-encode.ts'
import { LastPolicy } from '../state/last-policy.ts'
import { PeerLink } from '../sync/link.ts'
import type { PeerChange, PeerState, SocketSet } from '../sync/peer.ts'
import { viewOf } from '../wire/bytes.ts'
import { RCODE_SERVFAIL } from '../wire/header.ts'
import type { Server } from '../upstream/routes.ts'
import { PEER_LINKED, PEER_NONE, PEER_READING } from '../worker/control.ts'
import { DataPlane } from '../worker/data-plane.ts'
import { flowOfDenial } from './denied.ts'
import { NodeDirectory } from './directory.ts'
import { handlersOf } from './handlers.ts'
import { dumpAnswers, PeerRecords, takeRecords } from './peer-records.ts'
import { SharedSockets } from './shared-sockets.ts'
import { StartError } from './start-error.ts'
import { marksOf, nflogGroup, PLACES, Structure } from './structure.ts'
import type { TlsRelay } from './tls-relay.ts'
import { UpstreamSource } from './upstreams.ts'
import type { DaemonView, PolicyOrigin, Role } from './view.ts'

export interface DaemonOptions {
  readonly role: Role
  readonly config: Config
  readonly version: string
  readonly log: Log
  /** worker/main.ts, or what the bundle made of it. */
  readonly workerEntry: URL
}

/** A stop waits this long for what is in hand: no upstream is waited for longer than 5 s. */
const DRAIN_MS = 5000
/** How long a start waits for an upstream to answer its own question. */
const PROOF_MS = 500
const CATCH_UP_MS = 2000
/** What follows a start (peer, collection of garbage) is over by then. */
const SETTLED_MS = 3000
/** An answer's flow comes a little later than its grants: by the ring, or from the peer. */
const FLOWS_SETTLE_MS = 100

const NO_POLICY: Snapshot = {
  layout: SNAPSHOT_LAYOUT,
  revision: 0,
  mode: 'enforce',
  denyResponse: 'refused',
  unknown: 'open',
  clients: [],
  places: [],
  subjects: [],
  portSets: [],
  policies: [],
}

export class Daemon implements DaemonView {
  readonly role: Role
  readonly version: string
  config: Config
  readonly log: Log
  readonly startedMs = monotonicMs()
  readonly history = new FlowHistory()
  readonly directory = new NodeDirectory(this.history)
  readonly upstreams: UpstreamSource
  readonly dataPlane: DataPlane
  readonly structure: Structure | null
  readonly link: PeerLink
  snapshot: Snapshot = NO_POLICY
  policyFrom: PolicyOrigin = 'none'
  /** Called with a snapshot of the peer that is newer than ours; agent/ and proxy/ set it. */
  onPeerSnapshot: (snapshot: Snapshot) => Promise<void> = async () => {}

  readonly #sockets: SharedSockets
  readonly #records: PeerRecords
  readonly #lastPolicy: LastPolicy
  #snapshotText = ''
  /** Texts that snapshots were read from. */
  readonly #texts = new WeakMap<Snapshot, string>()
  #tlsRelay: Promise<TlsRelay> | null = null
  #nflog: NflogListener | null = null
  #control: ControlServer | null = null
  #isStopping = false

  constructor(options: DaemonOptions) {
    const { config, role, log } = options
    this.role = role
    this.version = options.version
    this.config = config
    this.log = log
    if (config.intercept !== null) needCapabilities()
    makePrivate(config.run)
    makePrivate(config.state)
    takeLock(path.join(config.run, `${role}.lock`), role)
    this.#lastPolicy = new LastPolicy(config.state, log)
    this.upstreams = new UpstreamSource(config, log)
    this.dataPlane = this.#startDataPlane(options.workerEntry)
    this.dataPlane.onFlows = (words, at, length, count) =>
      this.history.appendRun(words, at, length, count)
    this.dataPlane.onTls = (fd, server) => void this.#relayTls(fd, server)
    this.dataPlane.onAway = (back) => this.#caughtUp(back)
    this.structure = this.#makeStructure()
    this.#sockets = new SharedSockets({
      config,
      log,
      read: (set) => this.dataPlane.useSockets(set.sockets),
      steer: async (set) => this.structure?.apply(this.snapshot, set),
    })
    this.link = this.#openLink()
    this.#records = new PeerRecords(this.dataPlane, this.history, this.link)
  }

  /** The agent while it is alive, else the proxy. */
  get isStructureOwner(): boolean {
    if (this.role === 'agent') return true
    const peer = this.link.peer
    return peer === null || !peer.isLinked || peer.isMute
  }

  get socketSet(): SocketSet | null {
    return this.#sockets.set
  }

  get standIns(): StandIns {
    const { listen, intercept } = this.config
    return {
      listen: listen.addresses,
      listenPort: listen.port,
      servers: intercept?.servers ?? [],
    }
  }

  /** What lies on disk, for a process that has nobody to ask. */
  lastPolicy(): Snapshot | null {
    const kept = this.#lastPolicy.read()
    return kept === null ? null : this.#readSnapshot(kept.text)
  }

  /**
   * Can be asked from now on how it is, however long it waits for a policy; and asks the peer for
   * sockets, policy and answers.
   */
  async begin(): Promise<void> {
    const { config, role, log } = this
    this.#control = await ControlServer.open(
      { socketPath: controlSocketPath(config.run, role), role, log },
      handlersOf(this),
    )
    const outcome = await this.link.catchUp()
    log.info({ outcome }, 'asked the peer for sockets, policy and answers')
  }

  /**
   * Makes a snapshot the policy of this process: on disk, in the worker, in the kernel, at the
   * peer. Tightening must not wait for anybody, so the worker comes first.
   */
  async enforce(snapshot: Snapshot, from: PolicyOrigin): Promise<void> {
    const startedMs = performance.now()
    await this.dataPlane.publish(this.#encode(snapshot))
    this.snapshot = snapshot
    this.#snapshotText = this.#texts.get(snapshot) ?? JSON.stringify(snapshot)
    this.policyFrom = from
    this.directory.use(snapshot)
    if (this.structure !== null && this.socketSet !== null) {
      await this.structure.apply(snapshot, this.socketSet)
    }
    if (from !== 'disk') this.#lastPolicy.keep(snapshot.revision, this.#snapshotText)
    this.log.info(
      {
        revision: snapshot.revision,
        from,
        policies: snapshot.policies.length,
        clients: snapshot.clients.length,
        governed: snapshot.clients.filter((client) => client.subject >= 0).length,
        tookMs: Math.round(performance.now() - startedMs),
      },
      'policy applied',
    )
  }

  /**
   * Takes back what was granted under `former` and is no longer given; to be called when every
   * process decides by the present policy.
   */
  async revoke(former: Snapshot): Promise<void> {
    if (this.structure === null || this.socketSet === null || !this.isStructureOwner) return
    const { snapshot } = this
    const table = new PolicyTable()
    table.open(this.#encode(snapshot))
    const grants = await this.structure.readGrants()
    await sleep(FLOWS_SETTLE_MS)
    this.directory.useFormer(former)
    const isTaken = judgeRevocation(former, snapshot, table, await this.directory.names())
    const taken = await filterInSlices(grants, isTaken)
    if (taken.length === 0) return
    await this.structure.revoke(taken)
    this.dataPlane.forgetGrants()
    this.log.info({ grants: taken.length }, 'grants revoked')
  }

  /** Makes the sockets if the peer handed over none, and begins to serve. */
  async serve(): Promise<void> {
    const { config, role } = this
    await this.#sockets.obtain(this.link)
    if (this.structure !== null) {
      await this.#probeDatapath()
      await this.structure.apply(this.snapshot, this.socketSet!)
      this.structure.watch()
      this.#listenToDenials(config.intercept!)
    }
    await this.#prove()
    // A newer set may have come meanwhile.
    const set = this.socketSet!
    await this.dataPlane.useSockets(set.sockets)
    await this.dataPlane.serve()
    this.link.announceReading()
    this.upstreams.watch((table) => this.dataPlane.useUpstreams(table))
    this.#records.streamFlows()
    this.log.info(
      {
        role,
        generation: set.generation,
        sockets: set.sockets.length,
        revision: this.snapshot.revision,
        tookMs: monotonicMs() - this.startedMs,
      },
      'serving',
    )
    setTimeout(keepSmall, SETTLED_MS).unref()
  }

  /** Planned: nothing that is in hand is lost. */
  async stop(): Promise<void> {
    if (this.#isStopping) return
    this.#isStopping = true
    this.log.info({ waiting: this.dataPlane.gauges().waiting }, 'stopping')
    this.link.announceReading()
    await this.dataPlane.drain(DRAIN_MS)
    this.#records.tellAnswers()
    await this.#control?.close()
    this.link.close()
    await this.#lastPolicy.close()
    this.upstreams.close()
    this.#nflog?.[Symbol.dispose]()
    await this.structure?.close()
    await this.dataPlane.close()
    this.#sockets.close()
    this.log.info({}, 'stopped')
  }

  #startDataPlane(entry: URL): DataPlane {
    const { intercept, cache, limits } = this.config
    const marks = intercept === null ? null : marksOf(intercept)
    const place = PLACES[this.role]
    return new DataPlane({
      entry,
      table: this.#encode(NO_POLICY),
      cacheBytes: cache.sizeBytes,
      queriesPerSecond: limits.queriesPerSecond,
      grantsMax: limits.grants,
      maxTtlSeconds: cache.maxTtlSeconds,
      minTtlSeconds: cache.minTtlSeconds,
      maxNegativeTtlSeconds: cache.maxNegativeTtlSeconds,
      serveStaleSeconds: cache.serveStaleSeconds,
      prefetch: cache.prefetch,
      nothingBelowNxdomain: cache.nothingBelowNxdomain,
      rotate: cache.rotate,
      upstreams: this.upstreams.table(),
      ownMark: marks?.own ?? 0,
      ownerMark: marks?.owners[place] ?? 0,
      grants: marks === null ? null : { place, mark: marks.write },
    })
  }

  #makeStructure(): Structure | null {
    const { intercept, listen } = this.config
    if (intercept === null) return null
    return new Structure({
      driver: new NftablesDriver(),
      intercept,
      listen: listen.addresses,
      rootServers: () => this.upstreams.rootServers(),
      log: this.log,
      isOwner: () => this.isStructureOwner,
      onGrantsLost: () => this.dataPlane.forgetGrants(),
      // A peer that can't say it soon must not keep the kernel from being repaired.
      catchUp: () => Promise.race([this.link.catchUp({ want: 'changes' }), sleep(CATCH_UP_MS)]),
    })
  }

  #openLink(): PeerLink {
    const { role, version, log, config, structure } = this
    return PeerLink.open(
      { run: config.run, role, place: PLACES[role], version, log, now: monotonicMs },
      {
        sockets: () => this.#sockets.set,
        takeSockets: (set) => this.#sockets.take(set),
        snapshot: () => this.#present(),
        takeSnapshot: (_revision, text) => this.#takeSnapshot(text),
        answers: () => dumpAnswers(this.dataPlane),
        takeRecords: (kind, frames) => takeRecords(this.dataPlane, this.history, kind, frames),
        isReading: () => this.dataPlane.isServing && !this.#isStopping,
        changed: (state, change) => this.#peerChanged(state, change),
        ...(structure === null
          ? {}
          : { isPeerAlive: () => structure.isAlive(PLACES[otherRole(role)]) }),
      },
    )
  }

  /** The agent is the second reader: it is the one that is stopped and upgraded more often. */
  #peerChanged(state: PeerState, change: PeerChange): void {
    this.log.debug({ peer: state.role, change }, 'peer')
    const { isLinked, isMute, isReading } = state
    const isFirstReader = this.role === 'agent' && isReading && !isMute
    this.dataPlane.setPeer(!isLinked ? PEER_NONE : isFirstReader ? PEER_READING : PEER_LINKED)
  }

  /** Most nodes have no upstream over TLS: its code is loaded with the first. */
  async #relayTls(fd: number, server: Server): Promise<void> {
    this.#tlsRelay ??= import('./tls-relay.ts').then((module) => new module.TlsRelay(this.log))
    const relay = await this.#tlsRelay
    relay.connect(fd, server)
  }

  /**
   * One question of our own, all the way to an upstream and back. An upstream that does not answer
   * keeps nobody from serving: the cache may know, and the peer would do no better.
   */
  async #prove(): Promise<void> {
    try {
      const { rcode } = await this.dataPlane.ask({ kind: 'prove' }, PROOF_MS)
      if (rcode === RCODE_SERVFAIL) this.log.warn({}, 'no upstream answered a question of our own')
      else this.log.info({ rcode }, 'a question of our own was answered')
    } catch (error) {
      this.log.warn({ error: (error as Error).message }, 'a question of our own was not answered')
    }
  }

  /** Refuses to pretend: where clients can't be governed, the process says why and ends. */
  async #probeDatapath(): Promise<void> {
    const { mask, intercepted: value } = marksOf(this.config.intercept!)
    const { decision, findings, isUsable } = await probeNftables({ value, mask })
    this.log.info({}, decision)
    for (const { code, isBlocking, text } of findings) {
      this.log.warn({ code, blocking: isBlocking }, text)
    }
    if (isUsable) return
    const reasons = findings.filter(({ isBlocking }) => isBlocking).map(({ text }) => text)
    throw new StartError(`govern clients by nftables: ${reasons.join('; ')}`)
  }

  /** Flows of what the kernel denied. Without them the drops stand all the same. */
  #listenToDenials(intercept: NonNullable<Config['intercept']>): void {
    const group = nflogGroup(intercept, PLACES[this.role])
    try {
      this.#nflog = new NflogListener(group, (packet) => {
        const flow = flowOfDenial(packet, packet.timeMs ?? Date.now())
        // The peer has a group of its own and hears of it from the kernel.
        if (flow !== null) this.history.append(viewOf(flow), 0, flow.length, true)
      })
    } catch (error) {
      if (!(error instanceof SocketError)) throw error
      const { code, message } = error
      this.log.warn({ code, group }, `${message}: connections are denied, but not recorded`)
    }
  }

  async #takeSnapshot(text: string): Promise<void> {
    const snapshot = this.#readSnapshot(text)
    if (snapshot === null) throw new Error('the policy is of another release')
    await this.onPeerSnapshot(snapshot)
  }

  /** The policy in force, byte for byte as it came: its digest is what processes compare. */
  #present(): { revision: number; text: string } | null {
    const { revision } = this.snapshot
    return revision === 0 ? null : { revision, text: this.#snapshotText }
  }

  #readSnapshot(text: string): Snapshot | null {
    const snapshot = JSON.parse(text) as Snapshot
    if (snapshot.layout !== SNAPSHOT_LAYOUT) return null
    this.#texts.set(snapshot, text)
    return snapshot
  }

  /** The loop stood still: what changed meanwhile is known when the peer has told it. */
  #caughtUp(back: () => void): void {
    this.log.warn({ unexpected: true }, 'the data plane stood still; asking the peer what changed')
    void this.#catchUpWithPeer().finally(back)
  }

  async #catchUpWithPeer(): Promise<void> {
    try {
      const outcome = await this.link.catchUp({ want: 'changes' })
      // Nobody could say what changed: the disk knows the last policy that anybody enforced.
      const last = outcome === 'caught-up' ? null : this.lastPolicy()
      if (last !== null && last.revision > this.snapshot.revision) await this.enforce(last, 'disk')
      this.log.info({ outcome, revision: this.snapshot.revision }, 'the data plane goes on')
    } catch (error) {
      this.log.error({ error: error as Error }, 'could not find out what changed')
    }
    this.dataPlane.forgetGrants()
  }

  #encode(snapshot: Snapshot): Int32Array {
    return encodeTable(snapshot, { standIns: this.standIns, interfaceIndexes: new Map() })
  }
}

function otherRole(role: Role): Role {
  return role === 'agent' ? 'proxy' : 'agent'
}

/** Before anything is made: the worker's first socket fails without them. */
function needCapabilities(): void {
  const missing = missingCapabilities()
  if (missing !== null) throw new StartError(`govern clients by nftables: ${missing}`)
}

/** A directory of ours: nobody else may look in. */
function makePrivate(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  chmodSync(directory, 0o700)
}

/** Held until the process ends, however it ends. */
function takeLock(file: string, role: Role): void {
  if (lockFile(file) === null) {
    throw new StartError(
      `start the ${role}: another one runs already (it holds ${file}); stop it first`,
    )
  }
}
