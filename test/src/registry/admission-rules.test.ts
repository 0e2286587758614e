// Rules, decisions, grants and their log at a real registry, by its admin and by nodes that ask.

import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { checkLog } from '../../../native-free/admission/exported-log.ts';
import { decodeVerifiedGrant } from '../../../native-free/admission/grant.ts';
import type { SignedRecord } from '../../../native-free/registry/record.ts';
import type { AdmissionRule } from '../../../src/api/generated/vl3/v1/admission_pb.js';
import type { WatchNetworkResponse } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import { createGrantVerifier } from '../../../src/identity/grant-signer.ts';
import { connectAdmission } from '../../../src/registry/client.ts';
import { eventually } from '../../lab/eventually.ts';
import { red, refusal, startDomain, type TestDomain, type TestNode, TRUST_DOMAIN } from './fixture.ts';

const admissionOf = async (domain: TestDomain) => {
  const connection = await connectAdmission(join(domain.stateDirectory, 'admin.json'));
  onTestFinished(() => connection[Symbol.asyncDispose]());
  return connection;
};

type Wanted = Partial<Omit<AdmissionRule, '$typeName'>>;

const soon = (check: () => Promise<void>) => eventually(check, { timeout: 30_000, interval: 50 });

interface World {
  readonly domain: TestDomain;
  readonly node: TestNode;
  readonly uid: string;
  readonly create: (rule: Wanted) => Promise<unknown>;
  readonly remove: (name: string) => Promise<unknown>;
  readonly admission: Awaited<ReturnType<typeof admissionOf>>;
}

/** A network, and a node on it. */
const world = async (): Promise<World> => {
  const domain = await startDomain({ progressMs: 50 });
  const admin = await domain.admin();
  const { network } = await admin.createNetwork({ network: red });
  const node = await domain.enrol('n1');
  await node.client.joinNetwork({ network: 'red' });
  const admission = await admissionOf(domain);
  return {
    domain,
    node,
    uid: network?.uid ?? '',
    admission,
    create: (rule) => admission.client.createAdmissionRule({ rule: { network: 'red', ...rule } }),
    remove: (name) => admission.client.deleteAdmissionRule({ network: 'red', name }),
  };
};

const pod = (id: string, address: string, app = 'ledger', namespace = 'billing') => ({
  id,
  workload: `${app}-0`,
  addresses: [address],
  interfaceName: 'red',
  labels: { app },
  namespace,
});

const put = async ({ client }: TestNode, ...attachments: ReturnType<typeof pod>[]) => {
  const { refused } = await client.putAttachments({ network: 'red', attachments });
  return Object.fromEntries(refused.map(({ id, reason }) => [id, reason]));
};

const attached = async (domain: TestDomain): Promise<string[]> =>
  (await (await domain.admin()).listAttachments({})).attachments.map(({ id }) => id).sort();

const isStep = (step: WatchNetworkResponse): boolean =>
  step.step.case === 'snapshot' || step.step.case === 'delta';

/** What the registry grants the node, as its watchers are told it now. */
const granted = async ({ node, uid }: World): Promise<'whole' | 'none' | string[]> => {
  for await (const step of node.client.watchNetwork({ network: 'red' })) {
    if (!isStep(step) || step.step.case !== 'snapshot') continue;
    const entry = step.step.value.nodes.find((one) => one.node === node.name);
    if (entry?.grant === undefined) return 'none';
    const { record, signature, certificateChain } = entry.grant;
    const signed: SignedRecord = { record, signature, certificateChain };
    const verify = createGrantVerifier(node.identity.trustBundle);
    const decoded = decodeVerifiedGrant(signed, verify, Date.now(), {
      network: 'red',
      networkUid: uid,
      node: node.name,
    });
    if (decoded.kind === 'refused') throw new Error(decoded.message);
    return decoded.grant.isWhole ? 'whole' : decoded.grant.addresses;
  }
  throw new Error('the watch ended');
};

/** Whether nodes of the network go by what is granted. */
const isRestricted = async ({ node }: World): Promise<boolean> => {
  for await (const { step } of node.client.watchNetwork({ network: 'red' }))
    if (step.case === 'snapshot') return step.value.network?.isRestricted === true;
  throw new Error('the watch ended');
};

