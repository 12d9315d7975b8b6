#!/usr/bin/env node
/**
 * The program: gives the commands of src/ctl the world they work in, and starts the daemons.
 *
 * Everything a command or daemon needs is imported when it is run: `namegate --help` and
 * `namegate status` must not pay for the data plane.
 */
import { hostname, userInfo } from 'node:os'
import manifest from '../package.json' with { type: 'json' }
import type { Config, MachineFacts } from '../src/config/load.ts'
import { DEFAULT_FILE } from '../src/config/options.ts'
import { EXIT_NO, EXIT_OK, Failure } from '../src/ctl/failure.ts'
import { runProgram } from '../src/ctl/program.ts'
import type { LogLevel } from '../src/log.ts'

const machine: MachineFacts = {
  hostName: hostname(),
  userId: process.getuid?.() ?? 0,
  homeDirectory: process.env['HOME'] || userInfo().homedir,
  stateHome: process.env['XDG_STATE_HOME'] ?? '',
  runtimeDirectory: process.env['XDG_RUNTIME_DIR'] ?? '',
}

async function runDaemon(role: 'agent' | 'proxy', file: string, level: LogLevel): Promise<number> {
  const { createLog } = await import('../src/log.ts')
  const { ConfigError, loadConfig } = await import('../src/config/load.ts')
  const log = createLog({
    level,
    fields: { role, pid: process.pid },
    isTerminal: process.stderr.isTTY === true,
  })
  const load = () => loadConfig(file, machine)
  let config: Config
  try {
    config = load()
  } catch (error) {
    if (error instanceof ConfigError) throw new Failure(EXIT_NO, error.message)
    throw error
  }
  if (role === 'agent') {
    const { runAgent } = await import('../src/agent/agent.ts')
    return runAgent(config, log, load)
  }
  const { runProxy } = await import('../src/proxy/proxy.ts')
  return runProxy(config, log, load)
}

async function removeTraces(config: Config): Promise<void> {
  const { removeFromKernel } = await import('../src/agent/remove.ts')
  await removeFromKernel(config)
}

// Whoever read our output is gone (`| head`): that is no error, there is just nothing more to do.
const readerGone = new AbortController()
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  readerGone.abort()
  process.exit(EXIT_OK)
})

process.exitCode = await runProgram(
  process.argv.slice(2),
  { version: manifest.version, runDaemon, removeTraces },
  {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    machine,
    defaultFile: DEFAULT_FILE,
    signal: readerGone.signal,
  },
)
