// Who calls: read from the TLS connection alone. A client certificate that holds under the domain's trust bundle names
// an admin or a node; anything else is anonymous, with the reason.

import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import { TLSSocket } from 'node:tls';
import { createContextKey } from '@connectrpc/connect';
import type { TrustBundle } from '../identity/chain.ts';
import { peerIdentity, peerProblem } from '../identity/tls.ts';

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
    if (caller === undefined || (caller.role !== 'anonymous' && caller.notAfter < now)) {
      caller = this.#identify(request, now);
      this.#known.set(connection, caller);
    }
    return caller;
  }

  #identify({ socket }: IncomingMessage | Http2ServerRequest, now: number): Caller {
    // Without the prefix of an IPv4-mapped address.
    const address = (socket.remoteAddress ?? '').replace(/^::ffff:(?=\d+\.)/i, '');
    if (!(socket instanceof TLSSocket)) {
      return { role: 'anonymous', problem: 'the connection is not encrypted', address };
    }
    const peer = peerIdentity(socket, this.#options.bundle, now);
    if (peer === undefined) {
      const problem = peerProblem(socket, this.#options.bundle, now) ?? 'the client is not known';
      return { role: 'anonymous', problem: `${problem}: ${REMEDY}`, address };
    }
    return { role: peer.kind, name: peer.name, serial: peer.serial, notAfter: peer.notAfter, address };
  }
}
