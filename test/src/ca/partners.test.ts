// A domain whose signer is apart, and its partners: what works with one in the registry's process works, and what somebody
// gets signed who took the registry over. The invitations are made and accepted by the very functions of the commands.

import { describe, expect, test, vi } from 'vitest';
import { acceptBySigner, makeInvitation } from '../../../cmd/vl3/ca-client.ts';
import { decodeVerifiedGrant } from '../../../native-free/admission/grant.ts';
import { parseInvitation } from '../../../native-free/federation/invitation.ts';
import { RemoteSigner } from '../../../src/ca/remote-signer.ts';
import {
  handleOf,
  invitationKey,
  proveAcceptance,
  secretHashOf,
} from '../../../src/federation/invitation-proof.ts';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import { isIssuedBy, parseCertificate } from '../../../src/identity/certificate.ts';
import { verifyStatement } from '../../../src/identity/domain-statement.ts';
import { createGrantVerifier } from '../../../src/identity/grant-signer.ts';
import { signAttestation } from '../../../src/identity/record-signer.ts';
import type { GrantContent } from '../../../src/identity/signer.ts';
import { decodeSpiffeBundle, encodeSpiffeBundle } from '../../../src/identity/spiffe-bundle.ts';
import { openCa } from '../identity/fixture.ts';
import { abroad, HOME, PARTNER, recordOf, snapshot, until } from '../registry/companies.ts';
import { recordingLogger, refusal, startDomain, type TestNode } from '../registry/fixture.ts';
import { ApartDomain } from './fixture.ts';

const SOON = { timeout: 20_000, interval: 50 };
const WEEK = 7 * 86_400_000;
const CONSTRAINTS = { trustDomain: PARTNER, networks: ['red'], names: [], prefixes: [] as string[] };

const takeOver = async (domain: ApartDomain): Promise<RemoteSigner> =>
  await RemoteSigner.open(
    { file: domain.credentialFile, trustDomain: domain.trustDomain },
    { logger: recordingLogger().logger, now: Date.now },
  );

/** As `vl3 federation invite`. */
const invite = async (home: ApartDomain, change: Partial<typeof CONSTRAINTS> = {}): Promise<string> => {
  const constraints = { ...CONSTRAINTS, ...change };
  const made = await makeInvitation(home.adminFile, constraints, 600);
  if (made === undefined) throw new Error('the credential names no signer');
  const { trustDomain, networks, names, prefixes } = constraints;
  const { registries, bundleLocation } = await (await home.federation()).invitePartner({
    trustDomain,
    constraints: { networks, names, prefixes },
    ttl: { seconds: 600n, nanos: 0 },
    ...{ secretHash: made.secretHash, handle: made.handle },
  });
  const { url = '', profile = '', spiffeId = '' } = bundleLocation ?? {};
  return made.format({ registries, url, profile, spiffeId });
};

const admit = async (home: ApartDomain): Promise<void> => {
  const rule = { network: 'red', name: 'ledger', trustDomain: PARTNER, labels: { app: 'ledger' } };
  await (await home.admission()).createAdmissionRule({ rule });
  await (await home.ca()).registerRule({ rule });
};

const attachment = (address: string, app: string) => ({
  ...{ id: app, network: 'red', workload: 'web', interfaceName: 'vl3', labels: { app } },
  addresses: [address],
});

/** Joins red at home as an agent does, with one workload that a rule admits and one that none does. */
const attach = async (home: ApartDomain, client: TestNode['client'], node: TestNode) => {
  const joined = await client.joinNetwork({ network: 'red' });
  const [lease] = joined.leases;
  const at = (host: number): string => (lease?.prefix ?? '').replace(/\d+\/\d+$/, String(host));
  await client.putRecord({ network: 'red', record: recordOf(node, joined, { of: home.trustDomain }) });
  const attachments = [attachment(at(5), 'ledger'), attachment(at(6), 'other')];
  const attestation = signAttestation(node.identity, {
    ...{ network: 'red', networkUid: joined.network?.uid ?? '', home: home.trustDomain, sequence: 1 },
    attachments: attachments.map(({ workload, labels, addresses }) => ({
      ...{ workload, labels, addresses, namespace: '', serviceAccount: '' },
    })),
  });
  await client.putAttachments({
    ...{ network: 'red', attachments },
    attestation: { ...attestation, certificateChain: [...attestation.certificateChain] },
  });
  return { address: at(5), uid: joined.network?.uid ?? '', prefixes: [lease?.prefix ?? ''] };
};

