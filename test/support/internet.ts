/**
 * The program in the `internet` namespace of world.ts: the cluster's DNS server and the web servers
 * of everybody, in one process because test machines have few processors.
 *
 *     node internet.ts DIRECTORY     reads DIRECTORY/zone.json, prints 'ready'
 *
 * The web servers speak plain HTTP on 80 and on 443: what a connection reaches is the question
 * here, not what is said in it. They answer any name with one line that says who was asked.
 *
 * Over the unix socket DIRECTORY/dns.sock, as a person would do it:
 *     curl --unix-socket dns.sock http://dns/cut          answers nothing any more
 *     curl --unix-socket dns.sock http://dns/restore
 *     curl --unix-socket dns.sock http://dns/counts       questions so far, by name and type
 */
import { readFileSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { join } from 'node:path'
import { type DnsZone, DnsServer } from './dns-server.ts'

export interface InternetOptions extends DnsZone {
  /** Where DNS is served; its port is 53. */
  readonly dnsAddresses: readonly string[]
}

const DNS_PORT = 53
const WEB_PORTS = [80, 443]

const directory = process.argv[2]!
const options = JSON.parse(readFileSync(join(directory, 'zone.json'), 'utf8')) as InternetOptions
const dns = new DnsServer(options)
for (const address of options.dnsAddresses) await dns.listen(address, DNS_PORT)

for (const port of WEB_PORTS) {
  await listen((request, response) => {
    const { localAddress = '', remoteAddress = '' } = request.socket
    const name = request.headers.host?.replace(/:\d+$/, '')
    const [here, you] = [localAddress, remoteAddress].map((address) =>
      address.replace('::ffff:', ''),
    )
    response.end(`this is ${name} at ${here} port ${port}, you are ${you}\n`)
  }, port)
}

await listen(
  (request, response) => {
    switch (request.url) {
      case '/cut':
        dns.isCut = true
        response.end('the DNS server answers nothing from now on\n')
        break
      case '/restore':
        dns.isCut = false
        response.end('the DNS server answers again\n')
        break
      case '/counts':
        response.end(`${JSON.stringify(Object.fromEntries(dns.counts), null, 2)}\n`)
        break
      default:
        response.writeHead(404).end('cut, restore, counts\n')
    }
  },
  join(directory, 'dns.sock'),
)

process.stdout.write('ready\n')

async function listen(answer: RequestListener, at: number | string): Promise<Server> {
  const server = createServer({ keepAlive: false }, answer)
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(at, () => resolve(server))
  })
}
