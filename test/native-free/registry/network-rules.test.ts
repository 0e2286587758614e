// What an admin may do to networks.

import { beforeEach, describe, expect, test } from 'vitest';
import { keys } from '../../../native-free/registry/keys.ts';
import { leaveNetwork } from '../../../native-free/registry/lease-rules.ts';
import { createNetwork, deleteNetwork, updateNetwork } from '../../../native-free/registry/network-rules.ts';
import { networkRequest } from './fixtures.ts';
import {
  beginAnew,
  enrolled,
  join,
  keysBelow,
  NOW,
  red,
  refused,
  run,
  store,
  transactor,
} from './rules-world.ts';

beforeEach(beginAnew);

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
    [{ name: 'at' }, /names of partners' networks are below at\.vl3/],
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
