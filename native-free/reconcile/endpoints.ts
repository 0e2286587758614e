// Which UDP endpoints a node announces, and which of a peer's announced ones it may try. An address behind a NAT means
// something only at the same site (behind the same NAT), where "site" is the address the registry sees.

import type { Endpoint } from '../device/data-plane.ts';
import { MAX_RECORD_ENDPOINTS, type RecordEndpoint } from '../registry/record.ts';

export interface EndpointFacts {
  /** The node's own underlay addresses, canonical. */
  readonly localAddresses: readonly string[];
  /**
   * All that it has, also where no other node is: a proxy on the node itself shows one of these, as Kubernetes' for Services
   * does.
   */
  readonly ownAddresses: readonly string[];
  /** The address the registry saw the node come from; undefined while unknown. */
  readonly observedAddress: string | undefined;
  /** Given by the operator: the way in through a 1:1 NAT or a load balancer. */
  readonly advertised: readonly { readonly address: string; readonly port?: number | undefined }[];
  /** The node's UDP port. */
  readonly port: number;
}

export interface Announcement {
  readonly endpoints: RecordEndpoint[];
  /** True when nobody outside the site can reach the node first, so that it must keep its mappings open. */
  readonly behindNat: boolean;
  /** The site the node is at; undefined when it is not behind a NAT or that is not known yet. */
  readonly site: string | undefined;
}

export const announce = (facts: EndpointFacts): Announcement => {
  const { localAddresses, ownAddresses, observedAddress, advertised, port } = facts;
  // Whoever reached the registry by loopback is beside it, which says nothing about what lies between others and it.
  const isLoopback = observedAddress === '::1' || observedAddress?.startsWith('127.') === true;
  const isOwn = [...localAddresses, ...ownAddresses].some((address) => address === observedAddress);
  const translated = observedAddress !== undefined && !isLoopback && !isOwn;
  const site = translated ? observedAddress : undefined;
  const endpoints: RecordEndpoint[] = advertised.map((one) => ({
    address: one.address,
    port: one.port ?? port,
    scope: 'public',
  }));
  for (const address of localAddresses) {
    if (site !== undefined) endpoints.push({ address, port, scope: 'site', site });
    else if (advertised.length === 0) endpoints.push({ address, port, scope: 'public' });
  }
  return {
    endpoints: endpoints.slice(0, MAX_RECORD_ENDPOINTS),
    behindNat: translated && advertised.length === 0,
    site,
  };
};

/** The peer's endpoints worth trying from a node at `ownSite`, best first. */
export const candidates = (announced: readonly RecordEndpoint[], ownSite: string | undefined): Endpoint[] => {
  const atSite = announced.filter(
    (one) => one.scope === 'site' && one.site !== undefined && one.site === ownSite,
  );
  const open = announced.filter((one) => one.scope === 'public');
  return [...atSite, ...open].map(({ address, port }) => ({ address, port }));
};
