// Who is believed for what: SVIDs that others issued, as the Workload API and files give them; what a domain says of itself and a
// node of its attachments; and the keys by which nodes and networks of several domains are told apart.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import {
  ATTESTATION_CONTEXT,
  decodeAttestation,
  encodeAttestation,
} from '../../../native-free/ca/attestation.ts';
import { decodeVerifiedStatement, encodeStatement } from '../../../native-free/ca/statement.ts';
import { foreignKey, isNodeKey, nodeNameOf } from '../../../native-free/registry/foreign-key.ts';
import { formatNetworkKey, networkKeyAt, readNetworkKey } from '../../../native-free/registry/network-key.ts';
import { nodeKey, readNodeKey } from '../../../native-free/registry/node-key.ts';
import { SIGNATURE_BYTES } from '../../../native-free/registry/record.ts';
import { X509SVIDResponseSchema } from '../../../src/api/generated/spiffe/workload/workload_pb.js';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import { createCertificateRequest } from '../../../src/identity/certificate-request.ts';
import { generateKey } from '../../../src/identity/key.ts';
import { fromWholePem, toPem } from '../../../src/identity/pem.ts';
import { chooseSvid, type Svid } from '../../../src/identity/svid.ts';
import { offerOf } from '../../../src/identity/workload-api.ts';
import type { Source } from '../source.ts';
import { accepted, must, mustEqual, type OpenTarget, pure, type Target } from '../target.ts';

const HOME = 'home.example';
const NOW = 1_800_000_000_000;
const REFUSED = ['failed-precondition'] as const;

// --- SVIDs of others

const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value & 127) | 128, ...varint(value >> 7)];
const field = (number: number, bytes: Uint8Array): Uint8Array =>
  Uint8Array.from([(number << 3) | 2, ...varint(bytes.length), ...bytes]);
const joined = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

interface Issued {
  readonly id: Uint8Array;
  readonly chain: Uint8Array;
  readonly key: Uint8Array;
  readonly bundle: Uint8Array;
}

const answerOf = ({ id, chain, key, bundle }: Issued): Uint8Array =>
  field(1, joined(field(1, id), field(2, chain), field(3, key), field(4, bundle)));

const fuzzOffer = (good: Issued, source: Source): void => {
  // Somewhere in a part, or in how the parts are put together.
  const changed = { ...good };
  const part = source.pick(['none', 'id', 'chain', 'key', 'bundle'] as const);
  if (part !== 'none') changed[part] = source.mutated(good[part], 2);
  const whole = answerOf(changed);
  const bytes = source.chance(80) ? source.mutated(whole, 3) : whole;
  let response: ReturnType<typeof read>;
  try {
    response = read(bytes);
  } catch {
    return;
  }
  const offer = accepted(REFUSED, () => offerOf(response));
  const svid = offer && accepted(REFUSED, () => chooseSvid(offer, { kind: 'node' }, Date.now()));
  if (svid === undefined) return;
  mustBeGood(svid, good);
};

const read = (bytes: Uint8Array) => fromBinary(X509SVIDResponseSchema, bytes);

/** Nobody but the CA makes one that holds; the CAs beside it are the source's own word. */
const mustBeGood = ({ id, certificateChain: [leaf], trustBundle }: Svid, good: Issued): void => {
  mustEqual(id, { kind: 'node', trustDomain: HOME, name: 'n1' }, 'whom the SVID names');
  mustEqual(trustBundle.trustDomain, HOME, 'whose bundle it is');
  must(leaf !== undefined && Buffer.compare(leaf, good.chain) === 0, 'another leaf');
};

const fuzzWholePem = (good: Issued, source: Source): void => {
  const text = toPem([good.chain, good.bundle]);
  const changed = Buffer.from(source.mutated(new TextEncoder().encode(text), 3)).toString('latin1');
  const found = accepted(REFUSED, () => fromWholePem(changed, 'the file'));
  if (found === undefined) return;
  must(found.length > 0, 'no certificate');
  const rest = changed.replaceAll(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g, '').trim();
  mustEqual(rest, '', 'what is beside whole certificates');
};

