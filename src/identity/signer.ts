// Whoever holds the CA key stands behind this interface: the registry's own process (ca.ts) or another machine
// (src/ca/remote-signer.ts). It takes requests, never private keys; of a request only the key counts. One in the registry's
// process signs what that decides; one apart decides by itself, by what the registry cannot make up: the evidence.

import type { Grant } from '../../native-free/admission/grant.ts';
import type { Vl3Error } from '../../native-free/error.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import type { TrustBundle } from './chain.ts';
import type { Credential } from './tls.ts';

/** What `secretFor` is asked for: these outlive a rotation of the CA. */
export const SECRET_PURPOSES = { positionStamp: 'vl3 registry position stamp v1' } as const;

/** What is to be granted; the rest follows from who signs. */
export type GrantContent = Omit<Grant, 'trustDomain' | 'notBefore' | 'notAfter'>;

/** Why a node may have an SVID. */
export type SvidEvidence =
  /** It has a join token's secret (enrolment-proof.ts). */
  | { readonly kind: 'token'; readonly tokenId: string; readonly proof: Uint8Array }
  /** It has the key of its present SVID, which signed the request (renewal-proof.ts). */
  | { readonly kind: 'renewal'; readonly proof: SvidProof }
  /** The registry says so. */
  | { readonly kind: 'none' };

/** A signature over a certificate request, by the key of the chain's leaf. */
export interface SvidProof {
  readonly signature: Uint8Array;
  readonly certificateChain: readonly Uint8Array[];
}

export interface SignedGrant extends SignedRecord {
  readonly sequence: number;
  readonly notAfter: number;
}

export interface SignedStatement extends SignedRecord {
  readonly sequence: number;
}

export interface GivenIdentity {
  readonly spiffeId: string;
  readonly place: string;
  /** Unix ms. */
  readonly notAfter: number;
  /** Why what is there now is not used. */
  readonly problem: string | undefined;
}

export interface Signer {
  /** On another machine: then every node's prefixes go by its grant, and nothing is signed on the registry's word alone. */
  readonly isApart: boolean;
  /** Of one apart: why it did not answer last; undefined: it did. */
  readonly problem?: Vl3Error | undefined;
  /** The signing CA first. Another object whenever it changes. */
  readonly trustBundle: TrustBundle;
  /**
   * An SVID for `spiffe://<trust domain>/node/<node>`. `request` is DER PKCS #10, signed by the key it carries.
   * Answers the chain (DER, leaf first, without the CA). Throws Vl3Error: 'invalid-argument' for a bad request,
   * 'permission-denied' when the evidence does not do.
   */
  signNodeSvid(request: Uint8Array, node: string, evidence?: SvidEvidence): Promise<Uint8Array[]>;
  /** A key and a server certificate for `spiffe://<trust domain>/registry`; `hosts` are DNS names and IP addresses. */
  serverCredential(hosts: readonly string[]): Promise<Credential>;
  /** `notAfter` (unix ms): it ends then or before. One apart grants what it finds itself; the content only asks for it. */
  signGrant(content: GrantContent, notAfter: number): Promise<SignedGrant>;
  /** The head of the log of decisions, under a context of its own. */
  signLogHead(head: Uint8Array): Promise<SignedRecord>;
  /** Voids what was issued for a node until now. One apart hears that from an admin himself, and takes no registry's word. */
  readonly revoke?: (node: string) => Promise<void>;
  /** Tells one apart what a node signed of its attachments. */
  readonly putAttestation?: (network: string, node: string, attestation: SignedRecord) => Promise<void>;
  /** What the domain says of itself at present, see native-free/ca/statement.ts. */
  statement(): Promise<SignedStatement>;
  /** What it says to partners of its CAs; undefined: one apart has not been heard since an upgrade. */
  ownAuthorities(): Promise<SignedStatement | undefined>;
  /**
   * Tells one apart what another domain signed of its CAs; `proof`: by the secret of the invitation that it takes. Throws
   * Vl3Error('permission-denied') when that one does not believe it.
   */
  readonly putPartner?: (domain: string, signed: SignedRecord, proof?: Uint8Array) => Promise<void>;
  /** Calls back whenever the bundle or the statement changed, until `signal` aborts. */
  onChange(listener: () => void, signal: AbortSignal): void;
  /** Nothing that it signs now lasts longer (unix ms); absent: as long as is asked for. */
  readonly signsUntil?: number;
  /** What somebody else issued to the domain, and by which it signs; absent: it has a CA. */
  readonly given?: readonly GivenIdentity[];
  /** 32 bytes that follow from the CA key and the purpose alone: nobody else has them, and no loss of the store loses them. */
  secretFor(purpose: string): Promise<Uint8Array>;
}

/** Makes credentials of admins. Nobody but who holds the CA key does. */
export interface AdminSigner {
  readonly trustBundle: TrustBundle;
  /** A client certificate for `spiffe://<trust domain>/admin/<name>`. */
  signAdminCredential(request: Uint8Array, name: string): Promise<Uint8Array[]>;
  /** One for `spiffe://<trust domain>/operator/<name>`, who looks and changes nothing. */
  signOperatorCredential(request: Uint8Array, name: string, validityMs: number): Promise<Uint8Array[]>;
}
