/**
 * `npm start`: builds the world, tells the story, removes the world; exit 0 only if every step went
 * as promised.
 *
 * What must stay true: whatever happens, nothing is left behind. A throw, Ctrl-C, SIGTERM and the
 * deadline end in process.exit, and the world's own exit handler removes it; what a kill -9 left is
 * removed by the next run, which knows it by its names.
 */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { missingForNamespaces } from '../support/netns.ts'
import type { RunningProcess } from '../support/process.ts'
import { type Role, World } from '../support/world.ts'
import { Story, ZONE } from './story.ts'
import { Teller } from './teller.ts'

const HELP = `usage: npm start [-- OPTIONS]

Tells Namegate's story on this machine, in network namespaces of its own. Needs root.

  --json         one JSON object a step: {step, command, promised, seen, ok}
  --keep         leave everything up at the end, to play with
  --clean        only remove what an earlier run left up
  --world NAME   begin the namespaces' names with NAME, not with namegate-story
  -h, --help     print this
`

/** What is promised to whoever waits; it includes building and removing the world. */
const SECONDS_MAX = 90
const DEFAULT_WORLD = 'namegate-story'
const LOG_BYTES_SHOWN = 3_000

const EXIT_BROKEN = 1
const EXIT_USAGE = 2

interface Options {
  readonly json: boolean
  readonly keep: boolean
  readonly clean: boolean
  readonly world: string
}

process.exitCode = await main(readOptions())

async function main(options: Options): Promise<number> {
  const directory = directoryOf(options.world)
  const missing = missingForNamespaces()
  if (missing !== false) return stop(EXIT_BROKEN, `the story ${missing}`)
  const owner = World.owner(directory)
  if (owner !== null) {
    return stop(EXIT_BROKEN, `process ${owner} is telling the story; let it end, or end it`)
  }
  const wasThere = World.remove(options.world, directory)
  if (options.clean) {
    process.stderr.write(wasThere ? 'removed\n' : 'nothing was left up\n')
    return 0
  }
  return tell(options, directory)
}

async function tell(options: Options, directory: string): Promise<number> {
  const begunMs = performance.now()
  const teller = new Teller(options.json, (text) => void process.stdout.write(text))
  process.stdout.on('error', () => process.exit(EXIT_BROKEN)) // whoever read it is gone
  let world: World | null = null
  const deadline = setTimeout(() => {
    teller.interrupt(`the story did not end within ${SECONDS_MAX} s`)
    if (world !== null) showLogs(world)
    process.exit(EXIT_BROKEN)
  }, SECONDS_MAX * 1000)

  teller.say('An internet, a node and three pods, made of network namespaces. Commands run in')
  teller.say(`${directory}; web servers speak plain HTTP on 80 and 443.`)
  const files = join(import.meta.dirname, 'node')
  world = await World.build({ prefix: options.world, directory, files, zone: ZONE })
  const story = new Story(world, teller)
  await story.tell()
  clearTimeout(deadline)

  const isGood = teller.broken.length === 0
  const seconds = ((performance.now() - begunMs) / 1000).toFixed(0)
  const kept = teller.told - teller.broken.length
  teller.say(`\n${kept} of ${teller.told} steps went as promised, in ${seconds} s`)
  if (!isGood) showLogs(world)
  if (options.keep) await leaveUp(world, story, options.world)
  else world[Symbol.dispose]()
  return isGood ? 0 : EXIT_BROKEN
}

/** For whoever wants to know why a step went otherwise. */
function showLogs(world: World): void {
  for (const role of ['agent', 'proxy'] as const) {
    process.stderr.write(`\n${role}.log ends so:\n${world.logTail(role, LOG_BYTES_SHOWN)}`)
  }
}

async function leaveUp(world: World, story: Story, prefix: string): Promise<void> {
  const daemons = await story.play()
  world.release()
  const clean = `npm start -- --clean${prefix === DEFAULT_WORLD ? '' : ` --world ${prefix}`}`
  process.stderr.write(whatToTry(world.directory, daemons, clean))
}

function whatToTry(
  directory: string,
  daemons: ReadonlyMap<Role, RunningProcess>,
  clean: string,
): string {
  const pids = [...daemons].map(([role, { pid }]) => `${role} ${pid}`).join(', ')
  return `
Everything is left up, agent and proxy run again (${pids}). Try:

  cd ${directory}
  ./namegate observe -c namegate.yaml -f           what happens, in another terminal
  ./client dig bbc.co.uk                           any name is answered …
  ./client curl -m 1 http://bbc.co.uk/             … but this one is not opened
  ./client curl http://anything.cilium.io/
  ./other dig bbc.co.uk                            a policy that does not let it ask
  ./bystander curl http://bbc.co.uk/               no policy
  ./namegate explain -c namegate.yaml team-a/client bbc.co.uk:443
  ./namegate grants list -c namegate.yaml
  ./namegate status -c namegate.yaml
  ./node nft list table inet namegate
  curl --unix-socket dns.sock http://dns/cut       the cluster's DNS is gone; restore, counts
  kill -9 ${daemons.get('agent')?.pid}; ./client curl http://never-seen.cilium.io/
  ./node ./namegate agent -c namegate.yaml &       and back
  $EDITOR policies/allow-two-sites.yaml            in force within a second

To end it:  ${clean}
`
}

/** Short, because unix sockets lie below it; of a test's own world, where its other files are. */
function directoryOf(world: string): string {
  return join(world === DEFAULT_WORLD ? '/run' : tmpdir(), world)
}

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        json: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
        clean: { type: 'boolean', default: false },
        world: { type: 'string', default: DEFAULT_WORLD },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    if (values.help) {
      process.stdout.write(HELP)
      process.exit(0)
    }
    if (!/^[a-z0-9-]+$/.test(values.world)) throw new Error('a world has a name like my-world')
    return values
  } catch (error) {
    process.exit(stop(EXIT_USAGE, `${(error as Error).message}\n${HELP}`))
  }
}

function stop(code: number, message: string): number {
  process.stderr.write(`${message}\n`)
  return code
}
