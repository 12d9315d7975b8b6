/**
 * What a reload changes while the process runs. The rest of the configuration is bound to sockets,
 * memory or the kernel at start; asked to change it, the process says so and goes on as it is.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Config } from '../config/load.ts'
import type { DaemonView } from './view.ts'

const AT_START = ['node', 'state', 'run', 'listen', 'intercept', 'cache', 'limits'] as const

export function applyReload(daemon: DaemonView, config: Config): void {
  const former = daemon.config
  const kept = AT_START.filter((key) => !isDeepStrictEqual(config[key], former[key]))
  if (kept.length > 0) {
    daemon.log.warn({ keys: kept }, 'these keys change only with a restart of both processes')
  }
  const values = Object.fromEntries(AT_START.map((key) => [key, former[key]]))
  daemon.config = { ...config, ...values }
  daemon.upstreams.configure(daemon.config)
  daemon.dataPlane.useUpstreams(daemon.upstreams.table())
  daemon.log.info({ file: config.file }, 'configuration read anew')
}
