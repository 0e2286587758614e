// Who calls the signer: read from the TLS connection alone. An admin, a registry, or nobody; and what either may call.

import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import { TLSSocket } from 'node:tls';
import { createContextKey } from '@connectrpc/connect';
import { Vl3Error } from '../../native-free/error.ts';
import type { TrustBundle } from '../identity/chain.ts';
import { verifyPeer } from '../identity/tls.ts';

export type SignerCaller =
  | { readonly role: 'nobody'; readonly problem: string }
  | { readonly role: 'admin'; readonly name: string }
  /** `hosts`: what its certificate names, and the next one will. */
  | { readonly role: 'registry'; readonly hosts: readonly string[] };

export const callerKey = createContextKey<SignerCaller>(
  { role: 'nobody', problem: 'the call came without a connection' },
  { description: 'caller of the signer' },
);

/** Asked anew for each call: a long connection outlives its certificate, and a CA its bundle. */
export const callerOf = (
  { socket }: IncomingMessage | Http2ServerRequest,
  bundle: TrustBundle,
  now: number,
): SignerCaller => {
  if (!(socket instanceof TLSSocket)) return { role: 'nobody', problem: 'the connection is not encrypted' };
  const result = verifyPeer(socket, bundle, now);
  if (result === undefined) return { role: 'nobody', problem: 'no client certificate was presented' };
  if (result.kind === 'refused')
    return { role: 'nobody', problem: `the client certificate ${result.message}` };
  const { id, leaf } = result;
  if (id.kind === 'admin') return { role: 'admin', name: id.name };
  if (id.kind === 'registry') return { role: 'registry', hosts: hostsOf(leaf.x509.subjectAltName ?? '') };
  return {
    role: 'nobody',
    problem: `the client certificate is of ${id.kind === 'node' ? 'a node' : id.kind}`,
  };
};

/** Of "URI:spiffe://…, DNS:registry.example, IP Address:192.0.2.1", as our CA writes it. */
const hostsOf = (names: string): string[] =>
  names
    .split(', ')
    .flatMap((one) => /^(?:DNS|IP Address):(.+)$/.exec(one)?.[1] ?? [])
    .map((host) => host.toLowerCase());

const SERVICES: Readonly<Record<string, 'admin' | 'registry'>> = {
  'vl3.v1.CaService': 'admin',
  'vl3.v1.SignerService': 'registry',
};

/** Throws Vl3Error: 'unauthenticated' for nobody, 'permission-denied' for the other role. */
export const mustBeAllowed = (service: string, caller: SignerCaller): void => {
  if (caller.role === 'nobody')
    throw new Vl3Error(
      'unauthenticated',
      `${caller.problem}: the CA answers admins, and registries by the credential that \`vl3 ca registry\` made`,
    );
  if (SERVICES[service] === caller.role) return;
  throw new Vl3Error('permission-denied', `this call to the CA is not for the role "${caller.role}"`);
};
