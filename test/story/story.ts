/**
 * The story that every release tells: two pods with a policy and one without, on a node where agent
 * and proxy are killed, stopped and started again, one after the other and both at once.
 *
 * Read it top to bottom: each step says what is promised, does it with real programs, and compares.
 * main.ts builds the world and ends it.
 */
import type { RunningProcess } from '../support/process.ts'
import { CLUSTER_DNS, type Role, STRANGE_DNS, type World } from '../support/world.ts'
import {
  after,
  connects,
  digs,
  does,
  isAnswered,
  isDropped,
  isRefused,
  isUnanswered,
  isWell,
  isWithoutAddress,
  listsGrant,
  misses,
  observes,
  type Period,
  signals,
  switchesDns,
  wasAsked,
} from './checks.ts'
import type { Check, Teller } from './teller.ts'

/** What the internet's DNS servers know. Every name below cilium.io exists, with its own address. */
export const ZONE = {
  records: [
    'google.com. 300 A 192.0.2.10',
    'google.com. 300 AAAA 2001:db8:2::10',
    'cilium.io. 300 A 192.0.2.20',
    'cilium.io. 300 AAAA 2001:db8:2::20',
    'docs.cilium.io. 300 A 192.0.2.22',
    'docs.cilium.io. 300 AAAA 2001:db8:2::22',
    'bbc.co.uk. 300 A 192.0.2.30',
    'bbc.co.uk. 300 AAAA 2001:db8:2::30',
  ],
  fresh: ['cilium.io.'],
} as const
const GOOGLE = '192.0.2.10'
const BBC = '192.0.2.30'

/** P4: an ungoverned client is back at the cluster's DNS after this, by itself. */
const FALL_THROUGH_SECONDS = 0.3

export class Story {
  readonly #world: World
  readonly #teller: Teller
  readonly #daemons = new Map<Role, RunningProcess>()

  constructor(world: World, teller: Teller) {
    this.#world = world
    this.#teller = teller
  }

  async tell(): Promise<void> {
    const before = this.#world.kernelState()
    await this.#begin()
    // A node without daemons would break every promise, each after a timeout.
    if (this.#daemons.size < 2) return
    await this.#allowedNames()
    await this.#lookups()
    await this.#deniedNames()
    const away = await this.#agentKilled()
    await this.#agentBack(away)
    await this.#proxyKilled()
    await this.#stopped()
    await this.#bothGone()
    await this.#remove(before)
  }

  /** Starts both again, for somebody who wants to play. */
  async play(): Promise<ReadonlyMap<Role, RunningProcess>> {
    for (const role of ['agent', 'proxy'] as const) {
      if (!this.#daemons.get(role)?.isRunning) {
        this.#daemons.set(role, await this.#world.startDaemon(role))
      }
    }
    return this.#daemons
  }

  async #begin(): Promise<void> {
    this.#teller.chapter(0, 'The node before the story: agent and proxy are started')
    await this.#start('agent')
    await this.#start('proxy')
    await this.#step('each sees the other, policy is in force in both', isWell(this.#world))
  }

