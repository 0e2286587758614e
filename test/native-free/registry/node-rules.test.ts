// Join tokens, enrolment, deletion and heartbeats.

import { beforeEach, describe, expect, test } from 'vitest';
import { putAttachments, putRecord } from '../../../native-free/registry/announcement-rules.ts';
import { checkEnrollment, enroll } from '../../../native-free/registry/enrolment-rules.ts';
import {
  joinNetwork,
  leasePrefix,
  leaveNetwork,
  removeMember,
} from '../../../native-free/registry/lease-rules.ts';
import { MAX_CERTIFICATES } from '../../../native-free/registry/model.ts';
import { createNetwork } from '../../../native-free/registry/network-rules.ts';
import { checkIdentity, deleteNode, heartbeat, renew } from '../../../native-free/registry/node-rules.ts';
import { createToken, revokeToken } from '../../../native-free/registry/token-rules.ts';
import { firstFit, networkRequest, record } from './fixtures.ts';
import {
  beginAnew,
  claim,
  enrolled,
  enrolling,
  HOUR,
  join,
  keysBelow,
  NOW,
  newToken,
  red,
  refused,
  run,
  store,
  transactor,
  WEEK,
} from './rules-world.ts';

beforeEach(beginAnew);

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
