import { beforeEach, describe, expect, test } from 'vitest';
import { putAttachments, putRecord } from '../../../native-free/registry/announcement-rules.ts';
import { below, keys } from '../../../native-free/registry/keys.ts';
import {
  joinNetwork,
  leasePrefix,
  leaveNetwork,
  releasePrefix,
  removeMember,
} from '../../../native-free/registry/lease-rules.ts';
import { MAX_CERTIFICATES, MAX_LEASES } from '../../../native-free/registry/model.ts';
import { createNetwork, deleteNetwork, updateNetwork } from '../../../native-free/registry/network-rules.ts';
import {
  checkEnrollment,
  checkIdentity,
  deleteNode,
  enroll,
  heartbeat,
  renew,
} from '../../../native-free/registry/node-rules.ts';
import { renewHolding } from '../../../native-free/registry/renewal-rules.ts';
import type { Rule } from '../../../native-free/registry/rules.ts';
import { createToken, revokeToken } from '../../../native-free/registry/token-rules.ts';
import type { MemoryStore } from '../../../src/registry/memory-store.ts';
import { Transactor } from '../../../src/registry/transactor.ts';
import { firstFit, memoryStore, networkRequest, record } from './fixtures.ts';

const NOW = 1_000_000;
const claim = (prefix: string, leasedAt = NOW) => ({ prefix, leasedAt });
const HOUR = 3_600_000;
const WEEK = 7 * 24 * HOUR;
let store: MemoryStore;
let transactor: Transactor;
const run = async <T>(rule: Rule<T>): Promise<T> => (await transactor.run(rule)).answer;
const refused = async (rule: () => Rule<unknown>) => {
  try {
    await run(rule());
  } catch (error) {
    if (error instanceof Error && 'code' in error) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'accepted';
};
const keysBelow = async (prefix: string) => (await store.read([{ prefix }])).entries.map(({ key }) => key);
const heldPrefixes = async () =>
  (await transactor.read([{ prefix: '/leases/' }]))
    .leases('red')
    .filter(({ value }) => value.freedAt === undefined)
    .map(({ value }) => value.prefix);

beforeEach(() => {
  store = memoryStore();
  transactor = new Transactor(store);
});

let tokens = 0;
const newToken = async (node = '', ttlMs = HOUR) => {
  const hash = (++tokens).toString(16).padStart(16, '0').padEnd(64, 'a');
  await run(createToken({ hash, node, ttlMs }, NOW));
  return hash;
};
const enrolling = (secretHash: string, node: string, serial = `serial-${node}`, keyHash = 'key') => ({
  secretHash,
  node,
  keyHash,
  spiffeId: `spiffe://test/node/${node}`,
  svid: {
    certificate: { serial, notAfter: NOW + WEEK },
    notBefore: NOW,
    chain: [Buffer.from(serial).toString('base64')],
  },
});
const enrolled = async (...nodes: string[]) => {
  for (const node of nodes) await run(enroll(enrolling(await newToken(), node), NOW));
};
const red = () => run(createNetwork(networkRequest(), { now: NOW, uid: 'uid-red' }));
const join = (node: string, network = 'red') => run(joinNetwork(network, node, NOW, firstFit));

describe('networks', () => {
  test('a network is created with node prefix lengths that suit its pools', async () => {
    const { network, warnings } = await red();
    expect(network).toMatchObject({ uid: 'uid-red', nodePrefixLengthV4: 24, nodePrefixLengthV6: 112 });
    expect(warnings).toEqual([]);
    const small = networkRequest({ name: 'small', poolV4: '192.168.7.0/24', poolV6: '' });
    expect((await run(createNetwork(small, { now: NOW, uid: 'u' }))).network).toEqual({
      name: 'small',
      uid: 'u',
      poolV4: '192.168.7.0/24',
      nodePrefixLengthV4: 28,
      excluded: [],
      mtu: 0,
      createdAt: NOW,
    });
  });

  test('creating it again answers the same, another definition of the name is refused', async () => {
    await red();
    const again = await run(createNetwork(networkRequest(), { now: NOW + 5, uid: 'other' }));
    expect(again.network).toMatchObject({ uid: 'uid-red', createdAt: NOW });
    expect(
      await refused(() =>
        createNetwork(networkRequest({ poolV4: '10.61.0.0/16' }), { now: NOW, uid: 'other' }),
      ),
    ).toMatch(/^already-exists/);
  });

  test.each([
    [{ name: 'Red' }, /name: use a DNS label/],
    [{ name: 'a'.repeat(64) }, /name: use at most 63/],
    [{ name: 'a/b' }, /name/],
    [{ poolV4: '', poolV6: '' }, /needs a pool/],
    [{ poolV4: '10.60.0.1/16' }, /host bits set/],
    [{ name: 'eth0' }, /name: "eth0" cannot name a network/],
    [{ poolV4: 'fd00::/48' }, /pool_v4: "fd00::\/48" is an IPv6 prefix/],
    [{ poolV4: '224.0.0.0/8' }, /cannot be routed/],
    [{ poolV4: '0.0.0.0/0' }, /use a length from \/8/],
    [{ poolV6: 'fe80::/64' }, /cannot be routed/],
    [{ nodePrefixLengthV4: 15 }, /node_prefix_length_v4: use 16 to 30/],
    [{ nodePrefixLengthV4: 31 }, /node_prefix_length_v4: use 16 to 30/],
    [{ poolV6: '', nodePrefixLengthV6: 112 }, /has no IPv6 pool/],
    [{ excluded: ['10.61.0.0/24'] }, /is in no pool/],
    [{ excluded: ['10.0.0.0/8'] }, /leaves nothing/],
    [{ excluded: ['nonsense'] }, /is not a prefix/],
    [{ mtu: 1279 }, /mtu: use 1280/],
    [{ mtu: 1e9 }, /mtu: use 1280/],
  ])('a malformed definition %j is refused with the field', async (over, reason) => {
    const message = await refused(() => createNetwork(networkRequest(over), { now: NOW, uid: 'u' }));
    expect(message).toMatch(/^invalid-argument/);
    expect(message).toMatch(reason);
    expect(await keysBelow('/')).toEqual([]);
  });

  test('a pool that overlaps another network, or is public, is warned about', async () => {
    await red();
    const { warnings } = await run(
      createNetwork(networkRequest({ name: 'green', poolV4: '10.60.128.0/17', poolV6: '2001:db8::/48' }), {
        now: NOW,
        uid: 'u',
      }),
    );
    expect(warnings).toHaveLength(2);
    expect(warnings[0]).toMatch(/overlaps a pool of network "red"/);
    expect(warnings[1]).toMatch(/not private/);
  });

  test('an update needs the revision that was read, and changes only what may change', async () => {
    await red();
    const revision = (await store.read([{ key: keys.network('red') }])).entries[0]?.modRevision ?? 0;
    const request = {
      ...networkRequest({ excluded: ['10.60.0.0/24'], mtu: 1380 }),
      uid: 'uid-red',
      revision,
    };
    expect(await run(updateNetwork(request))).toMatchObject({ excluded: ['10.60.0.0/24'], mtu: 1380 });
    expect(await refused(() => updateNetwork({ ...request, mtu: 1400 }))).toMatch(
      /^aborted: .*changed meanwhile/,
    );
    const now = { ...request, revision: revision + 1 };
    expect(await refused(() => updateNetwork({ ...now, poolV4: '10.61.0.0/16' }))).toMatch(
      /pools never change/,
    );
    expect(await refused(() => updateNetwork({ ...now, uid: 'other' }))).toMatch(/^aborted/);
    expect(await refused(() => updateNetwork({ ...now, name: 'none' }))).toMatch(/^not-found/);
  });

  test('a network in use is not deleted; once the last node left, all of it goes', async () => {
    await red();
    await enrolled('n1');
    await join('n1');
    expect(await refused(() => deleteNetwork('red'))).toMatch(/^failed-precondition: .*in use by n1/);
    await run(leaveNetwork('red', 'n1', NOW));
    await run(deleteNetwork('red'));
    const rest = (await keysBelow('/')).filter((key) => key.includes('/red'));
    expect(rest).toEqual([]);
    expect(await refused(() => deleteNetwork('red'))).toMatch(/^not-found/);
  });

  test('a network is not deleted when a node joins at the same moment', async () => {
    await red();
    await enrolled('n1');
    const rule = deleteNetwork('red');
    const before = await transactor.read(rule.reads);
    await join('n1');
    const plan = rule.decide(before);
    expect((await store.transact(plan.compares, plan.operations)).succeeded).toBe(false);
  });
});

describe('membership and leases', () => {
  beforeEach(async () => {
    await red();
    await enrolled('n1', 'n2');
  });

  test('joining leases one prefix of each family; repeated, it answers the same', async () => {
    const first = await join('n1');
    expect(first.leases.map(({ prefix }) => prefix)).toEqual(['10.60.0.0/24', 'fd00:60::/112']);
    expect(await join('n1')).toEqual(first);
    expect((await join('n2')).leases.map(({ prefix }) => prefix)).toEqual([
      '10.60.1.0/24',
      'fd00:60::1:0/112',
    ]);
  });

  test('excluded prefixes are not leased', async () => {
    await run(
      createNetwork(networkRequest({ name: 'holes', excluded: ['10.60.0.0/23'] }), { now: NOW, uid: 'u' }),
    );
    expect((await join('n1', 'holes')).leases[0]?.prefix).toBe('10.60.2.0/24');
  });

  test('a chooser that errs cannot make two nodes hold one prefix', async () => {
    await join('n1');
    const wrong = () => ({ family: 4 as const, value: 0x0a3c0080n, length: 25 });
    expect(await refused(() => joinNetwork('red', 'n2', NOW, wrong))).toMatch(/^internal: .*not free/);
  });

  test('an unknown network, an unknown node and an exhausted pool are refused with a sentence each', async () => {
    expect(await refused(() => joinNetwork('blue', 'n1', NOW, firstFit))).toMatch(
      /^not-found: .*network create/,
    );
    expect(await refused(() => joinNetwork('red', 'n9', NOW, firstFit))).toMatch(
      /^unauthenticated: .*join token/,
    );
    const tiny = networkRequest({ name: 'tiny', poolV4: '10.1.0.0/24', poolV6: '', nodePrefixLengthV4: 24 });
    await run(createNetwork(tiny, { now: NOW, uid: 'u' }));
    await join('n1', 'tiny');
    expect(await refused(() => joinNetwork('tiny', 'n2', NOW, firstFit))).toMatch(
      /^resource-exhausted: .*no free/,
    );
    expect(await keysBelow(below.members('tiny'))).toEqual(['/members/tiny/n1']);
  });

  test('another prefix comes once a request id', async () => {
    await join('n1');
    const request = { network: 'red', node: 'n1', family: 4, requestId: 'r1' };
    const lease = await run(leasePrefix(request, NOW, firstFit));
    expect(lease.prefix).toBe('10.60.1.0/24');
    expect(await run(leasePrefix(request, NOW + 9, firstFit))).toEqual(lease);
    expect((await run(leasePrefix({ ...request, requestId: 'r2' }, NOW, firstFit))).prefix).toBe(
      '10.60.2.0/24',
    );
    expect(await refused(() => leasePrefix({ ...request, family: 6 }, NOW, firstFit))).toMatch(
      /leased 10.60.1.0/,
    );
    expect(await refused(() => leasePrefix({ ...request, family: 5 }, NOW, firstFit))).toMatch(/use 4 or 6/);
    expect(await refused(() => leasePrefix({ ...request, requestId: '../x' }, NOW, firstFit))).toMatch(
      /request_id/,
    );
    expect(await refused(() => leasePrefix({ ...request, node: 'n2' }, NOW, firstFit))).toMatch(
      /must join first/,
    );
  });

  test('a node holds a bounded number of prefixes, and leaving gives them all back at once', async () => {
    await join('n1');
    for (const family of [4, 6]) {
      for (let i = 1; i < MAX_LEASES; i++) {
        await run(
          leasePrefix({ network: 'red', node: 'n1', family, requestId: `r${family}.${i}` }, NOW, firstFit),
        );
      }
      expect(
        await refused(() =>
          leasePrefix({ network: 'red', node: 'n1', family, requestId: 'more' }, NOW, firstFit),
        ),
      ).toMatch(/^resource-exhausted/);
    }
    expect(await run(leaveNetwork('red', 'n1', NOW))).toHaveLength(2 * MAX_LEASES);
    expect(await heldPrefixes()).toEqual([]);
  });

  test('a prefix is given back only by its holder and only when nothing uses it', async () => {
    await join('n1');
    await join('n2');
    await run(putRecord('red', 'n1', record({ prefixes: [claim('10.60.0.0/24')] })));
    expect(await refused(() => releasePrefix('red', 'n1', '10.60.0.0/24'))).toMatch(/still announces/);
    await run(putRecord('red', 'n1', record({ sequence: 2 })));
    await run(putAttachments('red', 'n1', [attachment('a', '10.60.0.9')], NOW));
    expect(await refused(() => releasePrefix('red', 'n1', '10.60.0.0/24'))).toMatch(
      /attachment a has an address/,
    );
    await run(putAttachments('red', 'n1', [], NOW));
    expect(await refused(() => releasePrefix('red', 'n2', '10.60.0.0/24'))).toMatch(/^permission-denied/);
    await run(releasePrefix('red', 'n1', '10.60.0.0/24'));
    await run(releasePrefix('red', 'n1', '10.60.0.0/24'));
    expect(await heldPrefixes()).not.toContain('10.60.0.0/24');
  });

  test('leaving takes record, attachments and prefixes, and leaves a tombstone with the last sequence', async () => {
    await join('n1');
    await run(putRecord('red', 'n1', record({ sequence: 7, prefixes: [claim('10.60.0.0/24')] })));
    await run(putAttachments('red', 'n1', [attachment('a', '10.60.0.9')], NOW));
    await run(leaveNetwork('red', 'n1', NOW + 1));
    const state = await transactor.read([{ prefix: '/' }]);
    const rest = (await keysBelow('/')).filter((key) => key.includes('/red/') && !key.startsWith('/leases/'));
    expect(rest).toEqual(['/tombstones/red/n1']);
    expect(await heldPrefixes()).toEqual([]);
    expect(state.tombstone('red', 'n1')?.value).toEqual({
      network: 'red',
      node: 'n1',
      removedAt: NOW + 1,
      recordSequence: 7,
    });
    expect(await run(leaveNetwork('red', 'n1', NOW + 2))).toEqual([]);
  });

  test('a leave that comes when its node has joined again does nothing to what it is then', async () => {
    const first = await run(joinNetwork('red', 'n1', NOW, firstFit));
    expect(first.joinedAt).toBe(NOW);
    expect(await run(joinNetwork('red', 'n1', NOW + 1, firstFit))).toMatchObject({ joinedAt: NOW });
    expect(await run(leaveNetwork('red', 'n1', NOW + 2, first.joinedAt))).toHaveLength(first.leases.length);
    const second = await run(joinNetwork('red', 'n1', NOW + 3, firstFit));
    expect(await run(leaveNetwork('red', 'n1', NOW + 4, first.joinedAt))).toEqual([]);
    expect(await run(joinNetwork('red', 'n1', NOW + 5, firstFit))).toMatchObject({
      joinedAt: NOW + 3,
      leases: second.leases.map(({ prefix }) => ({ prefix })),
    });
    expect(await run(leaveNetwork('red', 'n1', NOW + 6, second.joinedAt))).toHaveLength(second.leases.length);
  });

  test('after coming back, a record must be past the tombstone, which then goes', async () => {
    await join('n1');
    await run(putRecord('red', 'n1', record({ sequence: 7 })));
    await run(leaveNetwork('red', 'n1', NOW));
    await join('n1');
    expect(await refused(() => putRecord('red', 'n1', record({ sequence: 7 })))).toMatch(/must be past 7/);
    await run(putRecord('red', 'n1', record({ sequence: 8 })));
    expect(await keysBelow(below.tombstones('red'))).toEqual([]);
  });
});

const attachment = (id: string, ...addresses: string[]) => ({
  id,
  workload: 'web-1',
  addresses,
  interfaceName: 'red',
  labels: { app: 'web' },
});

describe('records and attachments', () => {
  beforeEach(async () => {
    await red();
    await enrolled('n1', 'n2');
    await join('n1');
    await join('n2');
  });

  test("a record that names another node's prefix, or one that nobody leased, is refused", async () => {
    for (const prefix of ['10.60.1.0/24', '10.60.9.0/24', '10.60.0.0/16', '0.0.0.0/0']) {
      expect(await refused(() => putRecord('red', 'n1', record({ prefixes: [claim(prefix)] })))).toMatch(
        /^permission-denied: .*not leased/,
      );
    }
    expect(await keysBelow(below.records('red'))).toEqual([]);
  });

  test('a record that claims its prefix from an earlier time than it was leased is refused', async () => {
    const older = record({ prefixes: [claim('10.60.0.0/24', NOW - 1)] });
    expect(await refused(() => putRecord('red', 'n1', older))).toMatch(/^permission-denied: .*was leased at/);
  });

  test('a sequence that does not grow is refused, the same bytes again change nothing', async () => {
    const first = record({ sequence: 5 });
    await run(putRecord('red', 'n1', first));
    const { revision } = await store.read([]);
    expect(await run(putRecord('red', 'n1', first))).toBe(revision);
    expect((await store.read([])).revision).toBe(revision);
    const other = record({ sequence: 5, record: Buffer.from('other').toString('base64') });
    expect(await refused(() => putRecord('red', 'n1', other))).toMatch(/must be past 5/);
    expect(await refused(() => putRecord('red', 'n1', record({ sequence: 4 })))).toMatch(/must be past 5/);
  });

  test('a record whose prefix is given back at the same moment is not stored', async () => {
    const rule = putRecord('red', 'n1', record({ prefixes: [claim('10.60.0.0/24')] }));
    const before = await transactor.read(rule.reads);
    await run(releasePrefix('red', 'n1', '10.60.0.0/24'));
    const plan = rule.decide(before);
    expect((await store.transact(plan.compares, plan.operations)).succeeded).toBe(false);
  });

  test('attachments become what was announced, and only what changed is written', async () => {
    await run(
      putAttachments('red', 'n1', [attachment('a', '10.60.0.9'), attachment('b', '10.60.0.10')], NOW),
    );
    const { revision } = await store.read([]);
    await run(
      putAttachments('red', 'n1', [attachment('a', '10.60.0.9'), attachment('b', '10.60.0.10')], NOW + 5),
    );
    expect((await store.read([])).revision).toBe(revision);
    await run(
      putAttachments('red', 'n1', [attachment('b', '10.60.0.10'), attachment('c', 'fd00:60::5')], NOW),
    );
    expect(await keysBelow(below.attachments())).toEqual(['/attachments/red/n1/b', '/attachments/red/n1/c']);
  });

  test('one node never touches the attachments of another', async () => {
    await run(putAttachments('red', 'n2', [attachment('a', '10.60.1.9')], NOW));
    await run(putAttachments('red', 'n1', [], NOW));
    expect(await keysBelow(below.attachments())).toEqual(['/attachments/red/n2/a']);
  });

  test('a thousand attachments are written in bounded transactions', async () => {
    const many = Array.from({ length: 1000 }, (_, i) =>
      attachment(`a${i}`, `fd00:60::${(i + 1).toString(16)}`),
    );
    let rounds = 1;
    while ((await run(putAttachments('red', 'n1', many, NOW))).remaining > 0) rounds++;
    expect(rounds).toBe(8);
    expect(await keysBelow(below.attachments('red', 'n1'))).toHaveLength(1000);
  });

  test.each([
    [attachment('a', '10.60.1.9'), /in no prefix leased/],
    [attachment('a', '010.60.0.9'), /attachments\[0\].addresses.0/],
    [attachment('a', 'FD00:60::1'), /write "FD00:60::1" as fd00:60::1/],
    [attachment('a'), /an attachment has an address/],
    [attachment('../../x', '10.60.0.9'), /attachments\[0\].id/],
    [{ ...attachment('a', '10.60.0.9'), interfaceName: 'a'.repeat(16) }, /interfaceName/],
    [{ ...attachment('a', '10.60.0.9'), interfaceName: 'lo' }, /lo and eth0/],
    [{ ...attachment('a', '10.60.0.9'), interfaceName: 'a/b' }, /interfaceName/],
    [{ ...attachment('a', '10.60.0.9'), workload: 'a'.repeat(254) }, /workload/],
    [{ ...attachment('a', '10.60.0.9'), labels: { 'not a key': 'x' } }, /labels/],
    [{ ...attachment('a', '10.60.0.9'), labels: { k: 'v'.repeat(64) } }, /labels/],
    [
      {
        ...attachment('a', '10.60.0.9'),
        labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, ''])),
      },
      /at most 64 labels/,
    ],
  ])('a malformed attachment %# is refused with the field', async (item, reason) => {
    expect(await refused(() => putAttachments('red', 'n1', [item], NOW))).toMatch(reason);
    expect(await keysBelow(below.attachments())).toEqual([]);
  });

  test('an id or an address that comes twice is refused', async () => {
    const twice = [attachment('a', '10.60.0.9'), attachment('a', '10.60.0.10')];
    expect(await refused(() => putAttachments('red', 'n1', twice, NOW))).toMatch(/"a" comes twice/);
    const same = [attachment('a', '10.60.0.9'), attachment('b', '10.60.0.9')];
    expect(await refused(() => putAttachments('red', 'n1', same, NOW))).toMatch(/10.60.0.9 comes twice/);
  });
});

