// What the admin's commands tell a signer apart, where there is one: it takes no registry's word, so each is told by itself.

import { Vl3Error } from '../../native-free/error.ts';
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
