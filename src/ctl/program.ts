/**
 * The command line: every command with its options and examples. What a command does is in a file
 * of its own, loaded when it is run, so that --help answers at once.
 *
 * bin/namegate.ts gives the surroundings and what only it may know: how to start a daemon.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import type { Config } from '../config/load.ts'
import type { LogLevel } from '../log.ts'
import { EXIT_FAULT, EXIT_OK, EXIT_USAGE, Failure } from './failure.ts'
import type { CommonOptions, Surroundings } from './surroundings.ts'

export interface ProgramParts {
  readonly version: string
  /** Runs a daemon until it ends; returns its exit code. */
  readonly runDaemon: (role: 'agent' | 'proxy', file: string, level: LogLevel) => Promise<number>
  /** Removes from the kernel what this configuration made. */
  readonly removeTraces: (config: Config) => Promise<void>
}

/** Runs one command line (without node and script); returns the exit code. */
export async function runProgram(
  argv: readonly string[],
  parts: ProgramParts,
  surroundings: Surroundings,
): Promise<number> {
  let exitCode = EXIT_OK
  const program = buildProgram(parts, surroundings, (code) => {
    exitCode = code
  })
  try {
    await program.parseAsync(argv, { from: 'user' })
    return exitCode
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE
    if (error instanceof Failure) {
      surroundings.err(`namegate: ${error.message}\n`)
      return error.exitCode
    }
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    surroundings.err(`namegate: a fault of its own: ${text}\n`)
    return EXIT_FAULT
  }
}

type Ended = (exitCode: number) => void