describe('tokens and enrolment', () => {
  test('a token admits once; then it is refused as used', async () => {
    const hash = await newToken();
    await run(enroll(enrolling(hash, 'n1'), NOW));
    expect(await refused(() => enroll(enrolling(hash, 'n2', 's', 'other key'), NOW))).toMatch(
      /was used already/,
    );
    expect(await keysBelow('/nodes/')).toEqual(['/nodes/n1']);
  });

  test('of two that use one token at the same moment one is admitted', async () => {
    const hash = await newToken();
    const one = enroll(enrolling(hash, 'n1', 's1', 'k1'), NOW);
    const two = enroll(enrolling(hash, 'n2', 's2', 'k2'), NOW);
    const state = await transactor.read([...one.reads, ...two.reads]);
    const plans = [one.decide(state), two.decide(state)];
    const results = [];
    for (const plan of plans) results.push(await store.transact(plan.compares, plan.operations));
    expect(results.map(({ succeeded }) => succeeded)).toEqual([true, false]);
  });

  test('an expired, a revoked, a guessed and a misnamed token are refused for their own reasons', async () => {
    const expired = await newToken('', 1000);
    expect(await refused(() => enroll(enrolling(expired, 'n1'), NOW + 1000))).toMatch(/has expired/);
    const revoked = await newToken();
    await run(revokeToken(revoked.slice(0, 16), NOW));
    expect(await refused(() => enroll(enrolling(revoked, 'n1'), NOW))).toMatch(/was revoked/);
    const guessed = 'f'.repeat(64);
    expect(await refused(() => checkEnrollment(enrolling(guessed, 'n1'), NOW))).toMatch(
      /not one of this registry/,
    );
    // The public id alone is worth nothing.
    const known = await newToken();
    const halfGuessed = `${known.slice(0, 16)}${'0'.repeat(48)}`;
    expect(await refused(() => enroll(enrolling(halfGuessed, 'n1'), NOW))).toMatch(
      /not one of this registry/,
    );
    const named = await newToken('n7');
    expect(await refused(() => enroll(enrolling(named, 'n1'), NOW))).toMatch(/admits only the node "n7"/);
    expect(await keysBelow('/nodes/')).toEqual([]);
  });

  test('the same key may ask again with a used token and gets what it got, however often', async () => {
    const hash = await newToken();
    const first = await run(enroll(enrolling(hash, 'n1', 's1', 'k1'), NOW));
    expect(await run(checkEnrollment(enrolling(hash, 'n1', 's2', 'k1'), NOW + 1))).toEqual(first.chain);
    for (let i = 0; i < 2 * MAX_CERTIFICATES; i++) {
      const again = await run(enroll(enrolling(hash, 'n1', `again${i}`, 'k1'), NOW + i));
      expect(again).toEqual(first);
    }
    expect((await run(checkIdentity('n1', 's1'))).certificates.map(({ serial }) => serial)).toEqual(['s1']);
    expect(await refused(() => enroll(enrolling(hash, 'n1', 's3', 'k1'), NOW + HOUR))).toMatch(/has expired/);
  });

  test.each([
    ['half of it is over', NOW + (WEEK * 3) / 4],
    ['it was given out by a clock that was ahead', NOW - 500],
  ])('asked again, the registry gives another SVID beside the first when %s', async (_, then) => {
    const hash = await newToken('', WEEK);
    await run(enroll(enrolling(hash, 'n1', 's1', 'k1'), NOW));
    expect(await run(checkEnrollment(enrolling(hash, 'n1', 's2', 'k1'), then))).toBeUndefined();
    const { node, chain } = await run(enroll(enrolling(hash, 'n1', 's2', 'k1'), then));
    expect(chain).toEqual([Buffer.from('s2').toString('base64')]);
    expect(node.certificates.map(({ serial }) => serial)).toEqual(['s1', 's2']);
    for (const serial of ['s1', 's2']) await run(checkIdentity('n1', serial));
    // Whichever of them the node held: from the next enrolment on both are dead.
    await run(enroll(enrolling(await newToken('n1', WEEK), 'n1', 's3', 'k3'), then));
    for (const serial of ['s1', 's2'])
      expect(await refused(() => checkIdentity('n1', serial))).toMatch(/earlier enrolment/);
  });

  test('a token says nothing any more once another one has enrolled its node', async () => {
    const hash = await newToken('n1');
    await run(enroll(enrolling(hash, 'n1', 's1', 'k1'), NOW));
    await run(enroll(enrolling(await newToken('n1'), 'n1', 's2', 'k2'), NOW + 1));
    expect(await refused(() => checkEnrollment(enrolling(hash, 'n1', 's3', 'k1'), NOW + 2))).toMatch(
      /was used already/,
    );
    await run(checkIdentity('n1', 's2'));
  });

  test('a name that is taken is refused unless the token was made for it, and then earlier SVIDs are dead', async () => {
    await enrolled('n1');
    const open = await newToken();
    expect(await refused(() => enroll(enrolling(open, 'n1', 's2', 'k2'), NOW))).toMatch(/^already-exists/);
    await run(enroll(enrolling(await newToken('n1'), 'n1', 's2', 'k2'), NOW));
    expect(await refused(() => checkIdentity('n1', 'serial-n1'))).toMatch(
      /^unauthenticated: .*earlier enrolment/,
    );
    await run(checkIdentity('n1', 's2'));
  });

  const renewal = (serial: string, now: number) => renew('n1', { serial, notAfter: now + WEEK }, now);

  test('a renewed SVID is accepted beside the one it replaces', async () => {
    await enrolled('n1');
    await run(renewal('r1', NOW));
    for (const serial of ['serial-n1', 'r1']) await run(checkIdentity('n1', serial));
  });

  test('a node that renews every minute, for weeks, is slowed down, not locked out, and stays itself', async () => {
    await enrolled('n1');
    let last = NOW;
    let longest = 0;
    let most = 0;
    for (let now = NOW; now < NOW + 2 * WEEK; now += 60_000) {
      const held = (await run(checkIdentity('n1', 'serial-n1'))).certificates;
      most = Math.max(most, held.length);
      try {
        await run(renewal(`r${now}`, now));
      } catch (error) {
        expect(String(error)).toMatch(
          /has \d+ SVIDs that have not expired, and gets the next one in \d+ min/,
        );
        continue;
      }
      longest = Math.max(longest, now - last);
      last = now;
    }
    expect(longest).toBeLessThan(8 * HOUR);
    expect(most).toBeLessThan(MAX_CERTIFICATES);
    expect(most).toBeGreaterThan(MAX_CERTIFICATES / 2);
  });

  test('SVIDs from when the clock was ahead slow nobody down', async () => {
    await enrolled('n1');
    for (let i = 0; i < MAX_CERTIFICATES / 2; i++) await run(renewal(`a${i}`, NOW + 100 * WEEK));
    expect(await refused(() => renewal('a', NOW + 100 * WEEK))).toMatch(/^resource-exhausted/);
    await run(renewal('now', NOW + WEEK / 2));
  });

  test('a node whose list is full all the same gets out of it by a new token', async () => {
    await enrolled('n1');
    const half = MAX_CERTIFICATES / 2;
    for (let i = 0; i < half; i++) await run(renewal(`ahead${i}`, NOW + 500 * WEEK));
    // Each from a clock that was ahead by less than the one before.
    for (let i = half; i > 0; i--) await run(renewal(`r${i}`, NOW + i * WEEK));
    expect(await refused(() => renewal('one-more', NOW))).toMatch(/^resource-exhausted.*enrol it anew/);
    await run(enroll(enrolling(await newToken('n1'), 'n1', 'fresh', 'k2'), NOW));
    await run(renewal('one-more', NOW));
    expect(await refused(() => checkIdentity('n1', 'r5'))).toMatch(/earlier enrolment/);
  });

  test('a token lives within bounds', async () => {
    const hash = 'e'.repeat(64);
    for (const ttlMs of [0, -1, 8 * 24 * HOUR, Number.NaN]) {
      expect(await refused(() => createToken({ hash, node: '', ttlMs }, NOW))).toMatch(/ttl: use 1 second/);
    }
    expect(await refused(() => createToken({ hash, node: 'Bad Name', ttlMs: HOUR }, NOW))).toMatch(/node/);
    expect(await refused(() => revokeToken('../nodes/n1', NOW))).toMatch(/^invalid-argument/);
    expect(await refused(() => revokeToken('0123456789abcdef', NOW))).toMatch(/^not-found/);
  });
});

