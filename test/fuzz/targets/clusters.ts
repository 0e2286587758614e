// What strangers show to enrol by the word of a cluster, and what nodes are told of the domain: tokens, also ones that the
// cluster's own key signed over anything, and addresses of domains.

import { generateKeyPairSync, sign } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { isName } from '../../../native-free/registry/spiffe-id.ts';
import { formatDomainAddress, parseDomainAddress } from '../../../src/identity/domain-address.ts';
import { Clusters } from '../../../src/registry/clusters.ts';
import type { Source } from '../source.ts';
import { accepted, acceptedLater, must, mustEqual, type OpenTarget, pure, type Target } from '../target.ts';

const NOW = 1_800_000_000;
const ISSUER = 'https://kubernetes.default.svc.cluster.local';
const CLAIMS = JSON.stringify({
  aud: ['spiffe://fuzz.example/registry'],
  ...{ exp: NOW + 600, iat: NOW, nbf: NOW, iss: ISSUER, jti: 'one' },
  sub: 'system:serviceaccount:vl3-system:vl3-agent',
  'kubernetes.io': {
    namespace: 'vl3-system',
    node: { name: 'worker-1', uid: 'u1' },
    pod: { name: 'vl3-agent-x', uid: 'u2' },
    serviceaccount: { name: 'vl3-agent', uid: 'u3' },
  },
});
const HEADER = '{"alg":"ES256","kid":"one"}';

const openTokens = async (): Promise<OpenTarget> => {
  const directory = await mkdtemp(join(tmpdir(), 'vl3-fuzz-clusters-'));
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'ES256', use: 'sig' };
  const file = join(directory, 'clusters.yaml');
  await writeFile(join(directory, 'east.json'), JSON.stringify({ keys: [jwk] }));
  await writeFile(file, JSON.stringify({ clusters: [{ name: 'east', issuer: ISSUER, keys: 'east.json' }] }));
  const clusters = new Clusters(
    { file, trustDomain: 'fuzz.example' },
    { logger: pino({ level: 'silent' }), now: () => NOW * 1000 },
  );
  const signed = (header: string, claims: Uint8Array): string => {
    const data = `${Buffer.from(header).toString('base64url')}.${Buffer.from(claims).toString('base64url')}`;
    const signature = sign('sha256', Buffer.from(data), { key: privateKey, dsaEncoding: 'ieee-p1363' });
    return `${data}.${signature.toString('base64url')}`;
  };
  const good = signed(HEADER, Buffer.from(CLAIMS));
  must((await clusters.verify(good)).node === 'east-worker-1', 'the good one is refused');
  return {
    async run(source) {
      const isSigned = source.chance(160);
      const claims = source.chance(128)
        ? source.mutated(Buffer.from(CLAIMS), 3)
        : Buffer.from(source.textLike([CLAIMS], 600));
      const header = source.chance(200)
        ? HEADER
        : source.textLike([HEADER, '{"alg":"none"}', '{"alg":"HS256","kid":"one"}']);
      const token = isSigned ? signed(header, claims) : source.textLike([good, ` ${good}`, `${good}.`], 1200);
      const found = await acceptedLater(['permission-denied', 'unavailable'], () => clusters.verify(token));
      if (found === undefined) return;
      const whatWasSigned = good.slice(0, good.lastIndexOf('.') + 1);
      must(isSigned || token.startsWith(whatWasSigned), 'what the key did not sign is believed');
      must(isName(found.node) && found.node.startsWith('east-'), () => `a node is called ${found.node}`);
      must(found.tokenExpiresAt <= (NOW + 7200 + 60) * 1000, 'it is good for too long');
    },
    async [Symbol.asyncDispose]() {
      await rm(directory, { recursive: true, force: true });
    },
  };
};

const ADDRESS = formatDomainAddress({
  registries: ['registry.example:7443', '[2001:db8::1]:7443'],
  trustDomain: 'fuzz.example',
  caFingerprint: new Uint8Array(32).fill(7),
});

const fuzzAddress = (source: Source): void => {
  const text = source.textLike([ADDRESS, ` ${ADDRESS}\n`], 200);
  const address = accepted(['invalid-argument'], () => parseDomainAddress(text));
  if (address === undefined) return;
  mustEqual(address.caFingerprint.length, 32, 'the fingerprint');
  must(address.registries.length > 0 && address.registries.length <= 16, 'no registry, or too many');
  mustEqual(parseDomainAddress(formatDomainAddress(address)), address, 'the address there and back');
};

export const clusterTargets: readonly Target[] = [
  {
    name: 'cluster-token',
    about: 'of a cluster only what its key signed is believed, and a node is called after its cluster',
    maxLength: 700,
    open: openTokens,
  },
  pure('domain-address', "a domain's address is read whole or refused with a sentence", 250, fuzzAddress),
];
