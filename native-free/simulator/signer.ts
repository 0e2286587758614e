// A simulated domain's CA and the signatures of its nodes. Certificates are JSON and signatures are keyed hashes whose keys only
// this file derives, so a node can sign as itself alone; verification obeys the contracts of VerifyRecord and VerifyGrant. Toy
// hashes: what is simulated is who signed what, under which CA and until when, not the strength of a signature.

import { encodeGrant, GRANT_CONTEXT, type VerifyGrant } from '../admission/grant.ts';
import type { GrantContent } from '../registry/granting-rules.ts';
import {
  encodeRecord,
  type NodeRecord,
  RECORD_CONTEXT,
  SIGNATURE_BYTES,
  type SignedRecord,
  signingInput,
  type VerifyRecord,
} from '../registry/record.ts';
import { toyPrimitives } from './toy-primitives.ts';

export interface SimulatedIdentity {
  readonly trustDomain: string;
  readonly node: string;
  readonly serial: string;
  /** Unix ms. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** How long it was issued for, without what it was dated back. */
  readonly termMs: number;
  readonly chain: readonly Uint8Array[];
}

export type RecordContent = Omit<NodeRecord, 'trustDomain' | 'node' | 'notBefore' | 'notAfter'>;

export const TRUST_DOMAIN = 'simulated.example';
export const PARTNER_DOMAIN = 'partner.example';

/** Who grants: no node can be called that. */
const ADMISSION = '/admission';
/** As src/identity/ca.ts does. */
const BACKDATE_MS = 5 * 60 * 1000;

/** What a certificate says. */
interface Claims {
  readonly trustDomain: string;
  /** The number of the CA that signed it. */
  readonly ca: number;
  readonly node: string;
  readonly serial: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

/** What is believed of a domain: the numbers of its CAs. Undefined: nobody of it is. */
export type Authorities = readonly number[] | undefined;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export class SimulatedSigner {
  readonly trustDomain: string;
  readonly #secret: Uint8Array;
  #issued = 0;
  #authorities: readonly number[] = [1];
  #signing = 1;

  constructor(secret: Uint8Array, trustDomain = TRUST_DOMAIN) {
    this.#secret = secret;
    this.trustDomain = trustDomain;
  }

  /** The domain's bundle. */
  get authorities(): readonly number[] {
    return this.#authorities;
  }

  /** First the next CA is in the bundle, and only later it signs; what the one before has signed counts until the next rotation. */
  rotate(step: 'announce' | 'sign'): void {
    const last = this.#authorities.at(-1) ?? 1;
    if (step === 'sign') this.#signing = last;
    else if (last === this.#signing) this.#authorities = [last, last + 1];
  }

  issue(node: string, now: number, termMs: number): SimulatedIdentity {
    return this.#issue(
      node,
      { notBefore: now - BACKDATE_MS, notAfter: now + termMs, termMs },
      this.trustDomain,
    );
  }

  /** As a domain does that lies: its own CA signs for another's node. */
  pretend(trustDomain: string, node: string, now: number, termMs: number): SimulatedIdentity {
    return this.#issue(node, { notBefore: now - BACKDATE_MS, notAfter: now + termMs, termMs }, trustDomain);
  }

  #issue(
    node: string,
    { notBefore, notAfter, termMs }: Pick<SimulatedIdentity, 'notBefore' | 'notAfter' | 'termMs'>,
    trustDomain: string,
  ): SimulatedIdentity {
    const serial = `s${++this.#issued}`;
    const claims: Claims = { trustDomain, ca: this.#signing, node, serial, notBefore, notAfter };
    const body = JSON.stringify(claims);
    const certificate = encoder.encode(`${this.#tag(claims.ca, body)} ${body}`);
    return { trustDomain, node, serial, notBefore, notAfter, termMs, chain: [certificate] };
  }

  sign(identity: SimulatedIdentity, content: RecordContent): SignedRecord {
    const { trustDomain, node, notBefore, notAfter, chain } = identity;
    const record = encodeRecord({ ...content, trustDomain, node, notBefore, notAfter });
    return this.#signed(chain, record, RECORD_CONTEXT);
  }

  /** What the domain grants a node, by its admission identity. */
  signGrant(content: GrantContent, now: number, notAfter: number): SignedRecord {
    const { chain, notBefore } = this.issue(ADMISSION, now, notAfter - now);
    const { trustDomain } = this;
    return this.#signed(chain, encodeGrant({ ...content, trustDomain, notBefore, notAfter }), GRANT_CONTEXT);
  }

  /** Verifies what nodes of this domain sign, by what is believed of it. */
  verifierOf(authorities: () => Authorities): VerifyRecord {
    return (chain, input, signature, now) => {
      const signer = this.#verify(chain, input, signature, now, authorities());
      if (signer === undefined || signer.node === ADMISSION) return undefined;
      const { node, notAfter } = signer;
      return { trustDomain: this.trustDomain, node, notAfter };
    };
  }

  grantVerifierOf(authorities: () => Authorities): VerifyGrant {
    return (chain, input, signature, now) => {
      const signer = this.#verify(chain, input, signature, now, authorities());
      return signer?.node === ADMISSION
        ? { trustDomain: this.trustDomain, notAfter: signer.notAfter }
        : undefined;
    };
  }

  /** Whether one of these CAs of this domain signed the certificate, for a node of this domain. */
  hasSigned(chain: readonly Uint8Array[], authorities: Authorities): boolean {
    return this.#claims(chain, authorities)?.trustDomain === this.trustDomain;
  }

  /** Whether some CA of this domain signed it, whatever it says. */
  isIssuerOf(chain: readonly Uint8Array[]): boolean {
    return this.#claims(chain, this.#authorities) !== undefined;
  }

  #verify(
    chain: readonly Uint8Array[],
    input: Uint8Array,
    signature: Uint8Array,
    now: number,
    authorities: Authorities,
  ): Claims | undefined {
    const claims = this.#claims(chain, authorities);
    if (claims?.trustDomain !== this.trustDomain) return undefined;
    if (now < claims.notBefore || now > claims.notAfter) return undefined;
    const right = this.#signature(chain, input);
    return right.every((byte, i) => byte === signature[i]) ? claims : undefined;
  }

