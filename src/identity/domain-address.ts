// Where a domain's registry is and how it is known: what a join token says without its secret, for nodes that prove who they are
// by something else. No secret, but whoever writes it decides which registry a node believes. It is read by people, too:
//
//   vl3://aws-prod.example?ca=<SHA-256 of the CA's certificate, base64url>&registry=registry.example:7443

import { Vl3Error } from '../../native-free/error.ts';
import { formatHostPort } from '../../native-free/host-port.ts';
import { isTrustDomain } from '../../native-free/registry/spiffe-id.ts';
import { parseRegistryAddress } from './registry-address.ts';

const SCHEME = 'vl3://';
const MAX_TEXT = 8192;
const MAX_ADDRESSES = 16;
const FINGERPRINT = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/;

export interface DomainAddress {
  /** Where the registry is, "host:port"; any of them will do. */
  readonly registries: readonly string[];
  readonly trustDomain: string;
  /** SHA-256 of the CA certificate's DER: 32 B. */
  readonly caFingerprint: Uint8Array;
}

export const formatDomainAddress = ({ registries, trustDomain, caFingerprint }: DomainAddress): string => {
  const ca = Buffer.from(caFingerprint).toString('base64url');
  return `${SCHEME}${trustDomain}?ca=${ca}${registries.map((one) => `&registry=${one}`).join('')}`;
};

/** White space around it is fine. Throws Vl3Error('invalid-argument'). */
export const parseDomainAddress = (given: string): DomainAddress => {
  const text = given.trim();
  const [trustDomain = '', query = ''] = text.slice(SCHEME.length).split('?');
  if (!text.startsWith(SCHEME) || text.length > MAX_TEXT || !isTrustDomain(trustDomain)) throw malformed();
  const fields = new URLSearchParams(query);
  const [ca = '', another] = fields.getAll('ca');
  const registries = fields.getAll('registry');
  const areKnown = [...fields.keys()].every((key) => key === 'ca' || key === 'registry');
  const areSome = registries.length > 0 && registries.length <= MAX_ADDRESSES;
  if (!areKnown || !areSome || another !== undefined || !FINGERPRINT.test(ca)) throw malformed();
  return {
    registries: registries.map((one) => formatHostPort(parseRegistryAddress(one))),
    trustDomain,
    caFingerprint: new Uint8Array(Buffer.from(ca, 'base64url')),
  };
};

const malformed = (): Vl3Error =>
  new Vl3Error(
    'invalid-argument',
    'this is not the address of a domain: take the whole line that `vl3 registry domain` prints, it starts with "vl3://"',
  );