/** What the partner's node is granted, as the home's nodes see it. */
const granted = async (home: ApartDomain, n1: TestNode, uid: string, addresses: string[]) => {
  const verify = createGrantVerifier((await home.authority()).trustBundle);
  await vi.waitFor(async () => {
    const { nodes } = await snapshot(n1.client);
    const { grant } = nodes.find(({ node }) => node === `edge@${PARTNER}`) ?? {};
    if (grant === undefined) throw new Error('no grant yet');
    const decoded = decodeVerifiedGrant(grant, verify, Date.now(), {
      ...{ network: 'red', networkUid: uid, node: 'edge', nodeDomain: PARTNER },
    });
    expect(decoded).toMatchObject({ kind: 'accepted', grant: { isWhole: false, addresses } });
  }, SOON);
};

/** By which its registry is known at present. */
const hers = async ({ registry }: ApartDomain) => {
  const { signer } = registry.observed.context;
  const { certificateChain } = await signer.serverCredential([]);
  return { certificateChain, trustBundle: signer.trustBundle };
};

const vouched = async ({ registry }: ApartDomain) => {
  const { signer } = registry.observed.context;
  return verifyStatement(await signer.statement(), signer.trustBundle, Date.now()).partners ?? [];
};

test("a partner is invited, its workloads are granted single addresses, and it ends, all by the signer's decision", async () => {
  const home = await ApartDomain.start(undefined, HOME);
  const partner = await startDomain({ trustDomain: PARTNER });
  const uid = await home.createNetwork('red', '10.60.0.0/16');
  const n1 = await home.enrol('n1');
  await n1.client.joinNetwork({ network: 'red' });
  const invitation = await invite(home);
  const answer = await (await partner.federation()).acceptInvitation({ invitation });
  expect(answer.partner?.trustDomain).toBe(HOME);
  const { signer } = partner.registry.observed.context;
  await vi.waitFor(async () => {
    const [known] = await vouched(home);
    expect(known).toMatchObject({ trustDomain: PARTNER });
    expect(known?.authorities).toEqual(
      signer.trustBundle.certificates.map((der) => Buffer.from(der).toString('base64')),
    );
  }, SOON);
  await admit(home);
  const edge = await partner.enrol('edge');
  const client = abroad({ home }, edge);
  const { address } = await attach(home, client, edge);
  await granted(home, n1, uid, [address]);
  // The registry answers the partner's poll as one whose CA it has does.
  await until(async () =>
    (await (await partner.federation()).listPartners({})).partners[0]?.bundleProblem === ''
      ? true
      : undefined,
  );
  await (await home.ca()).withdrawPartner({ trustDomain: PARTNER });
  await (await home.federation()).revokePartner({ trustDomain: PARTNER });
  await vi.waitFor(async () => expect(await vouched(home)).toEqual([]), SOON);
});

