// Two real registries, of two companies, over loopback: what one lets the other's nodes do, from the invitation to its end.

import { expect, test } from 'vitest';
import { Partner_State as State } from '../../../src/api/generated/vl3/v1/federation_pb.js';
import {
  abroad,
  admit,
  companies,
  federate,
  HOME,
  invite,
  namesOf,
  PARTNER,
  recordOf,
  snapshot,
  until,
} from './companies.ts';
import { refusal } from './fixture.ts';

const FOREIGN = 'n1@partner.example';

test('a partner accepts an invitation, and its node joins what a rule opens to it', async () => {
  const both = await companies();
  await federate(both);
  const listed = await (await both.home.federation()).listPartners({});
  expect(listed.partners).toMatchObject([{ trustDomain: PARTNER, admits: { networks: ['red'] } }]);
  const there = await (await both.partner.federation()).listPartners({});
  expect(there.partners).toMatchObject([
    { trustDomain: HOME, accepted: { networks: ['red'] }, caFingerprints: listed.caFingerprints },
  ]);
  expect(listed.partners[0]?.caFingerprints).toEqual(there.caFingerprints);

  const node = await both.partner.enrol('n1');
  const client = abroad(both, node);
  expect(await refusal(client.joinNetwork({ network: 'red' }))).toMatch(
    /^permission-denied: partner.example is federated, but no admission rule of network "red"/,
  );
  await admit(both.home, { app: 'ledger' });
  const joined = await client.joinNetwork({ network: 'red' });
  expect(joined.leases.map((lease) => lease.node)).toEqual([FOREIGN, FOREIGN]);
  await client.putRecord({ network: 'red', record: recordOf(node, joined) });
  const attachment = { addresses: ['10.60.0.5'], interfaceName: 'red' };
  const answer = await client.putAttachments({
    network: 'red',
    attachments: [
      { ...attachment, id: 'a', workload: 'ledger', labels: { app: 'ledger' } },
      { ...attachment, id: 'b', workload: 'other', addresses: ['10.60.0.6'] },
    ],
  });
  expect(answer.refused.map(({ id }) => id)).toEqual(['b']);

  // A node of the same name at home is another one.
  const local = await both.home.enrol('n1');
  await local.client.joinNetwork({ network: 'red' });
  const entry = await until(async () =>
    (await snapshot(local.client)).nodes.find(({ node: name, grant }) => name === FOREIGN && grant),
  );
  expect(JSON.parse(new TextDecoder().decode(entry.grant?.record))).toMatchObject({
    trustDomain: HOME,
    nodeDomain: PARTNER,
    node: 'n1',
    isWhole: false,
    addresses: ['10.60.0.5'],
  });
  await client.heartbeat({});
  expect((await client.heartbeat({})).federationsVersion).toBe('');
  expect((await snapshot(local.client)).nodes.find(({ node: name }) => name === FOREIGN)?.alive).toBe(true);
});

test('a rule that looks at the node alone grants a foreign node addresses all the same', async () => {
  const both = await companies();
  await federate(both);
  await admit(both.home);
  const node = await both.partner.enrol('n1');
  const client = abroad(both, node);
  await client.joinNetwork({ network: 'red' });
  await client.putAttachments({
    network: 'red',
    attachments: [{ id: 'a', addresses: ['10.60.0.5'], interfaceName: 'red' }],
  });
  const entry = await until(async () =>
    (await snapshot(client)).nodes.find(({ grant }) => grant !== undefined),
  );
  const grant = JSON.parse(new TextDecoder().decode(entry.grant?.record));
  expect([grant.isWhole, grant.addresses]).toEqual([false, ['10.60.0.5']]);
});

test('agents learn of federations from their own registry, and of their end', async () => {
  const both = await companies();
  const node = await both.partner.enrol('n1');
  const before = await node.client.heartbeat({});
  await federate(both);
  const during = await node.client.heartbeat({});
  expect(during.federationsVersion).not.toBe(before.federationsVersion);
  const { federations, version } = await node.client.listFederations({});
  expect(version).toBe(during.federationsVersion);
  expect(federations).toMatchObject([
    {
      trustDomain: HOME,
      registries: both.home.registry.registries,
      networks: ['red'],
      isBundleExpired: false,
    },
  ]);
  expect(federations[0]?.bundle).toBe(both.home.registry.observed.context.ownBundle.text);
  await (await both.partner.federation()).revokePartner({ trustDomain: HOME });
  expect((await node.client.heartbeat({})).federationsVersion).toBe(before.federationsVersion);
  expect((await node.client.listFederations({})).federations).toEqual([]);
});

