// The accepting domain's side of an invitation: find the inviting domain's registry by the fingerprint that the invitation carries,
// present this domain to it, and take its bundle. Nothing is kept here.

import { createClient } from '@connectrpc/connect';
import { Vl3Error } from '../../native-free/error.ts';
import { MAX_BUNDLE_BYTES } from '../../native-free/federation/bundle-document.ts';
import { type HeldBundle, judgeBundle } from '../../native-free/federation/bundle-rules.ts';
import type { BundleEndpoint } from '../../native-free/federation/endpoint.ts';
import type { Invitation } from '../../native-free/federation/invitation.ts';
import { fromConnectError } from '../api/errors.ts';
import { FederationService } from '../api/generated/vl3/v1/federation_pb.js';
import { decodeSpiffeBundle } from '../identity/spiffe-bundle.ts';
import { clientTlsOptions } from '../identity/tls.ts';
import { connectRegistry } from '../registry/connection.ts';
import { fetchInvitingBundle } from './first-bundle.ts';
import { mustBeSigned, successionProblem } from './succession.ts';

/** What this domain says of itself. */
export interface Introduction {
  readonly trustDomain: string;
  /** Its SPIFFE bundle, in JSON. */
  readonly bundle: string;
  readonly endpoint: BundleEndpoint;
  /** "host:port". */
  readonly registries: readonly string[];
  /** In the place of the invitation's secret. */
  readonly proven?: { readonly secretHash: string; readonly proof: Uint8Array } | undefined;
}

interface Options {
  /** Unix ms. */
  readonly now: () => number;
  readonly signal?: AbortSignal | undefined;
}

/** As a message; of a server that is the registry of its domain nothing more is said. */
export const locationOf = (endpoint: BundleEndpoint) => ({
  url: endpoint.url,
  profile: endpoint.profile,
  spiffeId: endpoint.profile === 'https_spiffe' ? endpoint.spiffeId : '',
});

/** The inviting domain's bundle. Throws Vl3Error: what the other registry says, or why it was not reached or is not believed. */
export const introduce = async (
  invitation: Invitation,
  introduction: Introduction,
  { now, signal }: Options,
): Promise<HeldBundle> => {
  const { registry, trustBundle } = await fetchInvitingBundle(invitation, { now, signal });
  await using connection = connectRegistry({
    registries: [registry],
    tls: clientTlsOptions(trustBundle),
    maxAnswerBytes: 2 * MAX_BUNDLE_BYTES,
  });
  const client = createClient(FederationService, connection.transport);
  const { trustDomain, bundle, endpoint, registries, proven } = introduction;
  const answer = await client
    .federate(
      {
        ...(proven === undefined ? { secret: invitation.secret } : proven),
        trustDomain,
        bundle,
        bundleLocation: locationOf(endpoint),
        registries: [...registries],
      },
      signal === undefined ? {} : { signal },
    )
    .catch((error: unknown) => {
      throw fromConnectError(error);
    });
  const offered = decodeSpiffeBundle(answer.bundle, invitation.trustDomain);
  const prints = invitation.caFingerprints.map((one) => Buffer.from(one).toString('hex'));
  const pinned = offered.certificates
    .filter(({ fingerprint }) => prints.includes(fingerprint))
    .map(({ der }) => der);
  if (pinned.length === 0)
    throw new Vl3Error(
      'unauthenticated',
      `the registry of ${invitation.trustDomain} gave a bundle without the CA that the invitation names: ask there what that means`,
    );
  // A registry whose signer is apart may name no CA beside those.
  if (invitation.isProven) mustBeSigned(offered);
  const verdict = judgeBundle(undefined, offered, 'admin', now());
  const problem =
    verdict.kind === 'refused' ? verdict.message : successionProblem({ pinned }, offered, now());
  if (verdict.kind === 'refused' || problem !== undefined)
    throw new Vl3Error(
      'failed-precondition',
      `the bundle of ${invitation.trustDomain} is refused: ${problem}`,
    );
  return verdict.held;
};
