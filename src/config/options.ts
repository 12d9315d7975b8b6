/**
 * Every key of namegate.yaml, in the order in which the reference page shows them.
 *
 * Adding a key: a line here (or in the options.ts of the folder whose setting it is), a field in
 * load.ts, and `npm run gen` for the reference page and the schema. A key whose feature does not
 * exist yet is declared all the same and listed in UNBUILT, so that a file which asks for it is
 * refused with a reason instead of being half obeyed.
 */
import { CACHE_OPTIONS } from '../cache/options.ts'
import type { Option } from '../option.ts'
import { LIMIT_OPTIONS } from '../pipeline/options.ts'

/** Where the file is when nobody says otherwise. */
export const DEFAULT_FILE = '/etc/namegate/namegate.yaml'

/** A file that names more servers, zones, interfaces than this is a mistake, not a large site. */
const LIST_MAX = 64

export const OPTIONS: readonly Option[] = [
  {
    key: 'node',
    kind: 'text',
    default: null,
    why: "This node's name in flows and status. Default: the host name.",
  },
  {
    key: 'state',
    kind: 'path',
    default: null,
    why: 'Directory, made with mode 0700, for what survives a reboot: the last policy. Default: /var/lib/namegate; not as root, namegate under $XDG_STATE_HOME.',
  },
  {
    key: 'run',
    kind: 'path',
    default: null,
    why: 'Directory, made with mode 0700, for sockets and locks; how commands find the daemons. Default: /run/namegate; not as root, namegate under $XDG_RUNTIME_DIR.',
  },
  {
    key: 'listen.addresses',
    kind: 'address',
    isList: true,
    min: 1,
    max: LIST_MAX,
    why: "Where DNS is served. With intercept no interface needs to have the address: a route makes it the node's. Without, the node must have it.",
  },
  {
    key: 'listen.port',
    kind: 'port',
    default: 53,
    why: 'UDP and TCP port of these addresses. Below 1024 it needs root.',
  },
  {
    key: 'intercept.interfaces',
    kind: 'interface',
    isList: true,
    min: 1,
    max: LIST_MAX,
    why: "The node's ends of the clients' links; a final * stands for any ending. Without intercept only what is sent to listen.addresses is served, and no root is needed.",
  },
  {
    key: 'intercept.mark',
    kind: 'mark',
    default: '0x4e470000/0xffff0000',
    why: 'Packet mark as value/mask. Only bits inside the mask are read or changed; the others belong to other software on the node. The mask needs at least 4 bits.',
  },
  {
    key: 'intercept.routingTable',
    kind: 'integer',
    default: 20551,
    min: 256,
    max: 4294967295,
    why: "Routing table that delivers intercepted packets. Below 256 are the kernel's own tables.",
  },
  {
    key: 'intercept.rulePriority',
    kind: 'integer',
    default: 100,
    min: 1,
    max: 32765,
    why: 'Priority of the routing rules. 0 belongs to local, 32766 to main: ours come between.',
  },
  {
    key: 'intercept.servers',
    kind: 'address',
    isList: true,
    default: [],
    max: LIST_MAX,
    why: 'DNS servers that Namegate stands in for beside listen.addresses. Of ungoverned clients only DNS to these is intercepted; of governed clients, DNS to any server.',
  },
  {
    key: 'intercept.node',
    kind: 'boolean',
    default: true,
    why: "Whether processes of the node itself, pods on its network among them, that ask intercept.servers ask us: true, because they are as far from the cluster's DNS as pods are, and reach it by themselves while nobody of us is alive. At listen.addresses they are answered either way. With clients.unknown: closed neither is intercepted.",
  },
  {
    key: 'upstreams[].zones',
    kind: 'zone',
    isList: true,
    min: 1,
    max: LIST_MAX,
    why: "Names at and below these are asked of this entry's servers; the longest zone wins, '.' is everything else.",
  },
  {
    key: 'upstreams[].servers',
    kind: 'server',
    isList: true,
    min: 1,
    max: 16,
    why: 'address, address:port or [address]:port, or the path of a file in the format of resolv.conf, which is watched.',
  },
  {
    key: 'upstreams[].transport',
    kind: 'choice',
    values: ['udp', 'tcp', 'tls'],
    default: 'udp',
    why: 'How servers are asked. With udp, truncated answers are fetched again by TCP. With tls, serverName, pins or both say whom to trust, and the port is 853 unless given.',
  },
  {
    key: 'upstreams[].serverName',
    kind: 'text',
    default: null,
    why: "With tls: the name, or address, that the servers' certificates must be for. Their authority must be one of caFile, or, without it, one that Node trusts.",
  },
  {
    key: 'upstreams[].caFile',
    kind: 'path',
    default: null,
    why: 'With tls and serverName: file of certificates in PEM, the authorities that are trusted, and no others. It is read at start and when the configuration is (SIGHUP).',
  },
  {
    key: 'upstreams[].pins',
    kind: 'text',
    isList: true,
    default: [],
    max: 16,
    why: "With tls: the server's public key must be one of these, SHA-256 of its SubjectPublicKeyInfo in base64. Without serverName any certificate with that key will do.",
  },
  ...CACHE_OPTIONS,
  ...LIMIT_OPTIONS,
  {
    key: 'policy.directory',
    kind: 'path',
    why: 'Directory of policy files (*.yaml, *.yml), watched. Without policy every client is ungoverned.',
  },
  {
    key: 'policy.denyResponse',
    kind: 'choice',
    values: ['refused', 'nxdomain', 'nodata'],
    default: 'refused',
    why: 'What a denied question is answered with. Some resolvers ask the next server, or wait, after refused.',
  },
  {
    key: 'policy.mode',
    kind: 'choice',
    values: ['enforce', 'audit'],
    default: 'enforce',
    why: 'audit denies nothing and records what enforce would deny.',
  },
  {
    key: 'clients.file',
    kind: 'path',
    default: null,
    why: 'YAML file that says which addresses belong to which clients, watched. Default: none; every source is then an unknown client.',
  },
  {
    key: 'clients.kubernetes',
    kind: 'boolean',
    default: false,
    why: 'Takes clients, Services and policies from the Kubernetes API.',
  },
  {
    key: 'clients.unknown',
    kind: 'choice',
    values: ['open', 'closed'],
    default: 'open',
    why: 'What a source on an intercepted interface gets that is no known client.',
  },
  {
    key: 'observe.hubble.agent',
    kind: 'listener',
    default: null,
    why: "Where the agent serves Hubble's observer API: unix:PATH (relative to run) or address:port.",
  },
  {
    key: 'observe.hubble.proxy',
    kind: 'listener',
    default: null,
    why: "Where the proxy serves Hubble's observer API: unix:PATH (relative to run) or address:port.",
  },
  {
    key: 'observe.metrics.agent',
    kind: 'listener',
    default: null,
    why: 'Where the agent serves metrics for Prometheus: address:port.',
  },
  {
    key: 'observe.metrics.proxy',
    kind: 'listener',
    default: null,
    why: 'Where the proxy serves metrics for Prometheus: address:port.',
  },
]

/** Mappings that may be absent: then the feature is off, and their required keys are not missed. */
export const OPTIONAL_MAPPINGS: readonly string[] = ['intercept', 'policy']

export interface Unbuilt {
  /** A key, or a mapping of keys. */
  readonly key: string
  /** The only value that is refused, as written. */
  readonly value?: string
  /** The only value that is not refused, as written; an absent key means it, whatever its default. */
  readonly off?: string
  /** What does not exist yet, and what to write until it does. */
  readonly message: string
}

/** Keys and values whose feature does not exist yet. This list and nothing else decides it. */
export const UNBUILT: readonly Unbuilt[] = [
  {
    key: 'clients.kubernetes',
    off: 'false',
    message: 'reading the Kubernetes API is not built yet; give clients.file instead',
  },
  {
    key: 'observe.hubble',
    message: "the Hubble server is not built yet; 'namegate observe' shows the flows",
  },
  {
    key: 'observe.metrics',
    message: "metrics are not built yet; 'namegate status -o json' has the counters",
  },
]