const withIssued = (
  name: string,
  about: string,
  maxLength: number,
  run: (good: Issued, source: Source) => void,
): Target => ({
  name,
  about,
  maxLength,
  open: async (): Promise<OpenTarget> => {
    const directory = await mkdtemp(join(tmpdir(), 'vl3-fuzz-trust-'));
    const ca = await CertificateAuthority.open({ directory: join(directory, 'ca'), trustDomain: HOME });
    const privateKey = await generateKey();
    const [chain = new Uint8Array(0)] = await ca.signNodeSvid(
      await createCertificateRequest(privateKey),
      'n1',
    );
    const good = {
      id: new TextEncoder().encode(`spiffe://${HOME}/node/n1`),
      chain,
      key: new Uint8Array(privateKey.export({ format: 'der', type: 'pkcs8' })),
      bundle: ca.trustBundle.certificates[0] ?? new Uint8Array(0),
    };
    return {
      run: (source) => run(good, source),
      [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
    };
  },
});

// --- documents

const STATEMENT = encodeStatement({
  trustDomain: HOME,
  authorities: ['MAA=', 'MAE='],
  revoked: [
    { node: 'n1', until: NOW },
    { node: 'n2', until: NOW + 1 },
  ],
  sequence: NOW,
});
const ATTESTATION = encodeAttestation({
  trustDomain: HOME,
  network: 'red',
  networkUid: 'uid',
  node: 'n1',
  attachments: [
    {
      workload: 'web-0',
      namespace: 'shop',
      serviceAccount: '',
      labels: { app: 'web' },
      addresses: ['10.60.0.7', 'fd00:60::7'],
    },
  ],
  sequence: NOW,
  notAfter: NOW + 1000,
});

const signed = (record: Uint8Array) => ({
  record,
  signature: new Uint8Array(SIGNATURE_BYTES),
  certificateChain: [new Uint8Array(1)],
});

/** Whatever verifies is read in its one form, or not at all. */
const fuzzDocument = (source: Source): void => {
  const bytes = source.mutated(source.pick([STATEMENT, ATTESTATION]), 5);
  const said = decodeVerifiedStatement(signed(bytes), () => ({ trustDomain: HOME }), HOME, NOW);
  if (said.kind === 'accepted')
    mustEqual(encodeStatement(said.statement), bytes, 'the statement there and back');
  const byOther = decodeVerifiedStatement(signed(bytes), () => ({ trustDomain: 'x.example' }), HOME, NOW);
  mustEqual(byOther.kind, 'refused', 'a statement that another domain signed');
  let context = '';
  const attested = accepted(['permission-denied'], () =>
    decodeAttestation(
      signed(bytes),
      (_, input) => {
        context = Buffer.from(input.subarray(0, ATTESTATION_CONTEXT.length)).toString();
        return { trustDomain: HOME, node: 'n1', notAfter: NOW + 1000 };
      },
      NOW,
      { network: 'red', networkUid: 'uid', home: HOME, node: 'n1' },
    ),
  );
  // What is empty is refused before anybody is asked who signed it.
  if (bytes.length > 0) mustEqual(context, ATTESTATION_CONTEXT, 'what is verified');
  if (attested !== undefined) mustEqual(encodeAttestation(attested), bytes, 'the attestation there and back');
};

// --- keys

const KEYS = [
  'red',
  'red@home.example',
  'n1@partner.example',
  'n1',
  'a@b@c',
  '@x',
  'x@',
  'red@RED',
  'at.vl3',
];

const fuzzKeys = (source: Source): void => {
  const text = source.textLike(KEYS, 80);
  const network = readNetworkKey(text);
  if (network !== undefined) {
    mustEqual(formatNetworkKey(network), text, "a network's key there and back");
    must(!network.network.includes('@') && network.network !== '', 'a name that is none');
    const own = networkKeyAt(HOME, text);
    mustEqual(networkKeyAt(HOME, own), own, 'the one key of a network');
    mustEqual(readNetworkKey(own)?.domain === HOME, false, 'the own domain in a key');
  }
  const node = readNodeKey(HOME, text);
  mustEqual(
    node === undefined,
    !isNodeKey(text) || text.endsWith(`@${HOME}`),
    `whether "${text}" names a node`,
  );
  if (node === undefined) return;
  mustEqual(nodeKey(HOME, node), text, "a node's key there and back");
  const { node: name, trustDomain } = nodeNameOf(text);
  mustEqual(trustDomain === undefined ? name : foreignKey(name, trustDomain), text, 'its parts');
  mustEqual(node.trustDomain, trustDomain ?? HOME, 'whose it is');
};

export const trustTargets: readonly Target[] = [
  withIssued(
    'svid-offer',
    'an SVID that somebody else issued holds as it was issued, or is refused with a sentence',
    400,
    fuzzOffer,
  ),
  withIssued('whole-pem', 'a file of certificates is read whole, or not at all', 300, fuzzWholePem),
  pure('said-documents', 'what a domain or a node signed is read in its one form', 300, fuzzDocument),
  pure('keys-of-domains', 'no node or network is taken for one of another domain', 100, fuzzKeys),
];
