import { datapathConformance } from '../conformance.ts'
import { NftablesDriver } from './driver.ts'
import { FACTS, inNode, onNode, podOf, startProbers } from '../../../test/support/datapath/world.ts'
import { PacketGrantWriter } from './writer.ts'
import { compileMarks } from '../../grant/ruleset.ts'
import { after } from 'node:test'

const CAPACITY = 64

if (inNode(import.meta.url, 120_000)) {
  const probers = await startProbers()
  after(() => {
    for (const prober of Object.values(probers)) prober.end()
  })
  datapathConformance('nftables', async () => {
    const driver = new NftablesDriver()
    const writers: PacketGrantWriter[] = []
    return {
      driver,
      facts: FACTS,
      writer: (place) => {
        const mark = compileMarks(FACTS.mark).write
        const writer = new PacketGrantWriter({ mark, place, capacity: CAPACITY })
        writers.push(writer)
        return writer
      },
      isOpen: async (client, address, port) => {
        const command = { do: 'connect', address, port, source: client, waitMs: 400 } as const
        return (await podOf(probers, client).do(command)) === 'open'
      },
      pass: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      flushByOther: async () => void onNode('nft', 'flush', 'ruleset'),
      [Symbol.asyncDispose]: async () => {
        await driver.remove()
        driver[Symbol.dispose]()
        for (const writer of writers) writer[Symbol.dispose]()
      },
    }
  })
}
