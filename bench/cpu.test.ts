import { test } from 'node:test'
import assert from 'node:assert/strict'
import { cpuMs, residentBytes } from './cpu.ts'

test('CPU of a process by /proc is what getrusage says of it', () => {
  const wholeMs = (): number => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1000
  }
  const [byProc, byUsage] = [cpuMs(process.pid), wholeMs()]
  while (wholeMs() - byUsage < 300);
  const spent = cpuMs(process.pid) - byProc
  const usage = wholeMs() - byUsage
  assert(Math.abs(spent - usage) < 30, `${spent} ms by /proc, ${usage} ms by getrusage`)
})

test('the memory of a process that is gone is no number that could be taken for one', () => {
  assert(residentBytes(process.pid) > 1 << 20)
  assert.throws(() => residentBytes(2 ** 22 + 1), { code: 'ENOENT' })
})