const exported = async ({ admission }: World) => {
  const lines: Uint8Array[] = [];
  let head: SignedRecord | undefined;
  for await (const part of admission.client.exportAdmissionLog({})) {
    lines.push(...part.entries);
    if (part.head !== undefined)
      head = {
        record: part.head.head,
        signature: part.head.signature,
        certificateChain: part.head.certificateChain,
      };
  }
  return { lines, head, check: (changed = lines) => checkLog(changed, head, admission.verify, Date.now()) };
};

describe('a network that nobody has touched', () => {
  test('admits everyone of the home domain by a rule that is seen, and grants nothing in particular', async () => {
    const here = await world();
    const { rules } = await here.admission.client.listAdmissionRules({});
    expect(rules.map(({ network, name, trustDomain }) => [network, name, trustDomain])).toEqual([
      ['red', 'home', TRUST_DOMAIN],
    ]);
    expect(await put(here.node, pod('a', '10.60.0.9'))).toEqual({});
    expect(await attached(here.domain)).toEqual(['a']);
    expect(await granted(here)).toBe('none');
    expect((await exported(here)).lines).toEqual([]);
  });
});

describe('without the home rule', () => {
  test('what no rule admits is not stored, and its owner is told why', async () => {
    const here = await world();
    await here.remove('home');
    const refused = await put(here.node, pod('a', '10.60.0.9'));
    expect(refused['a']).toMatch(
      /^no admission rule of network "red" admits "ledger-0" \(namespace "billing", node "n1" of test\.example\)/,
    );
    expect(await attached(here.domain)).toEqual([]);
    await soon(async () => expect(await granted(here)).toEqual([]));
    expect(here.domain.registry.observed.context.counters.refusedAdmissions).toEqual(new Map([['red', 1]]));
    const { network } = await (await here.domain.admin()).getNetwork({ name: 'red' });
    expect(network?.isRestricted).toBe(true);
  });

  test('a rule admits what it says, and its addresses are granted, signed by the domain', async () => {
    const here = await world();
    await here.remove('home');
    await here.create({ name: 'ledger', workload: 'namespace == "billing" && labels.app == "ledger"' });
    const refused = await put(here.node, pod('a', '10.60.0.9'), pod('b', '10.60.0.10', 'web'));
    expect(Object.keys(refused)).toEqual(['b']);
    expect(await attached(here.domain)).toEqual(['a']);
    await soon(async () => expect(await granted(here)).toEqual(['10.60.0.9']));
  });

  test('a rule that looks at the node alone grants all of it', async () => {
    const here = await world();
    await here.remove('home');
    await here.create({ name: 'n1', node: 'n1' });
    expect(await put(here.node, pod('a', '10.60.0.9'))).toEqual({});
    await soon(async () => expect(await granted(here)).toBe('whole'));
  });

  test('a rule taken away ends what it admitted, whatever the node says or leaves unsaid', async () => {
    const here = await world();
    await put(here.node, pod('a', '10.60.0.9'), pod('b', '10.60.0.10', 'web'));
    await here.create({ name: 'ledger', labels: { app: 'ledger' } });
    await here.create({ name: 'web', labels: { app: 'web' } });
    await soon(async () => expect(await granted(here)).toBe('whole'));
    await here.remove('home');
    await soon(async () => expect(await granted(here)).toEqual(['10.60.0.10', '10.60.0.9']));
    await here.remove('web');
    await soon(async () => expect(await granted(here)).toEqual(['10.60.0.9']));
    expect(await attached(here.domain)).toEqual(['a']);
    await here.remove('ledger');
    await soon(async () => expect(await granted(here)).toEqual([]));
    await here.create({ name: 'home' });
    expect(await put(here.node, pod('a', '10.60.0.9'))).toEqual({});
    await soon(async () => expect(await granted(here)).toBe('whole'));
  });

  test('a label that changes is decided on anew', async () => {
    const here = await world();
    await here.create({ name: 'ledger', labels: { app: 'ledger' } });
    await here.remove('home');
    expect(await put(here.node, pod('a', '10.60.0.9'))).toEqual({});
    expect(Object.keys(await put(here.node, pod('a', '10.60.0.9', 'web')))).toEqual(['a']);
    expect(await attached(here.domain)).toEqual([]);
    expect(await put(here.node, pod('a', '10.60.0.9'))).toEqual({});
    expect(await attached(here.domain)).toEqual(['a']);
  });

  test('what was decided outlives the registry, and is decided again by the next', async () => {
    const here = await world();
    await here.create({ name: 'ledger', labels: { app: 'ledger' } });
    await here.remove('home');
    await put(here.node, pod('a', '10.60.0.9'));
    await soon(async () => expect(await granted(here)).toEqual(['10.60.0.9']));
    await here.domain.stop();
    await here.domain.start();
    expect(await granted(here)).toEqual(['10.60.0.9']);
    expect(Object.keys(await put(here.node, pod('b', '10.60.0.10', 'web')))).toEqual(['b']);
  });
});

