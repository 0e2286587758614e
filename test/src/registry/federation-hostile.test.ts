// A partner that tries for more than it was given: names, prefixes and identities that are not its own, secrets that it
// should not have, and as much as it can get.

import { createClient } from '@connectrpc/connect';
import { expect, onTestFinished, test } from 'vitest';
import { fromConnectError } from '../../../src/api/errors.ts';
import { FederationService } from '../../../src/api/generated/vl3/v1/federation_pb.js';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import { openAuthorities } from '../../../src/identity/ca-authorities.ts';
import { createCertificateRequest } from '../../../src/identity/certificate-request.ts';
import { generateKey } from '../../../src/identity/key.ts';
import { encodeSpiffeBundle } from '../../../src/identity/spiffe-bundle.ts';
import { clientTlsOptions } from '../../../src/identity/tls.ts';
import { loadX509 } from '../../../src/identity/x509-library.ts';
import { connectPartner } from '../../../src/registry/client.ts';
import { connectRegistry } from '../../../src/registry/connection.ts';
import { issue } from '../identity/fixture.ts';
import {
  abroad,
  admit,
  type Companies,
  companies,
  federate,
  HOME,
  invite,
  namesOf,
  PARTNER,
  recordOf,
  snapshot,
} from './companies.ts';
import { red, refusal, startDomain, type TestDomain, temporaryDirectory } from './fixture.ts';

/** The CA of a domain, as whoever stole it, or runs it, has it. */
const authorityOf = async ({ stateDirectory }: TestDomain, trustDomain: string) =>
  await CertificateAuthority.open({ directory: `${stateDirectory}/ca`, trustDomain });

/** A node of the partner, signed by its CA: nobody here saw it enrol. */
const mint = async (partner: TestDomain, name: string) => {
  const privateKey = await generateKey();
  const authority = await authorityOf(partner, PARTNER);
  const certificateChain = await authority.signNodeSvid(await createCertificateRequest(privateKey), name);
  return { privateKey, certificateChain };
};

/** For signing what it never would. */
const caOf = async ({ stateDirectory }: TestDomain) => {
  const { active } = await openAuthorities(`${stateDirectory}/ca`, PARTNER, Date.now(), false);
  const { X509Certificate } = await loadX509();
  const { der } = active.certificate;
  return { der, key: active.key, subject: new X509Certificate(der.slice().buffer).subject };
};

const federating = ({ home }: Companies) => {
  const { trustBundle } = home.registry.observed.context.signer;
  const connection = connectRegistry({
    registries: home.registry.registries,
    tls: clientTlsOptions(trustBundle),
  });
  onTestFinished(() => connection[Symbol.asyncDispose]());
  const client = createClient(FederationService, connection.transport);
  return async (request: Parameters<typeof client.federate>[0]): Promise<string> => {
    try {
      await client.federate(request);
      return 'accepted';
    } catch (error) {
      const { code, message } = fromConnectError(error);
      return `${code}: ${message}`;
    }
  };
};

const introductionOf = (partner: TestDomain, trustDomain = PARTNER) => ({
  trustDomain,
  bundle: encodeSpiffeBundle(partner.registry.observed.context.signer.trustBundle),
  bundleLocation: { url: 'https://127.0.0.1:1/bundle.json', profile: 'https_spiffe' },
  registries: ['127.0.0.1:1'],
});

const secretOf = (invitation: string): Uint8Array => {
  const json = Buffer.from(invitation.slice('vl3f1.'.length), 'base64url').subarray(2, -4);
  return new Uint8Array(Buffer.from(JSON.parse(json.toString()).s, 'base64url'));
};

