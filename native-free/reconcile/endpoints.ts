// Which UDP endpoints a node announces, and which of a peer's announced ones it may try. An address behind a NAT means
// something only at the same site (behind the same NAT), where "site" is the address the registry sees.

import type { Endpoint } from '../device/data-plane.ts';

/** An endpoint as a node's record carries it. */
export interface AnnouncedEndpoint {
  readonly address: string;
  readonly port: number;
  readonly scope: 'public' | 'site';
  /** With scope "site": the public address that the site shares. */
  readonly site?: string | undefined;
}

export interface EndpointFacts {
  /** The node's own underlay addresses, canonical. */
  readonly localAddresses: readonly string[];
  /** The address the registry saw the node come from; undefined while unknown. */
  readonly observedAddress: string | undefined;
  /** Given by the operator: the way in through a 1:1 NAT or a load balancer. */
  readonly advertised: readonly { readonly address: string; readonly port?: number | undefined }[];
  /** The node's UDP port. */
  readonly port: number;
}

export interface Announcement {
  readonly endpoints: AnnouncedEndpoint[];
  /** True when nobody outside the site can reach the node first, so that it must keep its mappings open. */
  readonly behindNat: boolean;
  /** The site the node is at; undefined when it is not behind a NAT or that is not known yet. */
  readonly site: string | undefined;
}

/** The most endpoints a record carries. */
export const MAX_ENDPOINTS = 16;

export const announce = (facts: EndpointFacts): Announcement => {
  const { localAddresses, observedAddress, advertised, port } = facts;
  const translated = observedAddress !== undefined && !localAddresses.includes(observedAddress);
  const site = translated ? observedAddress : undefined;
  const endpoints: AnnouncedEndpoint[] = advertised.map((one) => ({
    address: one.address,
    port: one.port ?? port,
    scope: 'public',
  }));
  for (const address of localAddresses) {
    if (site !== undefined) endpoints.push({ address, port, scope: 'site', site });
    else if (advertised.length === 0) endpoints.push({ address, port, scope: 'public' });
  }
  return {
    endpoints: endpoints.slice(0, MAX_ENDPOINTS),
    behindNat: translated && advertised.length === 0,
    site,
  };
};

/** The peer's endpoints worth trying from a node at `ownSite`, best first. */
export const candidates = (
  announced: readonly AnnouncedEndpoint[],
  ownSite: string | undefined,
): Endpoint[] => {
  const atSite = announced.filter(
    (one) => one.scope === 'site' && one.site !== undefined && one.site === ownSite,
  );
  const open = announced.filter((one) => one.scope === 'public');
  return [...atSite, ...open].map(({ address, port }) => ({ address, port }));
};
