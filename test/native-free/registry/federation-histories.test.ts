// Federations under random histories: whatever admins of both sides and partners' nodes do in which order, a partner has no more
// than its federation and the rules say, and the home domain's nodes never notice.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checkLog } from '../../../native-free/admission/exported-log.ts';
import { networkProblem, prefixProblem } from '../../../native-free/federation/constraints.ts';
import { choosePrefix } from '../../../native-free/ipam/pool.ts';
import { parsePrefix, prefixesOverlap, prefixSize } from '../../../native-free/ipam/prefix.ts';
import { redecide } from '../../../native-free/registry/admission-decisions.ts';
import { createAdmissionRule, deleteAdmissionRule } from '../../../native-free/registry/admission-rules.ts';
import { putAttachments } from '../../../native-free/registry/announcement-rules.ts';
import {
  invitePartner,
  removeForeignMember,
  revokePartner,
  strayMembers,
  takeInvitation,
} from '../../../native-free/registry/federation-rules.ts';
import { foreignDomainOf, foreignKey } from '../../../native-free/registry/foreign-key.ts';
import { MAX_FOREIGN_LEASES } from '../../../native-free/registry/foreign-rules.ts';
import { all, below } from '../../../native-free/registry/keys.ts';
import { isHeld } from '../../../native-free/registry/lease-phase.ts';
import { joinNetwork, leasePrefix, leaveNetwork } from '../../../native-free/registry/lease-rules.ts';
import { createNetwork } from '../../../native-free/registry/network-rules.ts';
import { renewHolding } from '../../../native-free/registry/renewal-rules.ts';
import { readLog } from '../../../src/registry/decision-log.ts';
import { Transactor } from '../../../src/registry/transactor.ts';
import { memoryStore } from './fixtures.ts';
import * as world from './rules-world.ts';

const HOME = 'test.example';
const DOMAINS = ['a.example', 'b.example'];
const NETWORKS = ['red', 'green'];
const POOL = '10.60.0.0/20';
/** Of which the partner may be given a part: for each domain another. */
const OWN: Readonly<Record<string, string>> = { 'a.example': '10.60.8.0/22', 'b.example': '10.60.12.0/23' };

const domain = fc.constantFrom(...DOMAINS);
const network = fc.constantFrom(...NETWORKS);
const foreign = fc.tuple(fc.constantFrom('n1', 'n2', 'n3'), domain).map(([node, of]) => foreignKey(node, of));
type Step =
  | { kind: 'invite'; domain: string; networks: string[]; hasPrefix: boolean; isTaken: boolean }
  | { kind: 'revoke'; domain: string }
  | { kind: 'admit' | 'refuse'; domain: string; network: string }
  | { kind: 'join' | 'attach' | 'leave'; node: string; network: string }
  | { kind: 'lease'; node: string; network: string; times: number }
  | { kind: 'claim'; node: string; network: string; third: number }
  | { kind: 'tidy' };
const weighted = <K extends Step['kind'], T extends object>(
  weight: number,
  name: K,
  parts: fc.Arbitrary<T>,
) => ({
  weight,
  arbitrary: parts.map((some) => ({ kind: name, ...some })),
});
const at = fc.record({ node: foreign, network });
const about = fc.record({ domain, network });

const steps: fc.Arbitrary<Step> = fc.oneof(
  weighted(
    3,
    'invite',
    fc.record({
      domain,
      networks: fc.uniqueArray(network, { minLength: 1 }),
      hasPrefix: fc.boolean(),
      isTaken: fc.boolean(),
    }),
  ),
  weighted(1, 'revoke', fc.record({ domain })),
  weighted(5, 'admit', about),
  weighted(1, 'refuse', about),
  weighted(6, 'join', at),
  weighted(8, 'lease', fc.record({ node: foreign, network, times: fc.integer({ min: 1, max: 6 }) })),
  weighted(2, 'claim', fc.record({ node: foreign, network, third: fc.nat(15) })),
  weighted(8, 'attach', at),
  weighted(1, 'leave', at),
  weighted(1, 'tidy', fc.constant({})),
);

const refusable = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code !== 'internal') return undefined;
    throw error;
  }
};

const heldOf = (trustDomain: string) => ({
  bundle: {
    trustDomain,
    certificates: [],
    jwtKeyIds: [],
    ignored: 0,
    sequence: 1n,
    refreshHint: undefined,
    text: '{"keys":[]}',
  },
  confirmedAt: world.NOW,
});

const hash = (text: string): string => Buffer.from(text).toString('hex').padEnd(64, '0').slice(0, 64);