test('a guessed, an expired and a used secret are refused, counted and logged', async () => {
  const both = await companies();
  const federates = federating(both);
  const introduction = introductionOf(both.partner);
  const invitation = await invite(both);
  const secret = secretOf(invitation);
  const guessed = secret.map((byte, i) => (i === 0 ? byte ^ 1 : byte));
  expect(await federates({ ...introduction, secret: guessed })).toMatch(
    /^permission-denied: .*not one of this/,
  );
  expect(await federates({ ...introduction, secret: secret.subarray(1) })).toMatch(/^invalid-argument/);
  // The invitation is for one domain.
  expect(await federates({ ...introduction, trustDomain: 'third.example', secret })).toMatch(
    /^permission-denied: .*not one of this/,
  );
  expect(await federates({ ...introduction, trustDomain: HOME, secret })).toMatch(/^invalid-argument/);
  both.home.clockAheadMs = 25 * 3600_000;
  expect(await federates({ ...introduction, secret })).toMatch(/^permission-denied: .*has expired/);
  both.home.clockAheadMs = 0;
  expect(await federates({ ...introduction, bundle: '{"keys":[]}', secret })).toMatch(
    /^invalid-argument: bundle/,
  );
  expect(await federates({ ...introduction, secret })).toBe('accepted');
  expect(await federates({ ...introduction, secret })).toBe('accepted');
  const thief = await CertificateAuthority.open({
    directory: `${temporaryDirectory()}/ca`,
    trustDomain: PARTNER,
  });
  const stolen = { ...introduction, bundle: encodeSpiffeBundle(thief.trustBundle), secret };
  expect(await federates(stolen)).toMatch(/^permission-denied: .*was used already, by other CAs/);
  // An invitation that was made before counts no more once there is another.
  const [older, newer] = [await invite(both), await invite(both)];
  expect(await federates({ ...introduction, secret: secretOf(older) })).toMatch(/^permission-denied/);
  expect(await federates({ ...introduction, secret: secretOf(newer) })).toBe('accepted');

  const { counters } = both.home.registry.observed.context;
  expect(Object.fromEntries(counters.refusedFederations)).toMatchObject({
    unknown: 3,
    expired: 1,
    used: 1,
    malformed: 2,
  });
  const log = both.home.log.lines.filter((line) => line.includes('federation refused'));
  expect(log.length).toBeGreaterThanOrEqual(7);
  const texts = [secret, guessed].flatMap((one) => [
    Buffer.from(one).toString('base64url'),
    Buffer.from(one).toString('hex'),
    Buffer.from(one).toString('base64').replaceAll('=', ''),
  ]);
  for (const line of both.home.log.lines) for (const text of texts) expect(line).not.toContain(text);
});

test('an invitation that somebody else wrote in the name of a partner puts him in nobody’s place', async () => {
  const both = await companies();
  await federate(both);
  const before = both.home.registry.observed.context.partners.of(PARTNER)?.held?.bundle.text;
  const impostor = await startDomain({ trustDomain: PARTNER });
  await (await impostor.admin()).createNetwork({ network: red });
  const { invitation } = await (await impostor.federation()).invitePartner({
    trustDomain: HOME,
    constraints: { networks: ['red'] },
  });
  const federation = await both.home.federation();
  expect(await refusal(federation.acceptInvitation({ invitation }))).toMatch(
    /^already-exists: partner.example is federated with already, by other CAs/,
  );
  expect(both.home.registry.observed.context.partners.of(PARTNER)?.held?.bundle.text).toBe(before);
  // Whose CAs are new is accepted once the admin has ended what there was.
  await federation.revokePartner({ trustDomain: PARTNER });
  expect(await refusal(federation.acceptInvitation({ invitation }))).toBe('accepted');
});

test('before an invitation is accepted its domain is nobody', async () => {
  const both = await companies();
  await invite(both);
  await admit(both.home);
  const node = await both.partner.enrol('n1');
  expect(await refusal(abroad(both, node).heartbeat({}))).toMatch(/^unauthenticated/);
});