  #claims(chain: readonly Uint8Array[], authorities: Authorities): Claims | undefined {
    const [tag = '', body = ''] = split(decoder.decode(chain[0]));
    const claims: Claims = JSON.parse(body);
    return authorities?.includes(claims.ca) && tag === this.#tag(claims.ca, body) ? claims : undefined;
  }

  #signed(chain: readonly Uint8Array[], record: Uint8Array, context: string): SignedRecord {
    return {
      record,
      signature: this.#signature(chain, signingInput(context, record)),
      certificateChain: chain,
    };
  }

  #tag(ca: number, body: string): string {
    return toyPrimitives.hmac(this.#secret, encoder.encode(`${ca} ${body}`)).join('.');
  }

  #signature(chain: readonly Uint8Array[], input: Uint8Array): Uint8Array {
    const key = toyPrimitives.hmac(this.#secret, ...chain);
    const half = toyPrimitives.hmac(key, input);
    const signature = new Uint8Array(SIGNATURE_BYTES);
    signature.set(half);
    signature.set(toyPrimitives.hmac(key, half), half.length);
    return signature;
  }
}

/** What was issued with this chain. */
export const readIdentity = (chain: readonly Uint8Array[]): SimulatedIdentity => {
  const [, body = ''] = split(decoder.decode(chain[0]));
  const { trustDomain, node, serial, notBefore, notAfter }: Claims = JSON.parse(body);
  return {
    trustDomain,
    node,
    serial,
    notBefore,
    notAfter,
    termMs: notAfter - notBefore - BACKDATE_MS,
    chain,
  };
};

const split = (text: string): string[] => {
  const at = text.indexOf(' ');
  return [text.slice(0, at), text.slice(at + 1)];
};