test('a partner has no more than its federation and the rules say, and the home nodes never notice', async () => {
  const seen = { joins: 0, leases: 0, attached: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(steps, { minLength: 10, maxLength: 80, size: 'max' }), async (history) => {
      const store = memoryStore();
      const transactor = new Transactor(store);
      const run = async <T>(rule: Parameters<typeof transactor.run<T>>[0]) =>
        (await transactor.run(rule)).answer;
      for (const name of NETWORKS)
        await run(
          createNetwork(
            {
              name,
              poolV4: POOL,
              poolV6: '',
              nodePrefixLengthV4: 25,
              nodePrefixLengthV6: 0,
              excluded: [],
              mtu: 0,
            },
            { now: world.NOW, uid: `uid-${name}` },
          ),
        );
      await world.within(store, transactor, () => world.enrolled('n1'));
      for (const name of NETWORKS) await run(joinNetwork(name, 'n1', world.NOW, choosePrefix));
      const ofHome = async () =>
        (await store.read([all(below.members()), all(below.leases()), all('/nodes/')])).entries
          .filter(({ key, value }) => !/@/.test(key) && !/@/.test(Buffer.from(value).toString()))
          .map(({ key, value }) => `${key} ${Buffer.from(value)}`);
      const before = await ofHome();
      let now = world.NOW;
      let secrets = 0;
      await run(
        createAdmissionRule(
          { network: 'red', name: 'a-example', trustDomain: 'a.example', isDryRun: false, createdAt: 0 },
          { admin: 'admin', now, trustDomain: HOME },
        ),
      );
      const tidy = async () => {
        for (const { network: of, node } of await run(strayMembers))
          await run(removeForeignMember(of, node, now));
        const state = await transactor.read([all(below.members())]);
        for (const { value } of state.members()) await run(redecide(value.network, value.node, HOME, now));
      };
      for (const step of history) {
        now += 1000;
        const change = { admin: 'admin', now };
        if (step.kind === 'invite') {
          const trustDomain = step.domain;
          const secretHash = hash(`secret ${secrets++}`);
          const prefixes = step.hasPrefix ? [OWN[trustDomain] ?? ''] : [];
          const constraints = { trustDomain, networks: step.networks, names: [], prefixes };
          await run(invitePartner(constraints, { secretHash }, change));
          const introduction = {
            trustDomain,
            held: heldOf(trustDomain),
            bundleHash: hash('bundle'),
            endpoint: { profile: 'https_web', url: 'https://partner.example/bundle.json' },
            registries: ['partner.example:7443'],
            handle: hash('handle'),
          } as const;
          if (step.isTaken) {
            expect((await run(takeInvitation(introduction, secretHash, now))).isNew).toBe(true);
            expect((await run(takeInvitation(introduction, secretHash, now))).isNew).toBe(false);
            const other = { ...introduction, bundleHash: hash('other') };
            expect(await refusable(() => run(takeInvitation(other, secretHash, now)))).toBeUndefined();
            await tidy();
          }
        } else if (step.kind === 'revoke') {
          await refusable(() => run(revokePartner(step.domain, change)));
          await tidy();
          const left = (await store.read([{ prefix: '/' }])).entries.filter(
            ({ key, value }) =>
              key.includes(step.domain) ||
              (key.startsWith('/leases/') &&
                Buffer.from(value).includes(`@${step.domain}`) &&
                !Buffer.from(value).includes('freedAt')),
          );
          // What was decided of it stays in the log.
          const isOfRecord = /^\/(tombstones|admission-(log|log-heads|log-of|refusals))\//;
          expect(left.map(({ key }) => key).filter((key) => !isOfRecord.test(key))).toEqual([]);
        } else if (step.kind === 'admit' || step.kind === 'refuse') {
          const name = step.domain.replace('.', '-');
          const rule = {
            network: step.network,
            name,
            trustDomain: step.domain,
            isDryRun: false,
            createdAt: 0,
          };
          await refusable(() =>
            run(
              step.kind === 'admit'
                ? createAdmissionRule(rule, { ...change, trustDomain: HOME })
                : deleteAdmissionRule(step.network, name, { ...change, trustDomain: HOME }),
            ),
          );
          await tidy();
        } else if (step.kind === 'join') {
          const joined = await refusable(() => run(joinNetwork(step.network, step.node, now, choosePrefix)));
          if (joined !== undefined) seen.joins += 1;
        } else if (step.kind === 'lease') {
          await refusable(() => run(joinNetwork(step.network, step.node, now, choosePrefix)));
          for (let i = 0; i < step.times; i++) {
            const requestId = `r${now}-${i}`;
            const { network: of, node } = step;
            const lease = await refusable(() =>
              run(leasePrefix({ network: of, node, family: 4, requestId }, now, choosePrefix)),
            );
            if (lease === undefined) continue;
            seen.leases += 1;
            const state = await transactor.read([all(below.federations)]);
            const admits = state.federations().find(({ value }) => node.endsWith(`@${value.trustDomain}`))
              ?.value.admits;
            expect(admits && networkProblem(admits, of)).toBeUndefined();
            expect(admits && prefixProblem(admits, parsePrefix(lease.prefix))).toBeUndefined();
          }
        } else if (step.kind === 'claim') {
          const state = await transactor.read([all(below.networks), all(below.leases(step.network))]);
          const definition = state.networks().find(({ value }) => value.name === step.network)?.value;
          if (definition === undefined) throw new Error('the network is gone');
          const prefix = `10.60.${step.third}.0/25`;
          const isOwn = state
            .leases(step.network)
            .some(({ value }) => value.node === step.node && value.prefix === prefix && isHeld(value));
          const leases = [{ prefix, leasedAt: now }];
          const answer = await refusable(() =>
            run(renewHolding(step.node, { network: definition, leases }, now)),
          );
          if (!isOwn) for (const { outcome } of answer?.answers ?? []) expect(outcome).toBe('lost');
        } else if (step.kind === 'attach') {
          const state = await transactor.read([all(below.leases(step.network))]);
          const held = state
            .leases(step.network)
            .filter(({ value }) => value.node === step.node && isHeld(value))
            .map(({ value }) =>
              value.prefix.replace(/\d+\/25$/, (end) => String(Number.parseInt(end, 10) + 9)),
            );
          const wanted = held.map((address, i) => world.attachment(`a${i}`, address));
          const put = await refusable(() => run(putAttachments(step.network, step.node, wanted, now, HOME)));
          seen.attached += put === undefined ? 0 : wanted.length - put.refused.length;
        } else if (step.kind === 'leave') {
          await refusable(() => run(leaveNetwork(step.network, step.node, now)));
        } else await tidy();
        await mustBeWithin(transactor);
      }
      expect(await ofHome()).toEqual(before);
      const { lines } = await readLog(store);
      expect(checkLog(lines, undefined, () => undefined, now).problems).toEqual([
        'its head is not signed by the domain',
      ]);
    }),
    { numRuns: 50 },
  );
  // It was not all refused.
  expect(seen.joins).toBeGreaterThan(5);
  expect(seen.leases).toBeGreaterThan(5);
  expect(seen.attached).toBeGreaterThan(5);
});