test("an identity outside of the partner's own is nobody, whatever CA of the partner signs it", async () => {
  const both = await companies();
  await federate(both);
  await admit(both.home);
  const issuer = await caOf(both.partner);
  const outcomes: string[] = [];
  const { trustBundle } = both.home.registry.observed.context.signer;
  for (const uri of [
    `spiffe://${HOME}/node/n1`,
    `spiffe://${HOME}/admin/admin`,
    'spiffe://third.example/node/n1',
    `spiffe://${PARTNER}/admin/admin`,
    `spiffe://${PARTNER}/registry`,
    `spiffe://${PARTNER}/workload`,
  ]) {
    const leaf = await issue({ uris: [uri], issuer });
    const connection = connectPartner(
      {
        ...(await both.partner.enrol(`e${outcomes.length}`)).identity,
        privateKey: leaf.key,
        certificateChain: [leaf.der],
      },
      { registries: both.home.registry.registries, trustBundle },
    );
    onTestFinished(() => connection[Symbol.asyncDispose]());
    outcomes.push(await refusal(connection.client.joinNetwork({ network: 'red' })));
  }
  for (const outcome of outcomes) expect(outcome).toMatch(/^unauthenticated/);
});

test('networks, names and prefixes outside of the constraints are refused and logged', async () => {
  const both = await companies();
  await (await both.home.admin()).createNetwork({ network: { name: 'green', poolV4: '10.61.0.0/16' } });
  await (await both.home.admission()).createAdmissionRule({
    rule: { network: 'green', name: 'partner', trustDomain: PARTNER },
  });
  await federate(both, { prefixes: ['10.60.128.0/20', 'fd00:60:0:8000::/64'], names: ['shop'] });
  await admit(both.home);
  const node = await both.partner.enrol('n1');
  const client = abroad(both, node);
  for (const network of ['green', 'blue'])
    expect(await refusal(client.joinNetwork({ network }))).toMatch(
      new RegExp(`^permission-denied: network "${network}" is not among those of the federation`),
    );
  const joined = await client.joinNetwork({ network: 'red' });
  expect(joined.leases.map(({ prefix }) => prefix)).toEqual(['10.60.128.0/24', 'fd00:60:0:8000::/112']);

  const local = await both.home.enrol('n1');
  const theirs = await local.client.joinNetwork({ network: 'red' });
  // What is kept for the partner is not given to others while there is anything else.
  expect(theirs.leases.map(({ prefix }) => prefix)).toEqual(['10.60.144.0/24', 'fd00:60:0:8001::/112']);
  const stolen = recordOf(node, { network: joined.network, leases: theirs.leases });
  expect(await refusal(client.putRecord({ network: 'red', record: stolen }))).toMatch(
    /^permission-denied: 10\.60\.144\.0\/24 is outside of what partner\.example may have/,
  );
  // Signed by the namesake at home, whose SVID the partner has not; and the partner's, sent by the namesake.
  const ofNamesake = recordOf(local, theirs);
  expect(await refusal(client.putRecord({ network: 'red', record: ofNamesake }))).toMatch(
    /^permission-denied: record/,
  );
  const own = recordOf(node, joined);
  expect(await refusal(local.client.putRecord({ network: 'red', record: own }))).toMatch(
    /^permission-denied: record/,
  );
  await client.putRecord({ network: 'red', record: own });

  const uid = joined.network?.uid ?? '';
  const address = { address: { family: 4 as const, value: 0x0a3c8005n } };
  const named = (name: string) =>
    client.putAttachments({
      network: 'red',
      attachments: [],
      names: namesOf(node, uid, [{ name, addresses: [address.address] }]),
    });
  expect(await refusal(named('bank'))).toMatch(
    /^permission-denied: names: "bank" is no name for workloads of partner/,
  );
  expect(await refusal(named('eshop'))).toMatch(/^permission-denied/);
  expect(await refusal(named('a.shop'))).toBe('accepted');
  const outside = { id: 'x', addresses: ['10.60.1.9'], interfaceName: 'red' };
  expect(await refusal(client.putAttachments({ network: 'red', attachments: [outside] }))).toMatch(
    /^permission-denied: attachment x: 10\.60\.1\.9 is in no prefix leased to/,
  );
  const refused = both.home.log.lines.filter(
    (line) => line.includes('refused') && line.includes('n1@partner'),
  );
  expect(refused.length).toBeGreaterThanOrEqual(5);
});

