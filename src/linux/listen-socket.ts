/** A socket that clients' messages come to; held by every process of the node. */
export interface ListenSocket {
  readonly fd: number
  readonly kind: 'udp' | 'tcp'
  readonly family: 4 | 6
  /** The port it is bound to: what clients asked when the kernel does not say. */
  readonly port: number
  /** Gets what the kernel intercepts on its way to other servers. */
  readonly isTransparent: boolean
}
