/**
 * Service translation, as policy sees it: a question sent to a ClusterIP is a question to the
 * backends behind it, on the backends' port. We answer at the ClusterIP ourselves and never see the
 * packet translated, so rules about backends are turned into rules about ClusterIPs here.
 *
 * What must stay true: an allowing rule covers a ClusterIP only if it covers *every* backend behind
 * it, known by address or by the labels that the Service asks of its pods; a denying rule covers it
 * if it covers one.
 */
import type { Inventory, Protocol, ServiceEntry, ServicePort } from '../identity/endpoint.ts'
import { type LabelView, viewLabels } from '../identity/selector.ts'

/** One port of a Service, with what is behind it. */
export interface Frontend {
  /** ClusterIPs, canonical text. */
  readonly addresses: readonly string[]
  readonly port: number
  readonly protocol: Protocol
  readonly target: number | string
  /** What each of its pods is labelled with at least; null: unknown. */
  readonly labels: LabelView | null
  /** Those known by address. */
  readonly backends: readonly Backend[]
}

export interface Backend {
  /** Canonical text. */
  readonly address: string
  readonly port: number
}

/** Every port of every Service that has a ClusterIP. */
export function listFrontends(
  inventory: Inventory,
  views: ReadonlyMap<string, LabelView>,
): Frontend[] {
  const namespaces = new Map(inventory.namespaces.map((entry) => [entry.name, entry]))
  return inventory.services
    .filter((service) => service.addresses.length > 0)
    .flatMap((service) => {
      const { namespace, selector } = service
      const labels =
        selector === null ? null : viewLabels({ namespace, labels: selector }, namespaces)
      return service.ports.map((port): Frontend => {
        const backends = findBackends(service, port, labels, inventory, views)
        const { addresses } = service
        return {
          addresses,
          port: port.port,
          protocol: port.protocol,
          target: port.target,
          labels,
          backends,
        }
      })
    })
}

/** From its EndpointSlices; without any, from the endpoints that its selector selects. */
function findBackends(
  service: ServiceEntry,
  port: ServicePort,
  labels: LabelView | null,
  inventory: Inventory,
  views: ReadonlyMap<string, LabelView>,
): Backend[] {
  const slices = inventory.slices.filter(
    (slice) => slice.namespace === service.namespace && slice.service === service.name,
  )
  if (slices.length > 0) {
    return slices.flatMap((slice) => {
      const own = slice.ports.filter(
        ({ name, protocol }) => name === port.name && protocol === port.protocol,
      )
      return own.flatMap(({ port: number }) =>
        slice.addresses.map((address) => ({ address, port: number })),
      )
    })
  }
  if (labels === null) return []
  const selected = inventory.endpoints.filter((endpoint) => {
    const view = views.get(`${endpoint.namespace}/${endpoint.name}`)
    return view !== undefined && [...labels].every(([key, value]) => view.get(key) === value)
  })
  return selected.flatMap((endpoint) => {
    const number =
      typeof port.target === 'number'
        ? port.target
        : endpoint.ports.find(
            ({ name, protocol }) => name === port.target && protocol === port.protocol,
          )?.port
    return number === undefined
      ? []
      : endpoint.addresses.map((address) => ({ address, port: number }))
  })
}