test('what a node signed for a network of the partner holds nothing here, though that has the name and uid of the one here', async () => {
  const both = await companies();
  await federate(both);
  await admit(both.home);
  const local = await both.home.enrol('n1');
  const joined = await local.client.joinNetwork({ network: 'red' });
  const uid = joined.network?.uid ?? '';
  // As the partner's registry got it, which says that its red is this uid. It needs the node's connection to bring it, which
  // it is spared here.
  const lured = recordOf(local, joined, { of: PARTNER });
  expect(await refusal(local.client.putRecord({ network: 'red', record: lured }))).toMatch(
    /^permission-denied: record: node "n1" of home\.example signed it for network "red" \(.*\) of partner\.example/,
  );
  const names = namesOf(local, uid, [], PARTNER);
  expect(await refusal(local.client.putAttachments({ network: 'red', attachments: [], names }))).toMatch(
    /^permission-denied: names: .* of partner\.example/,
  );
  // And what the partner's node signed for a network of its own.
  const node = await both.partner.enrol('n1');
  const client = abroad(both, node);
  const own = recordOf(node, await client.joinNetwork({ network: 'red' }), { of: PARTNER });
  expect(await refusal(client.putRecord({ network: 'red', record: own }))).toMatch(/of partner\.example$/);
});

test('a federation narrowed anew ends what it leaves out', async () => {
  const both = await companies();
  await (await both.home.admin()).createNetwork({ network: { name: 'green', poolV4: '10.61.0.0/16' } });
  await federate(both);
  await admit(both.home);
  const client = abroad(both, await both.partner.enrol('n1'));
  await client.joinNetwork({ network: 'red' });
  await federate(both, { networks: ['green'] });
  expect(await refusal(client.putAttachments({ network: 'red', attachments: [] }))).toMatch(
    /^permission-denied/,
  );
  expect((await (await both.home.admin()).getNetwork({ name: 'red' })).leases).toEqual([]);
});

test('a partner gets four prefixes a node, a quarter of a pool, and no more nodes than it may', async () => {
  const both = await companies();
  await (await both.home.admin()).createNetwork({
    network: { name: 'small', poolV4: '10.62.0.0/20', nodePrefixLengthV4: 24 },
  });
  await federate(both, { networks: ['small'] });
  await (await both.home.admission()).createAdmissionRule({
    rule: { network: 'small', name: 'partner', trustDomain: PARTNER },
  });
  const client = abroad(both, await both.partner.enrol('n1'));
  await client.joinNetwork({ network: 'small' });
  const more = (requestId: string) => client.leasePrefix({ network: 'small', family: 4, requestId });
  for (const id of ['a', 'b', 'c']) await more(id);
  expect(await refusal(more('d'))).toMatch(/^resource-exhausted: a node of another domain holds at most 4/);
  const other = abroad(both, await both.partner.enrol('n2'));
  expect(await refusal(other.joinNetwork({ network: 'small' }))).toMatch(
    /^resource-exhausted: partner\.example holds as much of the pool 10\.62\.0\.0\/20 as a partner may, a quarter/,
  );
  const local = await both.home.enrol('n1');
  expect((await local.client.joinNetwork({ network: 'small' })).leases.length).toBe(1);
  // What is on no network leaves nothing in the store, under however many names it comes.
  const { store } = both.home.registry.observed.context;
  for (let i = 0; i < 5; i++) {
    const identity = {
      ...(await both.partner.enrol(`f${i}`)).identity,
      ...(await mint(both.partner, `m${i}`)),
    };
    const stranger = abroad(both, { identity });
    await stranger.heartbeat({});
    await stranger.renewLeases({ holdings: [] });
    expect(await refusal(stranger.putAttachments({ network: 'small', attachments: [] }))).toMatch(
      /must join first/,
    );
  }
  const after = (await store.read([{ prefix: '/' }])).entries.map(({ key }) => key);
  expect(after.filter((key) => /\/(m|f)\d@/.test(key))).toEqual([]);
});

