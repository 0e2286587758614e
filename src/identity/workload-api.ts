// The SPIFFE Workload API, as a client: one stream over a unix socket that tells of all SVIDs of this process, and again whenever
// one changes (SPIFFE Workload API, sections 4 to 6, and SPIFFE Workload Endpoint). Who we are, the other side reads from the
// socket; we show it nothing.

import { createPrivateKey, type KeyObject } from 'node:crypto';
import { connect } from 'node:net';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { Vl3Error } from '../../native-free/error.ts';
import { isTrustDomain } from '../../native-free/registry/spiffe-id.ts';
import { Backoff } from '../agent/backoff.ts';
import {
  SpiffeWorkloadAPI,
  type X509SVID,
  type X509SVIDResponse,
} from '../api/generated/spiffe/workload/workload_pb.js';
import type { TrustBundle } from './chain.ts';
import { MalformedDer, readValues, TAG } from './der.ts';
import type { OfferFeed, OfferTaker } from './identity-source.ts';
import type { Offer, OfferedSvid } from './svid.ts';

/** Without it a server must refuse the call (Workload Endpoint, section 4). */
const HEADERS = { 'workload.spiffe.io': 'true' };
const AUTHORITY = 'http://localhost';
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
const MAX_SVIDS = 64;
const MAX_FEDERATED = 256;
const PATIENCE = { firstMs: 250, capMs: 10_000 };

export interface WorkloadApiOptions {
  /** The socket's path. */
  readonly socket: string;
}

export class WorkloadApi implements OfferFeed {
  readonly place: string;
  readonly #socket: string;

  constructor({ socket }: WorkloadApiOptions) {
    this.place = `the Workload API at unix://${socket}`;
    this.#socket = socket;
  }

  async run(taker: OfferTaker, signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(PATIENCE);
    while (!signal.aborted) {
      try {
        await this.#follow(taker, signal, () => backoff.reset());
        if (!signal.aborted) taker.failed(new Vl3Error('unavailable', 'it ended the stream'));
      } catch (error) {
        if (signal.aborted) return;
        taker.failed(problemOf(error));
      }
      await backoff.wait(signal);
    }
  }

  /** Resolves when the other side ends the stream. */
  async #follow(taker: OfferTaker, signal: AbortSignal, onAnswer: () => void): Promise<void> {
    const path = this.#socket;
    // No pings: a server of gRPC sends away whoever pings more often than every five minutes, and a socket of the machine breaks
    // when the other side goes.
    const sessionManager = new Http2SessionManager(AUTHORITY, {}, { createConnection: () => connect(path) });
    const transport = createGrpcTransport({
      baseUrl: AUTHORITY,
      sessionManager,
      readMaxBytes: MAX_MESSAGE_BYTES,
      acceptCompression: [],
    });
    try {
      const client = createClient(SpiffeWorkloadAPI, transport);
      for await (const answer of client.fetchX509SVID({}, { headers: HEADERS, signal })) {
        let offer: Offer | Vl3Error;
        try {
          offer = offerOf(answer);
        } catch (error) {
          offer = problemOf(error);
        }
        if (offer instanceof Vl3Error) taker.failed(offer);
        else {
          taker.offered(offer);
          onAnswer();
        }
      }
    } finally {
      sessionManager.abort();
    }
  }
}

/** Throws Vl3Error('failed-precondition') for what is not as the standard has it: it is taken whole or not at all. */
export const offerOf = ({ svids, federatedBundles }: X509SVIDResponse): Offer => {
  const foreign = Object.entries(federatedBundles);
  if (svids.length > MAX_SVIDS || foreign.length > MAX_FEDERATED)
    throw refuse(`its answer holds ${svids.length} SVIDs and ${foreign.length} bundles, which is too much`);
  return { svids: svids.map(offeredOf), federated: foreign.map(([id, der]) => federatedOf(id, der)) };
};

const offeredOf = (svid: X509SVID): OfferedSvid => ({
  certificateChain: certificatesIn(svid.x509Svid, 'an SVID'),
  privateKey: keyIn(svid.x509SvidKey),
  authorities: certificatesIn(svid.bundle, 'a bundle'),
});

const federatedOf = (id: string, der: Uint8Array): TrustBundle => {
  const trustDomain = /^spiffe:\/\/([^/]+)\/?$/.exec(id)?.[1] ?? '';
  if (!isTrustDomain(trustDomain)) throw refuse('its answer holds a bundle of what is no trust domain');
  // SPIRE sends one that is empty for a domain that has no CA (any more): its identities hold no more.
  return { trustDomain, certificates: der.length === 0 ? [] : certificatesIn(der, 'a bundle') };
};

/** One after another, without anything between. */
const certificatesIn = (der: Uint8Array, what: string): Uint8Array[] => {
  try {
    const values = readValues(der);
    if (values.length > 0 && values.every(({ tag }) => tag === TAG.sequence))
      return values.map(({ encoded }) => encoded.slice());
  } catch (error) {
    if (!(error instanceof MalformedDer)) throw error;
  }
  throw refuse(`its answer holds ${what} that is no certificates in DER`);
};

const keyIn = (der: Uint8Array): KeyObject => {
  try {
    return createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8' });
  } catch (cause) {
    throw refuse('its answer holds a key that cannot be read (PKCS #8, DER)', cause);
  }
};

const problemOf = (error: unknown): Vl3Error => {
  if (error instanceof Vl3Error) return error;
  const { code, rawMessage, cause } = ConnectError.from(error);
  const words = printable(rawMessage);
  if (code === Code.PermissionDenied)
    return new Vl3Error(
      'permission-denied',
      `it has no identity for this program (${words}): register an entry whose selectors fit it`,
      { cause: error },
    );
  const system = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined;
  if (system === 'ENOENT' || system === 'ECONNREFUSED')
    return new Vl3Error('unavailable', `nobody listens there (${system}): does the SPIFFE agent run?`, {
      cause: error,
    });
  if (system === 'EACCES')
    return new Vl3Error('permission-denied', 'this user may not connect to it: see who may', {
      cause: error,
    });
  if (code === Code.Unavailable)
    return new Vl3Error('unavailable', `it went away, or is not ready (${words})`, { cause: error });
  return new Vl3Error('unavailable', `it does not answer as it should (${words})`, { cause: error });
};

const printable = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);

const refuse = (message: string, cause?: unknown): Vl3Error =>
  new Vl3Error('failed-precondition', message, { cause });