describe('deleting a node', () => {
  test('its identity is refused at once, its prefixes become free, tombstones say so on every network', async () => {
    await red();
    await run(createNetwork(networkRequest({ name: 'green' }), { now: NOW, uid: 'u' }));
    await enrolled('n1', 'n2');
    await join('n1');
    await join('n1', 'green');
    await run(putRecord('red', 'n1', record({ sequence: 3, prefixes: [claim('10.60.0.0/24')] })));
    const networks = await run(deleteNode('n1', NOW));
    expect([...networks].sort()).toEqual(['green', 'red']);
    expect(await refused(() => checkIdentity('n1', 'serial-n1'))).toMatch(/was deleted/);
    // As after a restore: what it is now was enrolled after the deletion that the backup knows.
    await expect(run(checkIdentity('n1', 'serial-n1'))).rejects.toMatchObject({ why: 'deleted' });
    await expect(run(checkIdentity('n1', 'later'))).rejects.toMatchObject({ why: 'unknown' });
    for (const rule of [
      () => joinNetwork('red', 'n1', NOW, firstFit),
      () => leasePrefix({ network: 'red', node: 'n1', family: 4, requestId: 'r' }, NOW, firstFit),
      () => putRecord('red', 'n1', record({ sequence: 4 })),
      () => putAttachments('red', 'n1', [], NOW),
      () => leaveNetwork('red', 'n1', NOW),
      () => renew('n1', { serial: 's', notAfter: NOW + HOUR }, NOW),
      () => heartbeat('n1', 'lease', { agentVersion: '1', observedAddress: '192.0.2.1' }, NOW),
    ]) {
      expect(await refused(rule)).toMatch(/^unauthenticated/);
    }
    for (const network of networks) await run(removeMember(network, 'n1', NOW));
    expect((await keysBelow('/tombstones/')).sort()).toEqual(['/tombstones/green/n1', '/tombstones/red/n1']);
    expect((await join('n2')).leases[0]?.prefix).toBe('10.60.0.0/24');
    expect(await refused(() => deleteNode('n1', NOW))).toMatch(/^not-found/);
  });

  test('a deletion that was cut off is finished by asking again', async () => {
    await red();
    await enrolled('n1');
    await join('n1');
    await run(deleteNode('n1', NOW));
    expect(await run(deleteNode('n1', NOW))).toEqual(['red']);
  });

  test('the name can enrol anew, its old SVIDs stay refused, and a late removal does not touch it', async () => {
    await red();
    await enrolled('n1');
    await join('n1');
    await run(deleteNode('n1', NOW));
    await run(enroll(enrolling(await newToken(), 'n1', 'fresh', 'k2'), NOW));
    await run(checkIdentity('n1', 'fresh'));
    expect(await refused(() => checkIdentity('n1', 'serial-n1'))).toMatch(/earlier enrolment/);
    expect(await run(removeMember('red', 'n1', NOW))).toEqual([]);
  });
});

