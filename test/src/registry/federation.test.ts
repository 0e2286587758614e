// Two real registries, of two companies, over loopback: what each lets the other do.

import { expect, onTestFinished, test } from 'vitest';
import type { NodeEntry } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import { signRecord } from '../../../src/identity/record-signer.ts';
import { type AgentClient, connectPartner } from '../../../src/registry/client.ts';
import { red, refusal, startDomain, type TestDomain, type TestNode } from './fixture.ts';

const HOME = 'home.example';
const PARTNER = 'partner.example';

const until = async <T>(look: () => Promise<T | undefined> | T | undefined): Promise<T> => {
  for (let tries = 0; tries < 600; tries++) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('it never came to be');
};

interface Companies {
  readonly home: TestDomain;
  readonly partner: TestDomain;
}

const standingMs = 200;

/** Two domains, and red at home. */
const companies = async (): Promise<Companies> => {
  const home = await startDomain({ trustDomain: HOME, partnerLinks: { standingMs } });
  const partner = await startDomain({ trustDomain: PARTNER, partnerLinks: { standingMs } });
  await (await home.admin()).createNetwork({ network: red });
  return { home, partner };
};

const federate = async (
  { home, partner }: Companies,
  constraints: { networks?: string[]; names?: string[]; prefixes?: string[] } = {},
): Promise<string> => {
  const { invitation } = await (await home.federation()).invitePartner({
    trustDomain: PARTNER,
    constraints: { networks: ['red'], ...constraints },
  });
  await (await partner.federation()).acceptInvitation({ invitation });
  return invitation;
};

/** The partner's node, as it speaks to the registry at home. */
const abroad = async ({ home }: Pick<Companies, 'home'>, node: TestNode): Promise<AgentClient> => {
  const { trustBundle } = home.registry.observed.context.signer;
  const connection = connectPartner(node.identity, { registries: home.registry.registries, trustBundle });
  onTestFinished(() => connection[Symbol.asyncDispose]());
  return connection.client;
};

const admit = async (home: TestDomain, labels: Record<string, string> = {}): Promise<void> => {
  await (await home.admission()).createAdmissionRule({
    rule: { network: 'red', name: 'partner', trustDomain: PARTNER, labels },
  });
};

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
  const client = await abroad(both, node);
  expect(await refusal(client.joinNetwork({ network: 'red' }))).toMatch(
    /^permission-denied: partner.example is federated, but no admission rule of network "red"/,
  );
  await admit(both.home, { app: 'ledger' });
  const { leases, network } = await client.joinNetwork({ network: 'red' });
  expect(leases.map(({ node: of }) => of)).toEqual(['n1@partner.example', 'n1@partner.example']);
  const prefixes = leases.map(({ prefix, leasedAt }) => ({
    prefix,
    leasedAt: Number(leasedAt?.seconds ?? 0n) * 1000 + Math.floor((leasedAt?.nanos ?? 0) / 1e6),
  }));
  const record = signRecord(node.identity, {
    network: 'red',
    networkUid: network?.uid ?? '',
    publicKey: Buffer.alloc(32, 7).toString('base64'),
    prefixes,
    endpoints: [],
    sequence: 1,
  });
  await client.putRecord({
    network: 'red',
    record: { ...record, certificateChain: [...record.certificateChain] },
  });
  const attachment = { addresses: ['10.60.0.5'], interfaceName: 'red' };
  const answer = await client.putAttachments({
    network: 'red',
    attachments: [
      { ...attachment, id: 'a', workload: 'ledger', labels: { app: 'ledger' } },
      { ...attachment, id: 'b', workload: 'other', addresses: ['10.60.0.6'] },
    ],
  });
  expect(answer.refused.map(({ id }) => id)).toEqual(['b']);

  const local = await both.home.enrol('n1');
  await local.client.joinNetwork({ network: 'red' });
  const entries = await until(async () => {
    for await (const { step } of local.client.watchNetwork({ network: 'red' })) {
      if (step.case !== 'snapshot') continue;
      const found = step.value.nodes.find(({ node: name }) => name === 'n1@partner.example');
      return found?.grant === undefined ? undefined : [found];
    }
    return undefined;
  });
  const [entry]: (NodeEntry | undefined)[] = entries;
  const grant = JSON.parse(new TextDecoder().decode(entry?.grant?.record));
  expect(grant).toMatchObject({
    trustDomain: HOME,
    nodeDomain: PARTNER,
    node: 'n1',
    isWhole: false,
    addresses: ['10.60.0.5'],
  });
  await client.heartbeat({});
  expect((await client.heartbeat({})).federationsVersion).toBe('');
});
