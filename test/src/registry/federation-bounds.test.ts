// What a partner's nodes can make this domain's registry and nodes keep, and what they can take from it when it lost its memory.

import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MAX_FOREIGN_NAMES_BYTES } from '../../../native-free/registry/foreign-rules.ts';
import { CertificateAuthority } from '../../../src/identity/ca.ts';
import { createCertificateRequest } from '../../../src/identity/certificate-request.ts';
import { generateKey } from '../../../src/identity/key.ts';
import { backupStopped } from '../../../src/registry/backup-file.ts';
import { restoreStore } from '../../../src/registry/restore.ts';
import { abroad, admit, companies, federate, invite, namesOf, PARTNER } from './companies.ts';
import { refusal, temporaryDirectory } from './fixture.ts';

const RENEWED = 1;
const PENDING = 2;

test("a partner's node names and attaches no more than every node here can keep", async () => {
  const both = await companies();
  await federate(both, { names: ['shop'] });
  await admit(both.home);
  const node = await both.partner.enrol('n1');
  const client = abroad(both, node);
  const { network } = await client.joinNetwork({ network: 'red' });
  const attachment = { id: 'a', interfaceName: 'red' };
  const many = ['10.60.0.5', 'fd00:60::5', 'fd00:60::6'];
  expect(
    await refusal(
      client.putAttachments({ network: 'red', attachments: [{ ...attachment, addresses: many }] }),
    ),
  ).toMatch(/^invalid-argument: attachments\[0\]\.addresses: of another domain/);
  const label = 'x'.repeat(60);
  const names = Array.from({ length: 250 }, (_, i) => ({
    name: `n${i}.${label}.${label}.shop`,
    addresses: [{ family: 4 as const, value: 0x0a3c0005n }],
  }));
  const signed = namesOf(node, network?.uid ?? '', names);
  expect(signed.record.length).toBeGreaterThan(MAX_FOREIGN_NAMES_BYTES);
  expect(await refusal(client.putAttachments({ network: 'red', attachments: [], names: signed }))).toMatch(
    /^resource-exhausted: names: they take/,
  );
});

test('a connection that stays open ends with what counts of the partner, however long its SVID is good', async () => {
  const both = await companies({ progressMs: 50 });
  await federate(both);
  await admit(both.home);
  const day = 24 * 60 * 60 * 1000;
  const authority = await CertificateAuthority.open({
    directory: join(both.partner.stateDirectory, 'ca'),
    trustDomain: PARTNER,
    svidValidityMs: 60 * day,
  });
  const node = await both.partner.enrol('n1');
  const privateKey = await generateKey();
  const certificateChain = await authority.signNodeSvid(await createCertificateRequest(privateKey), 'n1');
  const client = abroad(both, { identity: { ...node.identity, privateKey, certificateChain } });
  await client.joinNetwork({ network: 'red' });
  expect(await refusal(client.heartbeat({}))).toBe('accepted');
  const watching = refusal(
    (async () => {
      for await (const _ of client.watchNetwork({ network: 'red' })) both.home.clockAheadMs = 8 * day;
    })(),
  );
  // Its endpoint has confirmed nothing for eight days.
  expect(await watching).toMatch(/^unauthenticated: nothing counts any more/);
  expect(await refusal(client.heartbeat({}))).toMatch(/^unauthenticated/);
});

test('in a recovery no partner takes what a node here has leased since, though it speaks first', async () => {
  const both = await companies();
  const { home } = both;
  await federate(both);
  await admit(home);
  const thief = abroad(both, await both.partner.enrol('n1'));
  const { network, leases } = await thief.joinNetwork({ network: 'red' });
  await home.stop();
  const backup = join(temporaryDirectory(), 'backup.db');
  const storeFile = join(home.stateDirectory, 'store.db');
  await backupStopped(storeFile, { file: backup, force: false, onProgress: () => {} });
  await home.start();
  const local = await home.enrol('n2');
  const held = await local.client.joinNetwork({ network: 'red' });
  await home.stop();
  await restoreStore({ stateDirectory: home.stateDirectory, file: backup, force: true, now: Date.now() });
  await home.start();

  const outcomes = async (client: typeof thief, claims: typeof leases) => {
    const holdings = [{ ...(network && { network }), leases: claims }];
    const { answers } = await client.renewLeases({ holdings });
    return Object.fromEntries(answers.map(({ prefix, outcome }) => [prefix, outcome]));
  };
  const [own = { prefix: '' }] = leases;
  const [others = { prefix: '' }] = held.leases;
  expect(await outcomes(thief, [...leases, ...held.leases])).toMatchObject({
    [own.prefix]: RENEWED,
    [others.prefix]: PENDING,
  });
  expect(await outcomes(local.client, held.leases)).toMatchObject({ [others.prefix]: RENEWED });
  await (await home.admin()).settleRegistry({});
  expect(await outcomes(local.client, held.leases)).toMatchObject({ [others.prefix]: RENEWED });
});

test('of a backup no invitation counts, and who is federated with is said when it is restored', async () => {
  const both = await companies();
  const { home } = both;
  await federate(both);
  const open = await invite(both);
  const { invitation: forThird } = await (await home.federation()).invitePartner({
    trustDomain: 'third.example',
    constraints: { networks: ['red'] },
  });
  await home.stop();
  const backup = join(temporaryDirectory(), 'backup.db');
  const storeFile = join(home.stateDirectory, 'store.db');
  await backupStopped(storeFile, { file: backup, force: false, onProgress: () => {} });
  const restored = await restoreStore({
    file: backup,
    stateDirectory: home.stateDirectory,
    force: true,
    now: Date.now(),
  });
  expect(restored.federations).toEqual([PARTNER]);
  await home.start();
  const listed = await (await home.federation()).listPartners({});
  expect(listed.partners.map(({ trustDomain, invitation }) => [trustDomain, invitation])).toEqual([
    [PARTNER, undefined],
  ]);
  expect(await refusal((await both.partner.federation()).acceptInvitation({ invitation: open }))).toMatch(
    /^permission-denied: .*not one of this registry/,
  );
  expect(forThird).toMatch(/^vl3f1\./);
});