describe('heartbeats', () => {
  test('most write nothing; a new lease, another address or a minute does', async () => {
    await enrolled('n1');
    const lease = await store.grantLease(60_000);
    const seen = { agentVersion: '0.1.0', observedAddress: '192.0.2.1' };
    await run(heartbeat('n1', lease, seen, NOW));
    const { revision } = await store.read([]);
    await run(heartbeat('n1', lease, seen, NOW + 5000));
    expect((await store.read([])).revision).toBe(revision);
    await run(heartbeat('n1', lease, { ...seen, observedAddress: '192.0.2.2' }, NOW + 5000));
    expect((await store.read([])).revision).toBe(revision + 1);
    await run(heartbeat('n1', lease, { ...seen, observedAddress: '192.0.2.2' }, NOW + 65_000));
    expect((await store.read([])).revision).toBe(revision + 2);
    await store.revokeLease(lease);
    expect(await keysBelow('/liveness/')).toEqual([]);
    expect(await keysBelow('/sightings/')).toEqual(['/sightings/n1']);
  });
});

test('a node on another network of the name keeps what it holds there until its term ends, and is told the remedy', async () => {
  await enrolled('n1');
  const { network } = await red();
  const leases = [{ prefix: '10.60.0.0/24', leasedAt: NOW, isExpired: false }];
  const { answers } = await run(renewHolding('n1', { network: { ...network, uid: 'uid-old' }, leases }, NOW));
  expect(answers).toMatchObject([{ prefix: '10.60.0.0/24', outcome: 'pending' }]);
  expect(answers[0]?.reason).toMatch(
    /another one here \(uid-red, not uid-old\): detach what is on it at the node/,
  );
  // And the prefix is free for those who are on the network that there is.
  expect(await heldPrefixes()).toEqual([]);
});
