// SVIDs of another issuer: whatever a SPIFFE agent answers, what is used of it belongs together.

import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { X509SVIDResponseSchema } from '../../../src/api/generated/spiffe/workload/workload_pb.js';
import { CLIENT_AUTH } from '../../../src/identity/certificate.ts';
import { verifyChain } from '../../../src/identity/chain.ts';
import { readIntermediates } from '../../../src/identity/intermediates.ts';
import { chooseSvid, type OfferedSvid } from '../../../src/identity/svid.ts';
import { offerOf } from '../../../src/identity/workload-api.ts';
import { SpiffeAuthority } from '../../lab/spiffe-authority.ts';
import { answerOf } from '../../lab/workload-api.ts';
import type { Source } from '../source.ts';
import { accepted, must, type Target } from '../target.ts';

const DOMAIN = 'test.example';
const BAD = ['failed-precondition', 'invalid-argument'] as const;
const SOME_CHANGES = [1, 1, 3];

const bytesOf = (svids: readonly OfferedSvid[]): Uint8Array =>
  toBinary(
    X509SVIDResponseSchema,
    create(X509SVIDResponseSchema, {
      svids: [...answerOf(Object.fromEntries(svids.map((one, i) => [`${i}`, one]))).svids],
    }),
  );

const parsed = (bytes: Uint8Array) => {
  try {
    return fromBinary(X509SVIDResponseSchema, bytes);
  } catch {
    return undefined;
  }
};

const openAnswers = async () => {
  const authority = await SpiffeAuthority.create(DOMAIN);
  const stranger = await SpiffeAuthority.create(DOMAIN);
  const n1 = await authority.issue('/node/n1', { isNested: true });
  const n2 = await authority.issue('/node/n2');
  const forged = { ...(await stranger.issue('/node/n1')), authorities: authority.bundle };
  const good = [bytesOf([n1]), bytesOf([n2, n1])];
  const bad = [bytesOf([forged]), bytesOf([{ ...n1, privateKey: n2.privateKey }]), bytesOf([n2])];
  return {
    run: (source: Source): void => {
      const start = source.pick([...good, ...bad]);
      const bytes = source.mutated(start, source.pick(SOME_CHANGES));
      const answer = parsed(bytes);
      const offer = answer && accepted(BAD, () => offerOf(answer));
      const wanted = { kind: 'node', name: 'n1', trustDomain: DOMAIN } as const;
      const svid = offer && accepted(BAD, () => chooseSvid(offer, wanted, Date.now()));
      if (Buffer.compare(bytes, start) === 0)
        must((svid !== undefined) === good.includes(start), 'a good answer refused, or a bad one taken');
      if (svid === undefined) return;
      const result = verifyChain(svid.certificateChain, svid.trustBundle, Date.now(), CLIENT_AUTH);
      must(result.kind === 'verified' && result.uri === `spiffe://${DOMAIN}/node/n1`, 'it does not hold');
      must(result.leaf.x509.checkPrivateKey(svid.privateKey), 'it is for another key');
      readIntermediates(source.text(200));
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
};

export const ownIdentityTargets: readonly Target[] = [
  {
    name: 'given-svid',
    about: 'what a SPIFFE agent answers is used whole and of whom it has to be, or refused',
    maxLength: 60,
    open: openAnswers,
  },
];