test('a node that attaches more than a grant holds is granted that much, and keeps no restriction from coming into force', async () => {
  const here = await world();
  await here.create({ name: 'ledger', labels: { app: 'ledger' } });
  const many = Array.from({ length: 520 }, (_, i) => ({
    ...pod(`p${i}`, ''),
    addresses: Array.from({ length: 8 }, (_, j) => `fd00:60::${(i * 8 + j + 16).toString(16)}`),
  }));
  expect(await put(here.node, ...many)).toEqual({});
  await here.remove('home');
  await soon(async () => expect(await isRestricted(here)).toBe(true));
  expect(await granted(here)).toHaveLength(4096);
});

describe('a rule', () => {
  test.each([
    [{ name: 'x', workload: 'namespace = "a"' }, /invalid-argument: the expression does not hold up/],
    [
      { name: 'x', workload: 'later == "a"' },
      /invalid-argument: the expression does not hold up: Unknown variable: later/,
    ],
    [{ name: 'Not A Name' }, /invalid-argument: rule\.name: use a DNS label/],
    [{ name: 'x', network: 'blue' }, /not-found: there is no network "blue"/],
    [{ name: 'x', trustDomain: 'Bad Domain' }, /invalid-argument: rule\.trustDomain/],
    [{ name: 'home', node: 'n1' }, /invalid-argument: name: "home" is the rule/],
    [{ name: 'home', trustDomain: 'partner.example' }, /invalid-argument: name: "home" is the rule/],
  ])('that is wrong is refused when it is written: %j', async (rule, message) => {
    const here = await world();
    expect(await refusal(here.create(rule))).toMatch(message);
  });

  test('made twice changes nothing, made otherwise is refused, deleted twice is not found', async () => {
    const here = await world();
    await here.create({ name: 'web', labels: { app: 'web', tier: 'a' } });
    await here.create({ name: 'web', labels: { tier: 'a', app: 'web' } });
    expect(await refusal(here.create({ name: 'web', node: 'n1' }))).toMatch(/^already-exists/);
    await here.remove('web');
    expect(await refusal(here.remove('web'))).toMatch(/^not-found: network "red" has no rule "web"/);
    const { entries } = (await exported(here)).check();
    expect(entries.map(({ kind }) => kind)).toEqual(['rule-created', 'rule-deleted']);
  });

  test('is not for nodes to change or to see', async () => {
    const here = await world();
    expect(Object.keys(here.node.client)).not.toContain('createAdmissionRule');
  });

  test('goes with its network', async () => {
    const here = await world();
    await here.create({ name: 'web', labels: { app: 'web' } });
    await here.remove('home');
    await here.node.client.leaveNetwork({ network: 'red' });
    const admin = await here.domain.admin();
    await admin.deleteNetwork({ name: 'red' });
    await admin.createNetwork({ network: red });
    const { rules } = await here.admission.client.listAdmissionRules({ network: 'red' });
    expect(rules.map(({ name }) => name)).toEqual(['home']);
  });
});