test('two domains whose signers are both apart federate, and follow a rotation of the other', async () => {
  const home = await ApartDomain.start(undefined, HOME);
  const partner = await ApartDomain.start(undefined, PARTNER);
  await home.createNetwork('red', '10.60.0.0/16');
  const text = await invite(home);
  const accepted = await acceptBySigner(partner.adminFile, text);
  // The accepting registry does not get to see the secret either.
  const { secret } = parseInvitation(text);
  expect(parseInvitation(accepted.invitation).secret).toEqual(new Uint8Array(32));
  expect(accepted).toMatchObject({ secretHash: secretHashOf(secret), handle: handleOf(secret) });
  await (await partner.federation()).acceptInvitation(accepted);
  await vi.waitFor(async () => {
    expect((await vouched(home)).map(({ trustDomain }) => trustDomain)).toEqual([PARTNER]);
    expect((await vouched(partner)).map(({ trustDomain }) => trustDomain)).toEqual([HOME]);
  }, SOON);
  await (await partner.ca()).rotateCa({ step: 'prepare' });
  await vi.waitFor(async () => {
    await home.registry.observed.context.partnerLinks.look(PARTNER);
    const [known] = (await (await home.federation()).listPartners({})).partners;
    expect(known?.bundleProblem).toBe('');
    expect((await vouched(home))[0]?.authorities).toHaveLength(2);
  }, SOON);
  const [before] = (await hers(partner)).trustBundle.certificates;
  await (await partner.ca()).rotateCa({ step: 'sign', isUrgent: true });
  await partner.renewAdmin();
  // Its registry has a certificate of the next one by now.
  await vi.waitFor(async () => {
    const { certificateChain, trustBundle } = await hers(partner);
    const [leaf, signing] = [certificateChain[0], trustBundle.certificates[0]].map((der) =>
      parseCertificate(der ?? new Uint8Array()),
    );
    expect(trustBundle.certificates[0]).not.toEqual(before);
    expect(leaf && signing && isIssuedBy(leaf, signing)).toBe(true);
  }, SOON);
  await (await partner.ca()).rotateCa({ step: 'retire', isUrgent: true });
  await vi.waitFor(async () => {
    await home.registry.observed.context.partnerLinks.look(PARTNER);
    expect((await vouched(home))[0]?.authorities).toHaveLength(1);
  }, SOON);
  // Nothing but its signer's word is taken for it, and none that is older.
  const { partners } = await (await home.ca()).getCa({});
  expect(partners).toMatchObject([{ trustDomain: PARTNER, admits: { networks: ['red'] } }]);
});