/** @param ended  called with the exit code of the command that was run */
export function buildProgram(
  parts: ProgramParts,
  surroundings: Surroundings,
  ended: Ended,
): Command {
  const program = new Command('namegate')
    .description(
      'A node-local DNS cache that lets each client reach only the names its policy allows.',
    )
    .version(parts.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help for a command')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({ writeOut: surroundings.out, writeErr: surroundings.err })
    .configureHelp({ helpWidth: 100 })
    .addHelpText('after', EXIT_CODES)
  addDaemons(program, parts, surroundings, ended)
  addObserving(program, surroundings, ended)
  addPolicy(program, surroundings, ended)
  addKernel(program, parts, surroundings, ended)
  return program
}

const EXIT_CODES = `
Exit codes:
  0  fine
  1  the answer is no, or something was invalid
  2  wrong usage
  3  no daemon can be reached
  70 ended by a fault of its own`

function addDaemons(
  program: Command,
  { runDaemon }: ProgramParts,
  surroundings: Surroundings,
  ended: Ended,
): void {
  const roles = [
    ['agent', 'Run the agent: policy, clients, kernel, and a data plane of its own'],
    ['proxy', 'Run the proxy: the data plane alone; goes on while the agent is away'],
  ] as const
  for (const [role, summary] of roles) {
    const command = program.command(role).description(`${summary}.`)
    addConfigOption(command, surroundings)
    command
      .addOption(
        new Option('--log-level <level>', 'least level of the lines logged to stderr')
          .choices(['debug', 'info', 'warn', 'error', 'fatal'])
          .default('info'),
      )
      .action(async (options: CommonOptions & { logLevel: LogLevel }) => {
        const file = options.config ?? surroundings.defaultFile
        ended(await runDaemon(role, file, options.logLevel))
      })
    addExamples(command, [
      [`namegate ${role} -c ./namegate.yaml`, 'in the foreground; SIGHUP reads the file again'],
    ])
  }
}

function addObserving(program: Command, surroundings: Surroundings, ended: Ended): void {
  const observe = common(
    program,
    'observe',
    'Show flows: questions, answers, and drops',
    surroundings,
    'compact',
  )
    .option('-f, --follow', 'go on with new flows as they happen')
    .option('--last <n>', 'begin with the last n matching flows', readCount, 20)
    .option('--pod <pod...>', "namespace/name, the beginning of a name in 'default', or namespace/")
    .option('--verdict <verdict...>', 'FORWARDED, DROPPED, ERROR or AUDIT')
    .option('--name <pattern...>', "name asked for or connected to; '*' is any run of characters")
    .action(async (options) => {
      const { runObserve } = await import('./observe.ts')
      ended(await runObserve(options, surroundings))
    })
  addExamples(observe, [
    ['namegate observe -f --verdict DROPPED', 'what is refused, as it happens'],
    ["namegate observe --pod team-a/web --name '*.example.com'", 'one pod and one domain'],
    ['namegate observe --last 1000 -o json | jq .flow.reason', 'for scripts'],
  ])

  const status = common(program, 'status', 'Show how this node is served', surroundings).action(
    async (options: CommonOptions) => {
      const { runStatus } = await import('./status.ts')
      ended(await runStatus(options, surroundings))
    },
  )
  addExamples(status, [
    ['namegate status', 'exit 1 when something is not as it should be'],
    ['namegate status -o json | jq .degraded', 'for alerts'],
  ])

  const cache = group(program, 'cache', 'List or forget the answers that are held')
  const cacheList = common(cache, 'list', 'List the answers that are held', surroundings)
    .option('--name <name>', 'only this name and those below it')
    .action(async (options) => {
      const { runCacheList } = await import('./cache-list.ts')
      ended(await runCacheList(options, surroundings))
    })
  addExamples(cacheList, [['namegate cache list --name example.com', '']])
  const cacheClear = common(cache, 'clear', 'Forget answers, in every process', surroundings)
    .option('--name <name>', 'only this name and those below it')
    .action(async (options) => {
      const { runCacheClear } = await import('./cache-clear.ts')
      ended(await runCacheClear(options, surroundings))
    })
  addExamples(cacheClear, [['namegate cache clear --name example.com', '']])
}

function addPolicy(program: Command, surroundings: Surroundings, ended: Ended): void {
  const policy = group(program, 'policy', 'List or check policies')
  const list = common(policy, 'list', 'List policies and whether they are in force', surroundings)
  list.action(async (options: CommonOptions) => {
    const { runPolicyList } = await import('./policy-list.ts')
    ended(await runPolicyList(options, surroundings))
  })
  addExamples(list, [['namegate policy list', 'exit 1 when one has a fault']])
  const check = common(policy, 'check', 'Check policy files; needs no daemon', surroundings)
    .argument('<file...>', 'files, or directories of them')
    .action(async (files: string[], options: CommonOptions) => {
      const { runPolicyCheck } = await import('./policy-check.ts')
      ended(await runPolicyCheck(files, options, surroundings))
    })
  addExamples(check, [
    ['namegate policy check policies/', 'each fault with its file, line and column; exit 1'],
  ])

  const explain = common(
    program,
    'explain',
    'Say why a name or address is open or not',
    surroundings,
  )
    .argument('<client>', 'namespace/name, or an address')
    .argument('<target>', 'NAME[:PORT] or ADDRESS[:PORT]')
    .action(async (client: string, target: string, options: CommonOptions) => {
      const { runExplain } = await import('./explain.ts')
      ended(await runExplain(client, target, options, surroundings))
    })
  addExamples(explain, [
    ['namegate explain team-a/web www.example.com:443', 'exit 1 when it is not allowed'],
    ["namegate explain team-a/web '[2001:db8::1]:443'", ''],
  ])
}

function addKernel(
  program: Command,
  { removeTraces }: ProgramParts,
  surroundings: Surroundings,
  ended: Ended,
): void {
  const grants = group(program, 'grants', 'List what answers have opened')
  const list = common(grants, 'list', 'List the addresses that answers have opened', surroundings)
    .option('--client <client>', 'only this client: namespace/name, or an address')
    .action(async (options) => {
      const { runGrantsList } = await import('./grants-list.ts')
      ended(await runGrantsList(options, surroundings))
    })
  addExamples(list, [['namegate grants list --client team-a/web', '']])
  const cleanup = common(program, 'cleanup', 'Remove every trace from the kernel', surroundings)
    .option('--force', 'also while a daemon is running')
    .action(async (options) => {
      const { runCleanup } = await import('./cleanup.ts')
      ended(await runCleanup(options, surroundings, removeTraces))
    })
  addExamples(cleanup, [['namegate cleanup', 'when the daemons are gone for good']])
}

function group(program: Command, name: string, summary: string): Command {
  return program.command(name).description(`${summary}.`).helpCommand(false)
}

/**
 * A command with the options that all of them have.
 * @param text  what its output for people is called
 */
function common(
  parent: Command,
  name: string,
  summary: string,
  surroundings: Surroundings,
  text: 'text' | 'compact' = 'text',
): Command {
  const command = parent.command(name).description(`${summary}.`)
  addConfigOption(command, surroundings)
  return command.addOption(
    new Option('-o, --output <format>', `${text}, or json: one object a line`)
      .choices([text, 'json'])
      .default(text),
  )
}

function readCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Write a whole number.')
  return Number(text)
}

/** No default in commander: a file that is named must be there, the default one need not. */
function addConfigOption(command: Command, { defaultFile }: Surroundings): void {
  command.option('-c, --config <file>', `configuration file (default: ${defaultFile})`)
}

function addExamples(command: Command, examples: readonly (readonly [string, string])[]): void {
  const width = Math.max(...examples.map(([line]) => line.length))
  const lines = examples.map(([line, note]) => {
    return note === '' ? `  ${line}` : `  ${line.padEnd(width)}  ${note}`
  })
  command.addHelpText('after', `\nExamples:\n${lines.join('\n')}`)
}
