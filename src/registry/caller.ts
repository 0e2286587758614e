// Who calls: read from the TLS connection alone. A client certificate that holds under the trust bundle of the domain that it
// names is an admin's, an operator's or a node's of this domain, or a node's of a federated one; anything else is anonymous,
// with the reason.

import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import { TLSSocket } from 'node:tls';
import { createContextKey } from '@connectrpc/connect';
import { foreignDomainOf, foreignKey } from '../../native-free/registry/foreign-key.ts';
import { trustDomainOf } from '../federation/verifier-by-domain.ts';
import type { TrustBundle } from '../identity/chain.ts';
import { INTERMEDIATES_HEADER, readIntermediates } from '../identity/intermediates.ts';
import { peerIdentity, peerProblem, shownLeaf } from '../identity/tls.ts';

export type Role = 'admin' | 'operator' | 'node' | 'foreign-node' | 'anonymous';

export type Caller =
  | {
      readonly role: 'anonymous';
      readonly problem: string;
      readonly address: string;
      /** It shows a certificate of a domain with which there is no federation (any more). */
      readonly isUnfederated?: boolean;
    }
  | {
      readonly role: 'admin' | 'operator' | 'node' | 'foreign-node';
      /** Of a node of another domain "<node>@<domain>", as the store has it. */
      readonly name: string;
      /** Of the certificate, lowercase hex. */
      readonly serial: string;
      /** When the certificate begins and ends, milliseconds since the epoch. */
      readonly notBefore: number;
      readonly notAfter: number;
      readonly address: string;
    };

export const callerKey = createContextKey<Caller>(
  { role: 'anonymous', problem: 'the call came without a connection', address: '' },
  { description: 'caller' },
);

const REMEDY = 'use the admin credential, or the SVID of an enrolled node';

interface Known {
  readonly caller: Caller;
  readonly changes: number;
  /** By which a node of another domain was identified: it may cease to count by time alone. */
  readonly by: TrustBundle | undefined;
}

interface CallersOptions {
  /** This domain. */
  readonly trustDomain: string;
  /** What counts of a domain's bundle now; undefined: it is neither this one nor federated with it. */
  readonly bundleFor: (domain: string) => TrustBundle | undefined;
  /** Another number whenever another bundle may count. */
  readonly changes: () => number;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Answers the caller of a request; a connection is identified once, its certificate's end checked at each call. */
export class Callers {
  readonly #options: CallersOptions;
  readonly #known = new WeakMap<object, Known>();

  constructor(options: CallersOptions) {
    this.#options = options;
  }

  of(request: IncomingMessage | Http2ServerRequest): Caller {
    const connection = 'stream' in request ? request.stream.session : request.socket;
    if (connection === undefined) {
      return { role: 'anonymous', problem: 'the connection is closed', address: '' };
    }
    const now = this.#options.now();
    const known = this.#known.get(connection);
    const changes = this.#options.changes();
    const isOver = known !== undefined && known.caller.role !== 'anonymous' && known.caller.notAfter < now;
    if (known?.changes === changes && !isOver && this.#bundleOf(known.caller) === known.by)
      return known.caller;
    const caller = this.#identify(request, now);
    this.#known.set(connection, { caller, changes, by: this.#bundleOf(caller) });
    return caller;
  }

  /** Whether the last call on the connection was by somebody. */
  hasKnown(connection: object): boolean {
    const role = this.#known.get(connection)?.caller.role;
    return role !== undefined && role !== 'anonymous';
  }

  #bundleOf(caller: Caller): TrustBundle | undefined {
    if (caller.role !== 'foreign-node') return undefined;
    return this.#options.bundleFor(foreignDomainOf(caller.name) ?? '');
  }

  #identify({ socket, headers }: IncomingMessage | Http2ServerRequest, now: number): Caller {
    // Without the prefix of an IPv4-mapped address.
    const address = (socket.remoteAddress ?? '').replace(/^::ffff:(?=\d+\.)/i, '');
    if (!(socket instanceof TLSSocket)) {
      return { role: 'anonymous', problem: 'the connection is not encrypted', address };
    }
    const { trustDomain: home, bundleFor } = this.#options;
    const shown = shownLeaf(socket);
    const named = shown && trustDomainOf(shown);
    const domain = named ?? home;
    const bundle = bundleFor(domain);
    if (bundle === undefined) {
      const problem = `${home} has no federation with ${domain}, or none any more: one of them has to invite the other, anew (\`vl3 federation invite\`), so that it accepts`;
      return { role: 'anonymous', problem, address, isUnfederated: true };
    }
    const intermediates = readIntermediates(headers[INTERMEDIATES_HEADER]);
    const options = { intermediates, isOurs: domain === home };
    const peer = peerIdentity(socket, bundle, now, options);
    if (peer === undefined) {
      const problem = peerProblem(socket, bundle, now, options) ?? 'the client is not known';
      return { role: 'anonymous', problem: `${problem}: ${REMEDY}`, address };
    }
    const { kind, serial, notBefore, notAfter } = peer;
    const known = { serial, notBefore, notAfter, address };
    if (domain === home) return { role: kind, name: peer.name, ...known };
    if (kind === 'node') return { role: 'foreign-node', name: foreignKey(peer.name, domain), ...known };
    return { role: 'anonymous', problem: `an ${kind} of ${domain} is nobody here: ${REMEDY}`, address };
  }
}