describe('somebody who took the registry over', () => {
  let signer: RemoteSigner;
  let home: ApartDomain;
  let impostor: CertificateAuthority;
  let real: CertificateAuthority;

  const begin = async (): Promise<void> => {
    home = await ApartDomain.start(undefined, HOME);
    signer = await takeOver(home);
    impostor = await openCa(PARTNER);
    real = await openCa(PARTNER);
  };
  const asked = (change: Partial<GrantContent>): GrantContent => ({
    ...{ network: 'red', networkUid: '', nodeDomain: PARTNER, node: 'edge', isWhole: true },
    ...{ addresses: ['10.60.0.5'], prefixes: ['10.60.0.0/24'], storeId: 'store', sequence: 1 },
    ...change,
  });

  test('has no partner believed that nobody invited, nor its own CAs in the place of those of one who was', async () => {
    await begin();
    await using _ = signer;
    const networkUid = await home.createNetwork('red', '10.60.0.0/16');
    const grant = (change: Partial<GrantContent> = {}) =>
      refusal(signer.signGrant(asked({ networkUid, ...change }), Date.now() + WEEK));
    const put = async (ca: CertificateAuthority, proof?: Uint8Array) =>
      await refusal(signer.putPartner(PARTNER, await ca.ownAuthorities(), proof));
    expect(await put(impostor)).toMatch(/does not know partner.example/);
    expect(await grant()).toMatch(/does not know partner.example/);
    const { secret } = parseInvitation(await invite(home, { prefixes: ['10.60.128.0/20'] }));
    expect(await put(impostor)).toMatch(/believes nothing of partner.example/);
    expect(await grant()).toMatch(/has not accepted an invitation/);
    // What a registry keeps of the secret proves nothing, and what was proven for others' CAs does not for these.
    const prints = (ca: CertificateAuthority) =>
      decodeSpiffeBundle(encodeSpiffeBundle(ca.trustBundle), PARTNER).certificates.map(
        (one) => one.fingerprint,
      );
    const claim = { home: HOME, trustDomain: PARTNER, caFingerprints: prints(real) };
    const guessed = proveAcceptance(Buffer.from(secretHashOf(secret), 'hex'), {
      ...claim,
      caFingerprints: prints(impostor),
    });
    expect(await put(impostor, guessed)).toMatch(/was not proven for these CAs/);
    const seen = proveAcceptance(invitationKey(secret), claim);
    expect(await put(impostor, seen)).toMatch(/was not proven for these CAs/);
    expect(await put(real, seen)).toBe('accepted');
    expect(await put(real, seen)).toBe('accepted');
    expect(await put(impostor, seen)).toMatch(/does not verify/);
    // Nor is one taken that the real CAs did not sign, or that they signed for something else.
    const { record, ...signed } = await real.ownAuthorities();
    expect(await refusal(signer.putPartner(PARTNER, { ...(await real.statement()) }))).toMatch(
      /does not verify/,
    );
    expect(
      await refusal(signer.putPartner(PARTNER, { ...(await impostor.ownAuthorities()), record })),
    ).toMatch(/does not verify/);
    expect(await refusal(signer.putPartner('other.example', { record, ...signed }))).toMatch(
      /does not know other.example/,
    );
    // Addresses, networks and the whole are not his to give.
    expect(await grant()).toMatch(/10.60.0.0\/24 is outside of what partner.example may have/);
    expect(await grant({ nodeDomain: 'other.example', prefixes: ['10.60.128.0/24'] })).toMatch(
      /does not know other.example/,
    );
    const green = await home.createNetwork('green', '10.61.0.0/16');
    expect(await grant({ network: 'green', networkUid: green })).toMatch(
      /network "green" is not among those/,
    );
    const got = await signer.signGrant(
      asked({ networkUid, prefixes: ['10.60.128.0/24'], addresses: ['10.60.128.5'] }),
      Date.now() + WEEK,
    );
    const decoded = decodeVerifiedGrant(
      got,
      createGrantVerifier((await home.authority()).trustBundle),
      Date.now(),
      { network: 'red', networkUid, node: 'edge', nodeDomain: PARTNER },
    );
    expect(decoded).toMatchObject({ kind: 'accepted', grant: { isWhole: false, addresses: [] } });
    // Withdrawn is withdrawn, whatever he shows again.
    await (await home.ca()).withdrawPartner({ trustDomain: PARTNER });
    expect(await put(real, seen)).toMatch(/does not know partner.example/);
    expect(await grant({ prefixes: ['10.60.128.0/24'] })).toMatch(/does not know partner.example/);
    await home.stopSigner();
    await home.startSigner();
    await vi.waitFor(
      async () => expect(await put(real, seen)).toMatch(/does not know partner.example/),
      SOON,
    );
  });

  test('has nobody believed in the place of a domain whose invitation was accepted', async () => {
    await begin();
    await using _ = signer;
    const inviter = await startDomain({ trustDomain: PARTNER });
    await (await inviter.admin()).createNetwork({ network: { name: 'blue', poolV4: '10.62.0.0/16' } });
    const { invitation } = await (await inviter.federation()).invitePartner({
      trustDomain: HOME,
      constraints: { networks: ['blue'] },
    });
    await acceptBySigner(home.adminFile, invitation);
    const put = async (ca: Pick<CertificateAuthority, 'ownAuthorities'>) =>
      await refusal(signer.putPartner(PARTNER, await ca.ownAuthorities()));
    expect(await put(impostor)).toMatch(/believes nothing of partner.example/);
    const theirs = inviter.registry.observed.context.signer;
    if (!(theirs instanceof CertificateAuthority)) throw new Error('the CA is elsewhere');
    expect(await put(theirs)).toBe('accepted');
    expect(await put(impostor)).toMatch(/does not verify/);
    // That is a way there, and none here.
    const networkUid = await home.createNetwork('red', '10.60.0.0/16');
    expect(await refusal(signer.signGrant(asked({ networkUid }), Date.now() + WEEK))).toMatch(
      /has not accepted an invitation/,
    );
  });
});
