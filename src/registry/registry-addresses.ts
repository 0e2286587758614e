// Where a registry says that it is: in join tokens, in the domain's address, in its certificate. What it was told, or what
// this machine has.

import { networkInterfaces } from 'node:os';
import { Vl3Error } from '../../native-free/error.ts';
import { formatHostPort, type HostPort } from '../../native-free/host-port.ts';
import { fingerprint } from '../identity/certificate.ts';
import type { DomainAddress } from '../identity/domain-address.ts';
import type { Signer } from '../identity/signer.ts';
import { formatJoinToken } from '../identity/token.ts';

interface Places {
  readonly listen: HostPort;
  readonly advertise?: readonly HostPort[];
}

/** The one that signs. */
export const caOf = ({ trustBundle }: Signer): Uint8Array => {
  const [ca] = trustBundle.certificates;
  if (ca === undefined) throw new Vl3Error('internal', 'the trust bundle is empty');
  return ca;
};

export const domainAddress = (signer: Signer, registries: readonly string[]): DomainAddress => {
  const { trustDomain } = signer.trustBundle;
  return { registries, trustDomain, caFingerprint: fingerprint(caOf(signer)) };
};

export const noTokens = (trustDomain: string): Vl3Error =>
  new Vl3Error(
    'failed-precondition',
    `this domain has no join tokens, since its registry gives out no SVIDs: have spiffe://${trustDomain}/node/<name> issued to the agent, and start it with --identity`,
  );

export const joinToken = (signer: Signer, registries: readonly string[], secret: string): string =>
  formatJoinToken({ ...domainAddress(signer, registries), secret });

const isWildcard = (host: string): boolean => host === '0.0.0.0' || host === '::';

/** Loopback comes last, and only when there is nothing else. */
const machineAddresses = (): string[] => {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const usable = all.filter(({ internal, address }) => !internal && !address.startsWith('fe80:'));
  const found = usable.map(({ address }) => address);
  return found.length > 0 ? found.slice(0, 8) : ['127.0.0.1'];
};

export const advertised = ({ advertise = [], listen }: Places, port: number): string[] => {
  if (advertise.length > 0) return advertise.map(formatHostPort);
  const hosts = isWildcard(listen.host) ? machineAddresses() : [listen.host];
  return hosts.map((host) => formatHostPort({ host, port }));
};

/** What the server certificate names, for curl and the like: clients of vl3 look at the SPIFFE ID alone. */
export const advertisedHosts = ({ advertise = [], listen }: Places): string[] => {
  const listening = isWildcard(listen.host) ? machineAddresses() : [listen.host];
  const hosts = [...advertise.map(({ host }) => host), ...listening, 'localhost', '127.0.0.1', '::1'];
  return [...new Set(hosts)].slice(0, 64);
};
