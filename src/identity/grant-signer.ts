// Signs what a domain grants, and the head of its log of decisions, by an identity that the signer gave for that and for nothing
// else; and verifies it against a trust bundle.

import { type KeyObject, sign, X509Certificate } from 'node:crypto';
import { encodeGrant, GRANT_CONTEXT, type VerifyGrant } from '../../native-free/admission/grant.ts';
import { type SignedRecord, signingInput } from '../../native-free/registry/record.ts';
import { CLIENT_AUTH, DOCUMENT_SIGNING } from './certificate.ts';
import { createCertificateRequest } from './certificate-request.ts';
import type { TrustBundle } from './chain.ts';
import { generateKey } from './key.ts';
import { DSA_ENCODING, RememberedChains } from './remembered-chains.ts';
import type { GrantContent, SignedGrant } from './signer.ts';
import type { Credential } from './tls.ts';

/** Who certifies the identity that signs. */
export interface AdmissionCertifier {
  readonly trustBundle: TrustBundle;
  /** A certificate for `spiffe://<trust domain>/admission`, which signs documents only. */
  signAdmissionCertificate(request: Uint8Array): Promise<Uint8Array[]>;
}

export class GrantSigner {
  readonly trustDomain: string;
  /** From when to when its certificate holds, unix ms. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly #key: KeyObject;
  readonly #chain: readonly Uint8Array[];

  private constructor(trustDomain: string, key: KeyObject, chain: readonly Uint8Array[]) {
    const [leaf = new Uint8Array(0)] = chain;
    const { validFromDate, validToDate } = new X509Certificate(leaf);
    this.trustDomain = trustDomain;
    this.notAfter = validToDate.getTime();
    this.notBefore = validFromDate.getTime();
    this.#key = key;
    this.#chain = chain;
  }

  /** By a credential of `spiffe://<trust domain>/admission` that somebody else issued. */
  static of(trustDomain: string, { privateKey, certificateChain }: Credential): GrantSigner {
    return new GrantSigner(trustDomain, privateKey, certificateChain);
  }

  /** With a fresh key, which is not stored anywhere. */
  static async create(signer: AdmissionCertifier): Promise<GrantSigner> {
    const key = await generateKey();
    const chain = await signer.signAdmissionCertificate(await createCertificateRequest(key));
    return new GrantSigner(signer.trustBundle.trustDomain, key, chain);
  }

  /** `notAfter` (unix ms) is no later than the certificate's end. */
  grant(content: GrantContent, notAfter: number): SignedGrant {
    const { trustDomain } = this;
    const grant = {
      ...content,
      trustDomain,
      notBefore: this.notBefore,
      notAfter: Math.min(notAfter, this.notAfter),
    };
    const signed = this.sign(GRANT_CONTEXT, encodeGrant(grant));
    return { ...signed, sequence: grant.sequence, notAfter: grant.notAfter };
  }

  sign(context: string, bytes: Uint8Array): SignedRecord {
    const key = { key: this.#key, dsaEncoding: DSA_ENCODING } as const;
    return {
      record: bytes,
      signature: new Uint8Array(sign('sha256', signingInput(context, bytes), key)),
      certificateChain: this.#chain,
    };
  }
}

/** Verifies what one trust domain's admission identity signed. Keep it: it remembers the chains that held. */
export const createGrantVerifier = (bundle: TrustBundle): VerifyGrant => {
  const { trustDomain } = bundle;
  // SPIRE knows no usage but those of TLS. The path is what says whose it is, and opens no connection.
  const chains = new RememberedChains(bundle, [DOCUMENT_SIGNING, CLIENT_AUTH], (id) =>
    id.kind === 'admission' ? trustDomain : undefined,
  );
  return (chain, input, signature, now) => {
    const signer = chains.verify(chain, input, signature, now);
    return signer && { trustDomain, notAfter: signer.notAfter };
  };
};
