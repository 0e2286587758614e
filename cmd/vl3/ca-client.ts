// What the admin's commands tell a signer apart, where there is one: it takes no registry's word, so each is told by itself.

import { Vl3Error } from '../../native-free/error.ts';
import type { FederationConstraints } from '../../native-free/federation/constraints.ts';
import type { CaClient } from '../../src/ca/client.ts';

/** Undefined where the credential names no signer. */
export const tellSigner = async <T>(
  file: string,
  tell: (signer: CaClient) => Promise<T>,
): Promise<T | undefined> => {
  const { connectSigner } = await import('../../src/ca/client.ts');
  const connection = await connectSigner(file);
  if (connection === undefined) return undefined;
  await using signer = connection;
  return await tell(signer.client);
};

/** The CA, wherever it is. */
export const withCa = async <T>(file: string, use: (client: CaClient) => Promise<T>): Promise<T> => {
  const { connectCa } = await import('../../src/ca/client.ts');
  await using connection = await connectCa(file);
  return await use(connection.client);
};

/** A join token whose secret the registry never sees; undefined where the registry makes them. `ttl`: seconds. */
export const registerToken = async (
  file: string,
  node: string,
  ttl: number,
): Promise<{ readonly secretHash: string; readonly joinToken: string } | undefined> => {
  const { connectSigner } = await import('../../src/ca/client.ts');
  const connection = await connectSigner(file);
  if (connection === undefined) return undefined;
  await using signer = connection;
  const { createTokenSecret, formatJoinToken, hashSecret } = await import('../../src/identity/token.ts');
  const { tokenKey } = await import('../../src/identity/svid-proofs.ts');
  const { fingerprint } = await import('../../src/identity/certificate.ts');
  const { identity, client } = signer;
  const [ca] = identity.trustBundle.certificates;
  if (ca === undefined) throw new Vl3Error('internal', 'the credential names no CA');
  const secret = createTokenSecret();
  const secretHash = hashSecret(secret);
  const expiresAt = { seconds: BigInt(Math.floor(Date.now() / 1000) + ttl), nanos: 0 };
  await client.registerToken({ id: secretHash, key: tokenKey(secret), node, expiresAt });
  const joinToken = formatJoinToken({
    registries: identity.registries,
    trustDomain: identity.trustBundle.trustDomain,
    caFingerprint: fingerprint(ca),
    secret,
    isProven: true,
  });
  return { secretHash, joinToken };
};

/** As it was asked for; of what the registry answered only the uid counts, which is nobody's before. */
export const registerNetwork = async (
  file: string,
  network: {
    readonly name: string;
    readonly uid: string;
    readonly poolV4: string;
    readonly poolV6: string;
  },
): Promise<void> => {
  const { name, uid, poolV4, poolV6 } = network;
  const pools = [poolV4, poolV6].filter((pool) => pool !== '');
  await tellSigner(file, (signer) => signer.registerNetwork({ name, uid, pools }));
};

/**
 * What an invitation carries that a signer apart checks, and what the registry keeps of it; undefined where the registry
 * makes them.
 */
export interface MadeInvitation {
  readonly secretHash: string;
  readonly handle: string;
  /** Of what the registry answered nothing counts but addresses, behind which whoever accepts looks for these CAs. */
  readonly format: (place: {
    readonly registries: readonly string[];
    readonly url: string;
    readonly profile: string;
    readonly spiffeId: string;
  }) => string;
}

export const makeInvitation = async (
  file: string,
  constraints: FederationConstraints,
  ttl: number,
): Promise<MadeInvitation | undefined> => {
  const { connectSigner } = await import('../../src/ca/client.ts');
  const connection = await connectSigner(file);
  if (connection === undefined) return undefined;
  await using signer = connection;
  const { randomBytes } = await import('node:crypto');
  const { handleOf, invitationKey, secretHashOf } = await import('../../src/federation/invitation-proof.ts');
  const { formatInvitation } = await import('../../native-free/federation/invitation.ts');
  const { bundleEndpoint } = await import('../../native-free/federation/endpoint.ts');
  const secret = new Uint8Array(randomBytes(32));
  const expiresAt = Math.floor(Date.now() / 1000) + ttl;
  const { authorities, trustDomain } = await signer.client.getCa({});
  await signer.client.registerPartner({
    trustDomain: constraints.trustDomain,
    constraints: { ...pickConstraints(constraints) },
    key: invitationKey(secret),
    expiresAt: { seconds: BigInt(expiresAt), nanos: 0 },
  });
  return {
    secretHash: secretHashOf(secret),
    handle: handleOf(secret),
    format: ({ registries, url, profile, spiffeId }) =>
      formatInvitation({
        ...{ trustDomain, registries, secret, constraints, expiresAt: expiresAt * 1000, isProven: true },
        endpoint: bundleEndpoint(trustDomain, { url, profile, ...(spiffeId !== '' && { spiffeId }) }),
        caFingerprints: authorities.map(({ fingerprint }) => new Uint8Array(Buffer.from(fingerprint, 'hex'))),
      }),
  };
};

const pickConstraints = ({ networks, names, prefixes }: FederationConstraints) => ({
  networks: [...networks],
  names: [...names],
  prefixes: [...prefixes],
});

/**
 * Tells a signer apart whose invitation is accepted, and takes out of that what the registry need not see. As it is, where
 * the registry is to do all of it.
 */
export const acceptBySigner = async (
  file: string,
  text: string,
): Promise<{ invitation: string; secretHash?: string; handle?: string; proof?: Uint8Array }> => {
  const { connectSigner } = await import('../../src/ca/client.ts');
  const connection = await connectSigner(file);
  if (connection === undefined) return { invitation: text };
  await using signer = connection;
  const { formatInvitation, invitationProblem, parseInvitation } = await import(
    '../../native-free/federation/invitation.ts'
  );
  const invitation = parseInvitation(text);
  const { authorities, trustDomain } = await signer.client.getCa({});
  const problem = invitationProblem(invitation, trustDomain, Date.now());
  if (problem !== undefined) throw new Vl3Error('failed-precondition', problem);
  const caFingerprints = invitation.caFingerprints.map((one) => Buffer.from(one).toString('hex'));
  await signer.client.registerPartner({ trustDomain: invitation.trustDomain, caFingerprints });
  // A registry that was not told how to prove it is shown the secret, and so is this domain's on the way.
  if (invitation.isProven !== true) return { invitation: text };
  const { handleOf, invitationKey, proveAcceptance, secretHashOf } = await import(
    '../../src/federation/invitation-proof.ts'
  );
  const { secret } = invitation;
  const claim = {
    home: invitation.trustDomain,
    trustDomain,
    caFingerprints: authorities.map(({ fingerprint }) => fingerprint),
  };
  return {
    invitation: formatInvitation({ ...invitation, secret: new Uint8Array(secret.length) }),
    secretHash: secretHashOf(secret),
    handle: handleOf(secret),
    proof: proveAcceptance(invitationKey(secret), claim),
  };
};
