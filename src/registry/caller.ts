// Who calls: read from the TLS connection alone. A client certificate that verifies against the domain's trust bundle
// names an admin or a node by its SPIFFE ID; anything else is anonymous, with the reason.

import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import { TLSSocket } from 'node:tls';
import { createContextKey } from '@connectrpc/connect';
import { CLIENT_AUTH } from '../identity/certificate.ts';
import { type TrustBundle, verifyChain } from '../identity/chain.ts';

export type Role = 'admin' | 'node' | 'anonymous';

export type Caller =
  | { readonly role: 'anonymous'; readonly problem: string; readonly address: string }
  | {
      readonly role: 'admin' | 'node';
      readonly name: string;
      /** Of the certificate, lowercase hex. */
      readonly serial: string;
      /** When the certificate ends, milliseconds since the epoch. */
      readonly notAfter: number;
      readonly address: string;
    };

export const callerKey = createContextKey<Caller>(
  { role: 'anonymous', problem: 'the call came without a connection', address: '' },
  { description: 'caller' },
);

const REMEDY = 'use the admin credential, or the SVID of an enrolled node';

/** The address without the IPv4-mapped prefix. */
const plainAddress = (address: string | undefined): string =>
  (address ?? '').replace(/^::ffff:(?=\d+\.)/i, '');

const identify = (socket: TLSSocket, bundle: TrustBundle, now: number): Caller => {
  const address = plainAddress(socket.remoteAddress);
  const anonymous = (problem: string): Caller => ({ role: 'anonymous', problem, address });
  // The handshake proved possession of the leaf's key. Whether the chain is good is decided here, not by OpenSSL.
  const leaf = socket.getPeerX509Certificate();
  if (leaf === undefined) return anonymous(`this call needs a client certificate: ${REMEDY}`);
  const verified = verifyChain([new Uint8Array(leaf.raw)], bundle, now, CLIENT_AUTH);
  if (verified.kind === 'refused') return anonymous(`the client certificate ${verified.message}: ${REMEDY}`);
  if (verified.id.kind === 'registry') return anonymous(`the client certificate is a registry's: ${REMEDY}`);
  return {
    role: verified.id.kind,
    name: verified.id.name,
    serial: verified.leaf.serial,
    notAfter: verified.notAfter,
    address,
  };
};

interface CallersOptions {
  readonly bundle: TrustBundle;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Answers the caller of a request; a connection is identified once, its certificate's end checked at each call. */
export class Callers {
  readonly #options: CallersOptions;
  readonly #known = new WeakMap<object, Caller>();

  constructor(options: CallersOptions) {
    this.#options = options;
  }

  of(request: IncomingMessage | Http2ServerRequest): Caller {
    const connection = 'stream' in request ? request.stream.session : request.socket;
    if (connection === undefined) {
      return { role: 'anonymous', problem: 'the connection is closed', address: '' };
    }
    const now = this.#options.now();
    let caller = this.#known.get(connection);
    if (caller === undefined) {
      const socket = connection instanceof TLSSocket ? connection : request.socket;
      caller =
        socket instanceof TLSSocket
          ? identify(socket, this.#options.bundle, now)
          : { role: 'anonymous', problem: 'the connection is not encrypted', address: '' };
      this.#known.set(connection, caller);
    }
    if (caller.role !== 'anonymous' && caller.notAfter < now) {
      return {
        role: 'anonymous',
        problem: `the client certificate has expired: ${REMEDY}`,
        address: caller.address,
      };
    }
    return caller;
  }
}