  async #allowedNames(): Promise<void> {
    const world = this.#world
    this.#teller.chapter(1, 'Names that the policy of team-a/client allows')
    const opened = 'an answer means open: the first packet of the connection passes'
    await this.#step(opened, connects(world, 'client', '-4', 'http://google.com/'))
    await this.#step(opened, connects(world, 'client', '-6', 'http://google.com:443/'))
    await this.#step(opened, connects(world, 'client', '-4', 'http://cilium.io:443/'))
    await this.#step(opened, connects(world, 'client', '-6', 'http://cilium.io/'))
    await this.#step(
      'the kernel holds what the answer opened: for this client and these ports',
      listsGrant(world, 'team-a/client', '10.0.0.10', GOOGLE, '80/tcp 443/tcp', 'google.com'),
    )
    await this.#step(
      'by IPv6 too, though the pod asked its question by IPv4',
      listsGrant(world, 'team-a/client', '2001:db8:1::10', '2001:db8:2::10', 'google.com'),
    )
    await this.#step(
      "a firewall on the node keeps the kernel from opening docs.cilium.io's addresses …",
      does(world, './node', 'nft', '-f', 'firewall.nft'),
    )
    await this.#step(
      '… then no answer with such an address leaves',
      digs(world, 'client', ['docs.cilium.io'], isWithoutAddress),
    )
    await this.#step(
      'without that firewall …',
      does(world, './node', 'nft', 'delete', 'table', 'inet', 'firewall'),
    )
    await this.#step('… it does', connects(world, 'client', 'http://docs.cilium.io/'))
  }

  async #lookups(): Promise<void> {
    const world = this.#world
    this.#teller.chapter(2, "Lookups: team-a may ask the cluster's DNS anything, team-b one name")
    await this.#step('answered', digs(world, 'client', ['bbc.co.uk'], isAnswered))
    await this.#step(
      "answered by TCP and IPv6 too, at the Service's other address",
      digs(world, 'client', ['+tcp', `@${CLUSTER_DNS.v6}`, 'bbc.co.uk'], isAnswered),
    )
    await this.#step(
      "the cache on the node answered the second: the cluster's DNS was asked once",
      wasAsked(world, { 'bbc.co.uk. A': 1 }),
    )
    await this.#step(
      'the second rule set lets team-b ask for google.com only',
      digs(world, 'other', ['bbc.co.uk'], isRefused),
    )
    await this.#step(
      "policy says cluster DNS: another server can't be asked",
      digs(world, 'client', [`@${STRANGE_DNS}`, 'google.com'], isRefused),
    )
  }

  async #deniedNames(): Promise<void> {
    const world = this.#world
    const period = { fromMs: Date.now() }
    this.#teller.chapter(3, 'A name that policy does not allow')
    await this.#step(
      'its name is answered, its packets are dropped',
      isDropped(world, 'client', 'http://bbc.co.uk/'),
    )
    await this.#step(
      'who has no policy is not touched',
      connects(world, 'bystander', 'http://bbc.co.uk/'),
    )
    await this.#step(
      "what team-a/client's lookup opened is open for nobody else, allowed or not",
      isDropped(world, 'other', '--resolve', `google.com:80:${GOOGLE}`, 'http://google.com/'),
    )
    await this.#step(
      'its own lookup opens it',
      connects(world, 'other', '-4', 'http://google.com/'),
    )
    await this.#step('the lookup forwarded, the SYN denied', this.#observes(period))
  }

  /** @returns when the agent was away */
  async #agentKilled(): Promise<Period> {
    this.#teller.chapter(4, 'The agent is killed: all of the above goes on')
    await this.#signal('SIGKILL', 'agent')
    const fromMs = Date.now()
    await this.#theSame(4)
    await this.#step('status names what is missing', misses(this.#world, 'agent'))
    return { fromMs, toMs: Date.now() }
  }

  async #agentBack(away: Period): Promise<void> {
    const world = this.#world
    this.#teller.chapter(
      5,
      "The agent is back, and alone: without the proxy, without the cluster's DNS",
    )
    await this.#start('agent')
    await this.#step("the cluster's DNS answers nothing from here on", switchesDns(world, 'cut'))
    await this.#signal('SIGKILL', 'proxy')
    await this.#step(
      "the cluster's DNS is really cut off: what nobody has looked up is not known",
      digs(world, 'client', ['+timeout=1', 'nobody-asked.cilium.io'], isWithoutAddress),
    )
    await this.#step(
      "what the proxy learned meanwhile is in the agent's cache",
      digs(world, 'client', ['new-in-step-4.cilium.io'], isAnswered),
    )
    const names = ['http://new-in-step-4.cilium.io/', 'http://google.com/']
    for (const name of names) await this.#step('and is open', connects(world, 'client', name))
    await this.#step(
      'the agent shows what the proxy refused while it was away: the SYN and the question',
      observes(world, ['--verdict', 'DROPPED', '--name', 'bbc.co.uk'], away, {
        'the SYN denied': SYN_DENIED,
        'the question denied': QUESTION_DENIED,
      }),
    )
    await this.#step("the cluster's DNS answers again", switchesDns(world, 'restore'))
    await this.#start('proxy')
    await this.#step('both are there again', isWell(world))
    await this.#step(
      'and new names are looked up again',
      connects(world, 'client', 'http://new-in-step-5.cilium.io/'),
    )
  }

  async #proxyKilled(): Promise<void> {
    this.#teller.chapter(6, 'The proxy is killed: the same')
    await this.#signal('SIGKILL', 'proxy')
    await this.#theSame(6)
    await this.#start('proxy')
    await this.#step('both are there again', isWell(this.#world))
  }

  async #stopped(): Promise<void> {
    this.#teller.chapter(7, 'One hangs (SIGSTOP): the same; first the agent, then the proxy')
    for (const role of ['agent', 'proxy'] as const) {
      await this.#signal('SIGSTOP', role)
      await this.#theSame(`7-${role}`)
      await this.#signal('SIGCONT', role)
      await this.#step(`the ${role} is back`, isWell(this.#world))
    }
    await this.#step(
      "with all this the cluster's DNS was asked once for what everybody wants",
      wasAsked(this.#world, { 'google.com. A': 1, 'google.com. AAAA': 1, 'bbc.co.uk. A': 1 }),
    )
  }

  async #bothGone(): Promise<void> {
    const world = this.#world
    this.#teller.chapter(
      8,
      'Both hang, then both are killed: closed for who has a policy, open for the rest',
    )
    await this.#signal('SIGSTOP', 'agent', 'proxy')
    await this.#closedAndOpen()
    await this.#signal('SIGCONT', 'agent', 'proxy')
    await this.#step('both are back', isWell(world))
    await this.#signal('SIGKILL', 'agent', 'proxy')
    await this.#closedAndOpen()
    await this.#step(
      'without a policy: connected as ever',
      connects(world, 'bystander', 'http://bbc.co.uk/'),
    )
  }

  async #closedAndOpen(): Promise<void> {
    const world = this.#world
    await this.#step(
      "without a policy: DNS goes on to the cluster's own, by itself, within 300 ms",
      after(
        FALL_THROUGH_SECONDS,
        digs(world, 'bystander', ['bbc.co.uk'], (result) => {
          return isAnswered(result) && result.queryMs <= FALL_THROUGH_SECONDS * 1000
        }),
      ),
    )
    await this.#step(
      'with a policy: no answer, so nothing new opens',
      digs(world, 'client', ['+timeout=1', 'new-in-step-8.cilium.io'], isUnanswered),
    )
    await this.#step(
      'with a policy: what was closed stays closed',
      isDropped(world, 'client', '--resolve', `bbc.co.uk:80:${BBC}`, 'http://bbc.co.uk/'),
    )
  }

  async #remove(before: string): Promise<void> {
    const world = this.#world
    this.#teller.chapter(9, 'Both start again, and are removed: the kernel is as it was')
    await this.#start('agent')
    await this.#start('proxy')
    await this.#step('from what lay on disk', connects(world, 'client', 'http://google.com/'))
    await this.#step('both are there again', isWell(world))
    await this.#signal('SIGTERM', 'agent', 'proxy')
    const cleanup = ['./node', './namegate', 'cleanup', '-c', 'namegate.yaml']
    await this.#step('every trace is taken out of the kernel', does(world, ...cleanup))
    await this.#step('tables, rules, routes and addresses of the node are what they were', {
      command: './node nft list ruleset; ./node ip rule; ./node ip route show table all',
      look: async () => {
        const difference = differenceOf(before, world.kernelState())
        return { seen: difference || 'no difference', ok: difference === '' }
      },
    })
  }

  /** What the first chapters showed, whoever is away; and a name that nobody has looked up yet. */
  async #theSame(when: number | string): Promise<void> {
    const world = this.#world
    const period = { fromMs: Date.now() }
    const same = 'as before'
    await this.#step(same, connects(world, 'client', '-4', 'http://google.com/'))
    await this.#step(same, connects(world, 'client', '-6', 'http://cilium.io:443/'))
    await this.#step(
      'a name of an allowed pattern, never looked up before: known and open',
      connects(world, 'client', `http://new-in-step-${when}.cilium.io/`),
    )
    await this.#step(same, digs(world, 'client', ['bbc.co.uk'], isAnswered))
    await this.#step(
      'as before: denied stays denied',
      isDropped(world, 'client', 'http://bbc.co.uk/'),
    )
    await this.#step(same, digs(world, 'other', ['bbc.co.uk'], isRefused))
    await this.#step('all of it is shown, whoever is left', this.#observes(period, true))
  }

  #observes(period: Period, isWithQuestion = false): Check {
    const wanted = { 'the lookup forwarded': LOOKUP_FORWARDED, 'the SYN denied': SYN_DENIED }
    return observes(
      this.#world,
      ['--name', 'bbc.co.uk'],
      period,
      isWithQuestion ? { ...wanted, 'the question denied': QUESTION_DENIED } : wanted,
    )
  }

  #start(role: Role): Promise<void> {
    const world = this.#world
    return this.#step(`the ${role} takes over what the other knows, and serves`, {
      command: `${world.daemonCommand(role).join(' ')} &`,
      look: async () => {
        const begunMs = performance.now()
        this.#daemons.set(role, await world.startDaemon(role))
        return { seen: `it serves after ${Math.round(performance.now() - begunMs)} ms`, ok: true }
      },
    })
  }

  #signal(signal: keyof typeof SIGNAL_PROMISES, ...roles: Role[]): Promise<void> {
    const daemons = roles.flatMap((role) => {
      const process = this.#daemons.get(role)
      return process === undefined ? [] : [{ role, process }]
    })
    return this.#step(SIGNAL_PROMISES[signal], signals(signal, daemons))
  }

  #step(promised: string, check: Check): Promise<void> {
    return this.#teller.step(promised, check)
  }
}

const SIGNAL_PROMISES = {
  SIGKILL: 'gone without a word, in the middle of its work',
  SIGSTOP: 'hangs: it does nothing, and holds on to everything',
  SIGCONT: 'goes on where it stood',
  SIGTERM: 'ends in order, with exit code 0',
} as const

const LOOKUP_FORWARDED =
  / team-a\/client:\d+ .* dns-request proxy FORWARDED \(DNS Query bbc\.co\.uk\. /
const SYN_DENIED = / team-a\/client:\d+ .* <> bbc\.co\.uk:80 .* DENIED \(TCP Flags: SYN\)/
const QUESTION_DENIED = / team-b\/other:\d+ .* dns-request proxy DROPPED \(DNS Query bbc\.co\.uk\. /

/** Lines that only one of the two has, with '-' and '+'. */
function differenceOf(before: string, now: string): string {
  const [old, current] = [before.split('\n'), now.split('\n')]
  const gone = old.filter((line) => !current.includes(line)).map((line) => `- ${line}`)
  const added = current.filter((line) => !old.includes(line)).map((line) => `+ ${line}`)
  if (gone.length + added.length === 0 && before !== now) return 'the same lines in another order'
  return [...gone, ...added].join('\n')
}
