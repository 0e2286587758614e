// The simulated CA and the signatures of its nodes. Certificates are JSON and signatures are keyed hashes whose keys only
// this file derives, so a node can sign as itself alone; verification obeys the contract of VerifyRecord. Toy hashes: what
// is simulated is who signed what and until when, not the strength of a signature.

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

/** As src/identity/ca.ts does. */
const BACKDATE_MS = 5 * 60 * 1000;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export class SimulatedSigner {
  readonly #secret: Uint8Array;
  readonly #trustDomain: string;
  #issued = 0;

  constructor(secret: Uint8Array, trustDomain = TRUST_DOMAIN) {
    this.#secret = secret;
    this.#trustDomain = trustDomain;
  }

  issue(node: string, now: number, termMs: number): SimulatedIdentity {
    const [notBefore, notAfter] = [now - BACKDATE_MS, now + termMs];
    const serial = `s${++this.#issued}`;
    const body = JSON.stringify({ node, serial, notBefore, notAfter });
    const certificate = encoder.encode(`${this.#tag(body)} ${body}`);
    return { node, serial, notBefore, notAfter, termMs, chain: [certificate] };
  }

  /** What was issued with this chain. */
  read(chain: readonly Uint8Array[]): SimulatedIdentity {
    const [, body = ''] = split(decoder.decode(chain[0]));
    const { node, serial, notBefore, notAfter } = JSON.parse(body);
    return { node, serial, notBefore, notAfter, termMs: notAfter - notBefore - BACKDATE_MS, chain };
  }

  sign(identity: SimulatedIdentity, content: RecordContent): SignedRecord {
    const { node, notBefore, notAfter, chain } = identity;
    const record = encodeRecord({ ...content, trustDomain: this.#trustDomain, node, notBefore, notAfter });
    return {
      record,
      signature: this.#signature(chain, signingInput(RECORD_CONTEXT, record)),
      certificateChain: chain,
    };
  }

  readonly verify: VerifyRecord = (chain, input, signature, now) => {
    const [tag = '', body = ''] = split(decoder.decode(chain[0]));
    if (tag !== this.#tag(body)) return undefined;
    const { node, notBefore, notAfter } = JSON.parse(body);
    if (now < notBefore || now > notAfter) return undefined;
    const right = this.#signature(chain, input);
    if (!right.every((byte, i) => byte === signature[i])) return undefined;
    return { trustDomain: this.#trustDomain, node, notAfter };
  };

  #tag(body: string): string {
    return toyPrimitives.hmac(this.#secret, encoder.encode(body)).join('.');
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

const split = (text: string): string[] => {
  const at = text.indexOf(' ');
  return [text.slice(0, at), text.slice(at + 1)];
};