test('what a foreign node says it holds proves nothing', async () => {
  const both = await companies();
  await federate(both);
  await admit(both.home);
  const client = abroad(both, await both.partner.enrol('n1'));
  const { network, leases } = await client.joinNetwork({ network: 'red' });
  const [first] = leases;
  if (first === undefined) throw new Error('nothing was leased');
  const claim = { ...first, prefix: '10.60.77.0/24' };
  const { answers } = await client.renewLeases({
    holdings: [{ ...(network && { network }), leases: [...leases, claim] }],
  });
  expect(answers.map(({ prefix, outcome }) => [prefix, outcome])).toEqual([
    ...leases.map(({ prefix }) => [prefix, 1]),
    ['10.60.77.0/24', 3],
  ]);
  const stranger = abroad(both, await both.partner.enrol('n2'));
  const taken = await stranger.renewLeases({ holdings: [{ ...(network && { network }), leases: [claim] }] });
  expect(taken.answers.map(({ outcome }) => outcome)).toEqual([3]);
});

test("a partner's node cannot keep a node of the domain from its key", async () => {
  const both = await companies();
  await federate(both);
  await admit(both.home);
  const node = await both.partner.enrol('n1');
  const client = abroad(both, node);
  const joined = await client.joinNetwork({ network: 'red' });
  await client.putRecord({ network: 'red', record: recordOf(node, joined, { key: 5 }) });
  const local = await both.home.enrol('n1');
  const own = recordOf(local, await local.client.joinNetwork({ network: 'red' }), { key: 5 });
  await local.client.putRecord({ network: 'red', record: own });
  const { nodes, tombstones } = await snapshot(local.client);
  expect(nodes.filter(({ record }) => record !== undefined).map((one) => one.node)).toEqual(['n1']);
  expect(tombstones.map((one) => one.node)).toEqual(['n1@partner.example']);
  const again = recordOf(node, joined, { key: 5, sequence: 2 });
  expect(await refusal(client.putRecord({ network: 'red', record: again }))).toMatch(
    /its public key is another node's/,
  );
  await client.putRecord({ network: 'red', record: recordOf(node, joined, { key: 6, sequence: 3 }) });
});

test('a partner is told nothing of networks that it has nothing to do with', async () => {
  const both = await companies();
  await (await both.home.admin()).createNetwork({ network: { name: 'green', poolV4: '10.61.0.0/16' } });
  await federate(both);
  await admit(both.home);
  const node = await both.partner.enrol('n1');
  const client = abroad(both, node);
  const joined = await client.joinNetwork({ network: 'red' });
  const record = recordOf(node, joined);
  const asked = (network: string): Promise<string>[] =>
    [
      client.joinNetwork({ network }),
      client.leasePrefix({ network, family: 4, requestId: 'r' }),
      client.releasePrefix({ network, prefix: '10.61.0.0/24' }),
      client.putRecord({ network, record }),
      client.putAttachments({ network, attachments: [] }),
      client.leaveNetwork({ network }),
      (async () => {
        for await (const _ of client.watchNetwork({ network })) break;
      })(),
    ].map(refusal);
  const [there, nowhere] = await Promise.all(['green', 'nowhere'].map((name) => Promise.all(asked(name))));
  expect(nowhere?.map((one) => one.replaceAll('nowhere', 'green'))).toEqual(there);
});
