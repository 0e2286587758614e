// Who is on a network, and which prefixes it leases.

import { beforeEach, describe, expect, test } from 'vitest';
import { putAttachments, putRecord } from '../../../native-free/registry/announcement-rules.ts';
import { below } from '../../../native-free/registry/keys.ts';
import {
  joinNetwork,
  leasePrefix,
  leaveNetwork,
  releasePrefix,
} from '../../../native-free/registry/lease-rules.ts';
import { MAX_LEASES } from '../../../native-free/registry/model.ts';
import { createNetwork } from '../../../native-free/registry/network-rules.ts';
import { renewHolding } from '../../../native-free/registry/renewal-rules.ts';
import { firstFit, networkRequest, record } from './fixtures.ts';
import {
  attachment,
  beginAnew,
  claim,
  enrolled,
  heldPrefixes,
  join,
  keysBelow,
  NOW,
  red,
  refused,
  run,
  transactor,
} from './rules-world.ts';

beforeEach(beginAnew);

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

  test('a node that leases and gives back in a loop is stopped before what rests fills the store', async () => {
    await join('n1');
    /** As the registry does: what rests is taken last. */
    const sparing: Parameters<typeof joinNetwork>[3] = (request) =>
      firstFit({ ...request, leased: [...request.leased, ...request.resting] });
    const cycle = async (i: number) => {
      const request = { network: 'red', node: 'n1', family: 6, requestId: `r${i}` };
      const { prefix } = await run(leasePrefix(request, NOW, sparing));
      await run(releasePrefix('red', 'n1', prefix));
    };
    let cycles = 0;
    await expect(
      (async () => {
        for (; cycles < 1000; cycles++) await cycle(cycles);
      })(),
    ).rejects.toThrow(/gave back 256 prefixes within the hour, which still rest/);
    expect(cycles).toBe(256);
    // Nobody else is held up.
    expect((await join('n2')).leases).toHaveLength(2);
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
