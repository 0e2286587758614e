// The inviting domain's CA, before anything else is known of it: from one of its registries that shows a CA whose fingerprint the
// invitation carries, and is the registry under it. Nothing is sent; whatever is said to it goes by a connection of its own.

import { Vl3Error } from '../../native-free/error.ts';
import type { Invitation } from '../../native-free/federation/invitation.ts';
import type { TrustBundle } from '../identity/chain.ts';
import { fetchTrustBundle } from '../identity/first-contact.ts';
import { parseRegistryAddress } from '../identity/registry-address.ts';

export interface FirstBundle {
  /** "host:port" of the one that answered. */
  readonly registry: string;
  readonly trustBundle: TrustBundle;
}

interface Options {
  /** Unix ms. */
  readonly now: () => number;
  readonly signal?: AbortSignal | undefined;
  /** For each registry. */
  readonly timeoutMs?: number;
}

/** Throws Vl3Error: 'unauthenticated' when one was an impostor and none was good, 'unavailable' when none answers. */
export const fetchInvitingBundle = async (
  { trustDomain, registries, caFingerprints }: Invitation,
  { now, signal, timeoutMs }: Options,
): Promise<FirstBundle> => {
  const failures: Vl3Error[] = [];
  for (const registry of registries) {
    const contact = {
      address: parseRegistryAddress(registry),
      trustDomain,
      caFingerprints,
      signal,
      ...(timeoutMs !== undefined && { timeoutMs }),
    };
    try {
      return { registry, trustBundle: await fetchTrustBundle(contact, now) };
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof Vl3Error)) throw error;
      failures.push(error);
    }
  }
  // An impostor is worth more words than a registry that is down.
  const worst = failures.find((one) => one.code === 'unauthenticated') ?? failures[0];
  throw worst ?? new Vl3Error('invalid-argument', 'the invitation names no registry: ask for another');
};