/** Whatever came before: bounds, no overlap, and an attachment only while a rule of its domain's admits it. */
const mustBeWithin = async (transactor: Transactor): Promise<void> => {
  const state = await transactor.read([
    ...[below.members(), below.leases(), below.attachments(), below.admissionRules(), below.federations].map(
      all,
    ),
  ]);
  const members = new Set(state.members().map(({ value }) => `${value.network} ${value.node}`));
  for (const name of NETWORKS) {
    const held = state
      .leases()
      .map(({ value }) => value)
      .filter((lease) => lease.network === name && isHeld(lease))
      .map((lease) => ({ ...lease, parsed: parsePrefix(lease.prefix) }));
    for (const [i, one] of held.entries()) {
      expect(members).toContain(`${name} ${one.node}`);
      expect(held.slice(i + 1).some(({ parsed }) => prefixesOverlap(parsed, one.parsed))).toBe(false);
    }
    for (const of of DOMAINS) {
      const theirs = held.filter(({ node }) => foreignDomainOf(node) === of);
      const outside = theirs.filter(({ parsed }) => !prefixesOverlap(parsePrefix(OWN[of] ?? ''), parsed));
      const size = outside.reduce((sum, { parsed }) => sum + prefixSize(parsed), 0n);
      expect(size <= prefixSize(parsePrefix(POOL)) / 4n).toBe(true);
      for (const node of new Set(theirs.map((lease) => lease.node)))
        expect(theirs.filter((lease) => lease.node === node).length).toBeLessThanOrEqual(MAX_FOREIGN_LEASES);
    }
  }
  for (const { value } of state.attachments()) {
    const of = foreignDomainOf(value.node);
    const rules = state.admissionRules().map((rule) => rule.value);
    expect(rules.some((rule) => rule.network === value.network && rule.trustDomain === of)).toBe(true);
    const federation = state.federations().find((one) => one.value.trustDomain === of)?.value;
    expect(federation?.admits?.networks).toContain(value.network);
  }
};