describe('what would be', () => {
  test('is told with the rule, and what does not fit of the others, and changes nothing', async () => {
    const here = await world();
    await here.remove('home');
    await here.create({ name: 'ledger', namespace: 'billing', workload: 'labels.app == "ledger"' });
    await here.create({ name: 'trial', node: 'n1', isDryRun: true });
    const ask = (labels: Record<string, string>, trustDomain = '') =>
      here.admission.client.testAdmission({
        network: 'red',
        node: 'n1',
        namespace: 'billing',
        labels,
        trustDomain,
      });
    expect(await ask({ app: 'ledger' })).toMatchObject({
      isAdmitted: true,
      rule: 'ledger',
      isWholeNode: false,
    });
    const refused = await ask({});
    expect(refused).toMatchObject({ isAdmitted: false, rule: '', trustDomain: TRUST_DOMAIN });
    expect(refused.verdicts.map(({ rule, admits, whyNot }) => [rule, admits, whyNot])).toEqual([
      ['ledger', false, 'there is no label "app"'],
      ['trial', true, ''],
    ]);
    expect(await ask({ app: 'ledger' }, 'partner.example')).toMatchObject({ isAdmitted: false });
    expect((await exported(here)).check().entries.map(({ kind }) => kind)).toEqual([
      'rule-deleted',
      'rule-created',
      'rule-created',
    ]);
  });

  test('is logged of a rule on trial, which admits nobody', async () => {
    const here = await world();
    await put(here.node, pod('a', '10.60.0.9'));
    await here.create({ name: 'trial', labels: { app: 'ledger' }, isDryRun: true });
    await soon(async () => {
      const { entries } = (await exported(here)).check();
      expect(entries.at(-1)).toMatchObject({
        kind: 'admitted',
        rule: 'home',
        dryRun: ['trial'],
        attachment: 'a',
      });
    });
    await here.remove('home');
    await soon(async () => {
      const { entries } = (await exported(here)).check();
      expect(entries.at(-1)).toMatchObject({ kind: 'withdrawn', dryRun: ['trial'], attachment: 'a' });
    });
  });
});

describe('the log', () => {
  test('says who was admitted and refused by which rule, once for each change', async () => {
    const here = await world();
    await here.create({ name: 'ledger', labels: { app: 'ledger' } });
    await here.remove('home');
    for (let i = 0; i < 3; i++) await put(here.node, pod('a', '10.60.0.9'), pod('b', '10.60.0.10', 'web'));
    await here.remove('ledger');
    await soon(async () => expect(await attached(here.domain)).toEqual([]));
    const { entries, problems } = (await exported(here)).check();
    expect(problems).toEqual([]);
    expect(entries.map(({ kind, rule, attachment }) => [kind, rule, attachment])).toEqual([
      ['rule-created', 'ledger', undefined],
      ['rule-deleted', 'home', undefined],
      ['admitted', 'ledger', 'a'],
      ['refused', undefined, 'b'],
      ['rule-deleted', 'ledger', undefined],
      ['withdrawn', undefined, 'a'],
    ]);
    expect(entries[0]).toMatchObject({ admin: 'admin' });
    expect(entries[2]).toMatchObject({
      trustDomain: TRUST_DOMAIN,
      node: 'n1',
      namespace: 'billing',
      labels: { app: 'ledger' },
      addresses: ['10.60.0.9'],
    });
  });

  test('shows whatever was changed, taken out, put in or cut off', async () => {
    const here = await world();
    for (const name of ['a', 'b', 'c', 'd']) await here.create({ name, node: name });
    const { lines, check } = await exported(here);
    expect(check().problems).toEqual([]);
    const forged = new TextEncoder().encode(new TextDecoder().decode(lines[1]).replace('"b"', '"x"'));
    const changed = lines.map((line, i) => (i === 1 ? forged : line));
    expect(check(changed).problems.join()).toMatch(/after number 2 does not follow/);
    expect(check(lines.toSpliced(1, 1)).problems.join()).toMatch(/does not follow/);
    expect(check(lines.slice(0, -1)).problems.join()).toMatch(
      /ends at number 3, and not where the domain signed/,
    );
    expect(check(lines.toSpliced(2, 0, forged)).problems.join()).toMatch(/does not follow/);
  });

  test('is not filled by a node that is refused again and again', async () => {
    const here = await world();
    await here.remove('home');
    for (let i = 0; i < 6; i++) {
      const many = Array.from({ length: 100 }, (_, j) =>
        pod(`p${i}-${j}`, `10.60.0.${j + 20}`, `app-${i}-${j}`),
      );
      expect(Object.keys(await put(here.node, ...many))).toHaveLength(100);
    }
    const { entries } = (await exported(here)).check();
    expect(entries.filter(({ kind }) => kind === 'refused')).toHaveLength(256);
  });
});
