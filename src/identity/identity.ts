// Who this process is in control traffic: a node, an admin or an operator of one domain, with the key that proves it, the CAs it
// trusts and where the registries are. Made only from a chain that names its own key. Stored by identity-file.ts.

import { Vl3Error } from '../../native-free/error.ts';
import { CLIENT_AUTH, parseCertificate } from './certificate.ts';
import { type TrustBundle, verifyChain } from './chain.ts';
import { isP256 } from './key.ts';
import type { Credential } from './tls.ts';

export interface Identity extends Credential {
  readonly kind: 'node' | 'admin' | 'operator';
  readonly name: string;
  /** "host:port"; any of them will do. */
  readonly registries: readonly string[];
  /** Where the signer is, when it is apart; of an admin. */
  readonly signers?: readonly string[] | undefined;
  readonly trustBundle: TrustBundle;
  /** Of the chain, unix ms. */
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface IdentityParts extends Omit<Identity, 'notBefore' | 'notAfter'> {}

/**
 * Checks that the chain holds under the bundle at `now`, names exactly this one, and is of this key. Throws
 * Vl3Error('unauthenticated').
 */
export const createIdentity = (parts: IdentityParts, now: number): Identity => {
  const { kind, name, certificateChain, trustBundle, privateKey } = parts;
  const who = `${kind} "${name}" of ${trustBundle.trustDomain}`;
  const result = verifyChain(certificateChain, trustBundle, now, CLIENT_AUTH);
  if (result.kind === 'refused') {
    throw new Vl3Error('unauthenticated', `the certificate of ${who} ${result.message}`);
  }
  if (result.id.kind !== kind || result.id.name !== name) {
    throw new Vl3Error('unauthenticated', `the certificate is not of ${who}, but of another identity`);
  }
  if (!isP256(privateKey) || !result.leaf.x509.checkPrivateKey(privateKey)) {
    throw new Vl3Error('unauthenticated', `the certificate of ${who} is for another key`);
  }
  return { ...parts, notBefore: result.notBefore, notAfter: result.notAfter };
};

/** Whether a signer apart leases this node's prefixes. */
export const isLeased = ({ certificateChain: [leaf] }: Pick<Identity, 'certificateChain'>): boolean =>
  leaf !== undefined && parseCertificate(leaf).isLeased;

/**
 * The same identity with the key and chain of a renewal. CAs that the registry sent along are not taken: a registry
 * without the CA's key must not be able to replace the CA. Throws Vl3Error('unauthenticated').
 */
export const renewIdentity = (identity: Identity, renewed: Credential, now: number): Identity => {
  const { kind, name, registries, trustBundle } = identity;
  return createIdentity({ kind, name, registries, trustBundle, ...renewed }, now);
};
