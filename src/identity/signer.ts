// Whoever holds the CA key stands behind this interface: the registry's own process (ca.ts) or another machine. It
// takes requests, never private keys; of a request only the key counts, all else the caller decides.

import type { TrustBundle } from './chain.ts';

export interface Signer {
  readonly trustBundle: TrustBundle;
  /**
   * An SVID for `spiffe://<trust domain>/node/<node>`. `request` is DER PKCS #10, signed by the key it carries.
   * Answers the chain (DER, leaf first, without the CA). Throws Vl3Error('invalid-argument') for a bad request.
   */
  signNodeSvid(request: Uint8Array, node: string): Promise<Uint8Array[]>;
  /** A client certificate for `spiffe://<trust domain>/admin/<name>`. */
  signAdminCredential(request: Uint8Array, name: string): Promise<Uint8Array[]>;
  /** A server certificate for `spiffe://<trust domain>/registry`; `hosts` are DNS names and IP addresses. */
  signServerCertificate(request: Uint8Array, hosts: readonly string[]): Promise<Uint8Array[]>;
  /** A certificate for `spiffe://<trust domain>/admission`, which signs what the domain grants (admission/grant.ts). */
  signAdmissionCertificate(request: Uint8Array): Promise<Uint8Array[]>;
  /** 32 bytes that follow from the CA key and the purpose alone: nobody else has them, and no loss of the store loses them. */
  secretFor(purpose: string): Promise<Uint8Array>;
}
