/** `namegate cleanup`: takes every trace of ours out of the kernel. */
import type { Config } from '../config/load.ts'
import { NftablesDriver } from '../datapath/nftables/driver.ts'

export async function removeFromKernel(config: Config): Promise<void> {
  if (config.intercept === null) return
  using driver = new NftablesDriver()
  await driver.remove()
}
