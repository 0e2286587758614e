// Who this node is: the identity it saved, or a new one for its join token. A registry that is down is waited for.

import { hostname } from 'node:os';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { enroll } from '../identity/enroll.ts';
import type { Identity } from '../identity/identity.ts';
import { loadNodeIdentity } from '../identity/identity-file.ts';
import { parseJoinToken } from '../identity/token.ts';
import { Backoff } from './backoff.ts';

export interface EnrolmentOptions {
  readonly stateDirectory: string;
  /** Needed until the node has enrolled. */
  readonly token?: string;
  /** Default: the host's name. */
  readonly name?: string;
}

export interface EnrolmentDeps {
  readonly logger: Logger;
  /** Whether an SVID has expired, however the wall clock jumped since it was first seen. */
  readonly hasExpired: (identity: Identity) => boolean;
  readonly signal: AbortSignal;
}

/** Throws Vl3Error with a remedy, or when `signal` aborts. */
export const identify = async (options: EnrolmentOptions, deps: EnrolmentDeps): Promise<Identity> => {
  const { logger, hasExpired, signal } = deps;
  const saved = await loadNodeIdentity(options.stateDirectory);
  if (saved !== undefined) {
    if (options.name !== undefined && options.name !== saved.name) {
      throw new Vl3Error(
        'failed-precondition',
        `this node enrolled as ${saved.name}: leave --name out, or run "vl3 agent clean" and enrol anew`,
      );
    }
    if (options.token === undefined || !hasExpired(saved)) return saved;
    logger.warn({ node: saved.name }, 'the SVID has expired; enrolling anew');
  }
  if (options.token === undefined) {
    throw new Vl3Error(
      'failed-precondition',
      'this node has not enrolled: give it a join token with --token (an admin makes one with "vl3 token create")',
    );
  }
  const token = parseJoinToken(options.token);
  const node = saved?.name ?? options.name ?? hostNode();
  const backoff = new Backoff({ firstMs: 500, capMs: 15_000 });
  for (;;) {
    try {
      const identity = await enroll({ token, node, directory: options.stateDirectory, signal });
      logger.info({ node, trustDomain: identity.trustBundle.trustDomain }, 'enrolled');
      return identity;
    } catch (error) {
      if (!(error instanceof Vl3Error) || signal.aborted) throw error;
      if (error.code !== 'unavailable') {
        if (saved === undefined) throw error;
        // What runs goes on, and it may be the clock that is wrong: a token that was used up must not end it.
        logger.error({ node, reason: error.message }, 'the SVID has expired and the join token is refused');
        return saved;
      }
      logger.warn({ reason: error.message }, 'registry does not answer; enrolment is tried again');
      await backoff.wait(signal);
    }
  }
};

/** The host's name as a DNS label. */
const hostNode = (): string => (hostname().split('.')[0] ?? '').toLowerCase().replaceAll('_', '-');