test('revoked, nothing of the partner is left, and its own side shows it', async () => {
  const both = await companies();
  await federate(both, { names: ['shop'] });
  await admit(both.home);
  const node = await both.partner.enrol('n1');
  const client = abroad(both, node);
  const joined = await client.joinNetwork({ network: 'red' });
  await client.putRecord({ network: 'red', record: recordOf(node, joined) });
  await client.putAttachments({
    network: 'red',
    attachments: [{ id: 'a', workload: 'shop', addresses: ['10.60.0.5'], interfaceName: 'red' }],
    names: namesOf(node, joined.network?.uid ?? '', []),
  });
  await client.heartbeat({});
  const local = await both.home.enrol('n1');
  await local.client.joinNetwork({ network: 'red' });
  await until(async () => (await snapshot(local.client)).nodes.find(({ grant }) => grant !== undefined));
  const watching = refusal(
    (async () => {
      for await (const _ of client.watchNetwork({ network: 'red' }));
    })(),
  );

  const federation = await both.home.federation();
  expect((await federation.revokePartner({ trustDomain: PARTNER })).nodes).toEqual([FOREIGN]);
  const { nodes, tombstones } = await snapshot(local.client);
  expect(nodes.map(({ node: name }) => name)).toEqual(['n1']);
  expect(tombstones).toMatchObject([{ node: FOREIGN, recordSequence: 1n }]);
  const { leases } = await (await both.home.admin()).getNetwork({ name: 'red' });
  expect(leases.map((lease) => lease.node)).toEqual(['n1', 'n1']);
  expect((await (await both.home.admin()).listAttachments({})).attachments).toEqual([]);
  // The connection that it had is nobody's any more, and neither is a new one.
  expect(await refusal(client.heartbeat({}))).toMatch(
    /^unauthenticated: .*has no federation with .*vl3 federation invite/,
  );
  expect(await refusal(abroad(both, node).joinNetwork({ network: 'red' }))).toMatch(/^unauthenticated/);
  expect(await watching).toMatch(/^(permission-denied|unauthenticated)/);
  const { store } = both.home.registry.observed.context;
  const { entries } = await store.read([{ prefix: '/' }]);
  const kept = entries.map(({ key }) => key).filter((key) => key.includes(PARTNER));
  // The log of what was decided on it stays, and pushes out nothing else.
  const parts = kept.map((key) => key.split('/')[1]).filter((part) => !part?.startsWith('admission-log'));
  expect(parts).toEqual(['tombstones']);

  const seen = await until(async () => {
    const { partners } = await (await both.partner.federation()).listPartners({});
    return partners.find(({ state }) => state === State.REVOKED_THERE);
  });
  expect(seen.trustDomain).toBe(HOME);
  // Invited again, it is a federation again.
  const invitation = await invite(both);
  const again = await (await both.partner.federation()).acceptInvitation({ invitation });
  expect(again.partner?.state).toBe(State.ACTIVE);
  await abroad(both, node).joinNetwork({ network: 'red' });
});

test('both may invite each other', async () => {
  const both = await companies();
  await federate(both);
  await (await both.partner.admin()).createNetwork({ network: { name: 'green', poolV4: '10.70.0.0/16' } });
  const { invitation } = await (await both.partner.federation()).invitePartner({
    trustDomain: HOME,
    constraints: { networks: ['green'] },
  });
  await (await both.home.federation()).acceptInvitation({ invitation });
  const [here] = (await (await both.home.federation()).listPartners({})).partners;
  expect(here).toMatchObject({ admits: { networks: ['red'] }, accepted: { networks: ['green'] } });
  const [there] = (await (await both.partner.federation()).listPartners({})).partners;
  expect(there).toMatchObject({ admits: { networks: ['green'] }, accepted: { networks: ['red'] } });
  // The latest invitation is what each goes by when it asks whether the federation goes on.
  await new Promise((resolve) => setTimeout(resolve, 600));
  for (const domain of [both.home, both.partner])
    expect((await (await domain.federation()).listPartners({})).partners[0]?.state).toBe(State.ACTIVE);
});

test('a federation survives a restart of either registry', async () => {
  const both = await companies();
  await federate(both);
  await admit(both.home);
  const node = await both.partner.enrol('n1');
  await abroad(both, node).joinNetwork({ network: 'red' });
  await both.home.stop();
  await both.home.start();
  const { leases } = await abroad(both, node).joinNetwork({ network: 'red' });
  expect(leases.map(({ prefix }) => prefix)).toEqual(['10.60.0.0/24', 'fd00:60::/112']);
});
