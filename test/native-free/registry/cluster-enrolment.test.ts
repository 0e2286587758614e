// Enrolment by the word of a cluster: who is let in again, and who is not.

import { beforeEach, describe, expect, test } from 'vitest';
import {
  checkClusterEnrollment,
  enrollByCluster,
  forgetClusterNodes,
} from '../../../native-free/registry/cluster-enrolment-rules.ts';
import { bindCa } from '../../../native-free/registry/domain-rules.ts';
import { enroll } from '../../../native-free/registry/enrolment-rules.ts';
import { MAX_USED_TOKENS } from '../../../native-free/registry/model.ts';
import {
  checkIdentity,
  deleteNode,
  heartbeat,
  readmitNode,
  renew,
} from '../../../native-free/registry/node-rules.ts';
import { beginRestored, settle } from '../../../native-free/registry/recovery-rules.ts';
import {
  beginAnew,
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

const asks = (over: Record<string, unknown> = {}, serial = 's1', at = NOW) => ({
  cluster: 'east',
  kubernetesNode: 'n1',
  node: 'east-n1',
  tokenHash: 'token 1',
  tokenExpiresAt: at + HOUR,
  keyHash: 'key 1',
  spiffeId: 'spiffe://test/node/east-n1',
  svid: {
    certificate: { serial, notAfter: at + WEEK },
    notBefore: at,
    chain: [Buffer.from(serial).toString('base64')],
  },
  ...over,
});
const again = { tokenHash: 'token 2', keyHash: 'key 2' };
const isAlive = async () => {
  const lease = await store.grantLease(60_000);
  await run(heartbeat('east-n1', lease, { agentVersion: '1', observedAddress: 'a' }, NOW));
};

test('a node that a cluster names is made', async () => {
  expect(await run(checkClusterEnrollment(asks(), NOW))).toBeUndefined();
  const { node } = await run(enrollByCluster(asks(), NOW));
  expect(node).toMatchObject({ name: 'east-n1', certificates: [{ serial: 's1' }], refused: [] });
});

test('whose answer got lost gets the same again, by whatever token, while half of its time is left', async () => {
  const { chain } = await run(enrollByCluster(asks(), NOW));
  await isAlive();
  for (const tokenHash of ['token 1', 'token 2']) {
    expect(await run(checkClusterEnrollment(asks({ tokenHash }), NOW + 1))).toEqual(chain);
    const second = await run(enrollByCluster(asks({ tokenHash }, 's2'), NOW + 1));
    expect(second.chain).toEqual(chain);
    expect(second.node.certificates).toHaveLength(1);
  }
  const late = NOW + WEEK / 2 + 1;
  const { node } = await run(enrollByCluster(asks({ tokenHash: 'token 3' }, 's3', late), late));
  expect(node.certificates.map(({ serial }) => serial)).toEqual(['s1', 's3']);
  expect(node.enrolledAt).toBe(NOW);
});

describe('a token that was used', () => {
  test('enrols no other key, also when the node is gone or was deleted and may come back', async () => {
    await run(enrollByCluster(asks(), NOW));
    const thief = () => enrollByCluster(asks({ keyHash: 'key 2' }, 's2'), NOW + 1);
    expect(await refused(thief)).toMatch(
      /^permission-denied: this token has enrolled node "east-n1" already/,
    );
    await run(deleteNode('east-n1', NOW));
    await run(readmitNode('east-n1', NOW));
    expect(await refused(thief)).toMatch(/already, under another key/);
  });

  test('is remembered beside later ones until it expires', async () => {
    await run(enrollByCluster(asks(), NOW));
    await run(enrollByCluster(asks(again, 's2'), NOW + 1));
    expect(await refused(() => enrollByCluster(asks({ keyHash: 'key 3' }, 's3'), NOW + 2))).toMatch(
      /already/,
    );
    const stored = await transactor.read([{ prefix: '/cluster-enrolments/' }]);
    expect(stored.clusterEnrolment('east-n1')?.value.usedTokens.map(({ hash }) => hash)).toEqual([
      'token 1',
      'token 2',
    ]);
    const late = NOW + 2 * HOUR;
    await run(enrollByCluster(asks({ tokenHash: 'token 3', keyHash: 'key 3' }, 's3', late), late));
    const then = await transactor.read([{ prefix: '/cluster-enrolments/' }]);
    expect(then.clusterEnrolment('east-n1')?.value.usedTokens.map(({ hash }) => hash)).toEqual(['token 3']);
  });

  test('is one of so many that a node may use in a while', async () => {
    const outcomes: string[] = [];
    for (let i = 0; i <= MAX_USED_TOKENS; i++) {
      const more = { tokenHash: `token ${i}`, keyHash: `key ${i}` };
      // SVIDs so short that nobody has to wait for those.
      const svid = { ...asks().svid, certificate: { serial: `s${i}`, notAfter: NOW + i } };
      outcomes.push(await refused(() => enrollByCluster(asks({ ...more, svid }), NOW + i)));
    }
    expect(outcomes.pop()).toMatch(/^resource-exhausted: node "east-n1" has enrolled 64 times/);
    expect(new Set(outcomes)).toEqual(new Set(['accepted']));
  });
});

describe('a node that exists', () => {
  test('enrols anew under another key: it keeps its prefixes, and its earlier SVIDs are refused', async () => {
    await red();
    await run(enrollByCluster(asks(), NOW));
    await join('east-n1');
    await run(renew('east-n1', { serial: 's2', notAfter: NOW + WEEK }, NOW));
    const leases = await keysBelow('/leases/');
    const { node } = await run(enrollByCluster(asks(again, 's3'), NOW + 1));
    expect(node.certificates.map(({ serial }) => serial)).toEqual(['s3']);
    expect(await keysBelow('/leases/')).toEqual(leases);
    for (const serial of ['s1', 's2'])
      expect(await refused(() => checkIdentity('east-n1', serial))).toMatch(/^unauthenticated: this SVID/);
    expect(await refused(() => checkIdentity('east-n1', 's3'))).toBe('accepted');
  });

  test('is not displaced while it is alive', async () => {
    await run(enrollByCluster(asks(), NOW));
    await isAlive();
    expect(await refused(() => enrollByCluster(asks(again, 's2'), NOW + 1))).toMatch(
      /^already-exists: node "east-n1" is alive, under another key/,
    );
    expect(await refused(() => checkClusterEnrollment(asks(again), NOW + 1))).toMatch(/is alive/);
  });

  test('by a join token, or of another cluster or another node there, is not taken over', async () => {
    const taken = /^already-exists: node "east-n1" did not enrol as/;
    await run(enroll(enrolling(await newToken(), 'east-n1'), NOW));
    expect(await refused(() => enrollByCluster(asks(), NOW))).toMatch(taken);
    await run(deleteNode('east-n1', NOW));
    await run(readmitNode('east-n1', NOW));
    await run(enrollByCluster(asks(), NOW + 1));
    for (const other of [{ cluster: 'west' }, { kubernetesNode: 'n1.example' }])
      expect(await refused(() => enrollByCluster(asks({ ...again, ...other }, 's2'), NOW + 2))).toMatch(
        taken,
      );
    // An admin who makes a token for it says that it is that machine now, and no cluster's.
    await run(enroll(enrolling(await newToken('east-n1'), 'east-n1', 's9', 'key 9'), NOW + 3));
    expect(await refused(() => enrollByCluster(asks(again, 's2'), NOW + 4))).toMatch(taken);
  });

  test('and loses its state again and again has to wait longer and longer', async () => {
    let refusals = 0;
    for (let i = 0; i < 100; i++) {
      const at = NOW + i * 600_000;
      const more = { tokenHash: `token ${i}`, keyHash: `key ${i}` };
      const answer = await refused(() => enrollByCluster(asks(more, `s${i}`, at), at));
      if (answer === 'accepted') continue;
      expect(answer).toMatch(/^resource-exhausted: the node has \d+ SVIDs that have not expired/);
      refusals++;
    }
    expect(refusals).toBeGreaterThan(60);
    const { value } = (await transactor.read([{ key: '/nodes/east-n1' }])).node('east-n1') ?? {};
    expect(value?.refused.length).toBeGreaterThan(30);
  });
});

describe('a node that an admin deleted', () => {
  test('does not come back by itself, under whatever key or UID, until an admin lets it', async () => {
    await run(enrollByCluster(asks(), NOW));
    await run(deleteNode('east-n1', NOW));
    const comes = () => enrollByCluster(asks({ ...again, kubernetesUid: 'another' }, 's2'), NOW + 1);
    expect(await refused(comes)).toMatch(/^permission-denied: node "east-n1" was deleted.*vl3 node readmit/);
    // Nor with the key that it had.
    expect(await refused(() => enrollByCluster(asks({ tokenHash: 'token 3' }), NOW + 1))).toMatch(
      /was deleted/,
    );
    await run(readmitNode('east-n1', NOW + 1));
    await run(readmitNode('east-n1', NOW + 2));
    await run(comes());
    expect(await refused(() => checkIdentity('east-n1', 's1'))).toMatch(/earlier enrolment/);
    // Once: deleted again it is out again.
    await run(deleteNode('east-n1', NOW + 3));
    expect(await refused(() => enrollByCluster(asks({ tokenHash: 't4', keyHash: 'k4' }), NOW + 4))).toMatch(
      /was deleted/,
    );
  });

  test('and readmitted by mistake is deleted again', async () => {
    await run(enrollByCluster(asks(), NOW));
    await run(deleteNode('east-n1', NOW));
    await run(readmitNode('east-n1', NOW + 1));
    expect(await run(deleteNode('east-n1', NOW + 2))).toEqual([]);
    expect(await refused(() => enrollByCluster(asks(again, 's2'), NOW + 3))).toMatch(/was deleted/);
    expect(await refused(() => deleteNode('east-n1', NOW + 4))).toMatch(/^not-found/);
  });

  test('is the only kind that can be readmitted', async () => {
    expect(await refused(() => readmitNode('east-n1', NOW))).toMatch(/^not-found: there was no node/);
    await run(enrollByCluster(asks(), NOW));
    expect(await refused(() => readmitNode('east-n1', NOW))).toMatch(
      /^failed-precondition: .* is not deleted/,
    );
  });
});

describe('a node that its cluster took away', () => {
  test('is forgotten when its SVIDs have expired and it is on no network; others are not', async () => {
    await red();
    const named = (node: string) => ({ node, kubernetesNode: node.slice('east-'.length) });
    for (const node of ['east-gone', 'east-busy', 'east-deleted', 'east-renewed'])
      await run(enrollByCluster(asks(named(node)), NOW));
    await run(enroll(enrolling(await newToken(), 'by-token'), NOW));
    await join('east-busy');
    await run(deleteNode('east-deleted', NOW));
    await run(renew('east-renewed', { serial: 'r', notAfter: NOW + 2 * WEEK }, NOW));
    expect(await run(forgetClusterNodes(NOW + WEEK - 1))).toEqual([]);
    expect(await run(forgetClusterNodes(NOW + WEEK))).toEqual(['east-gone']);
    expect(await run(forgetClusterNodes(NOW + WEEK))).toEqual([]);
    expect(await keysBelow('/nodes/')).toEqual([
      '/nodes/by-token',
      '/nodes/east-busy',
      '/nodes/east-deleted',
      '/nodes/east-renewed',
    ]);
    expect(await keysBelow('/cluster-enrolments/')).not.toContain('/cluster-enrolments/east-gone');
  });
});

test('a cluster names no more nodes than it may, whatever the others have, and those that it has may enrol anew', async () => {
  const of = (cluster: string, kubernetesNode: string, more = {}) =>
    asks({ cluster, kubernetesNode, node: `${cluster}-${kubernetesNode}`, ...more });
  for (const node of ['n1', 'n2', 'n3']) await run(enrollByCluster(of('west', node), NOW, 3));
  await run(enrollByCluster(of('east', 'n1'), NOW, 3));
  const tooMany = /^resource-exhausted: cluster "west" has named 3 nodes/;
  expect(await refused(() => checkClusterEnrollment(of('west', 'n4'), NOW, 3))).toMatch(tooMany);
  expect(await refused(() => enrollByCluster(of('west', 'n4'), NOW, 3))).toMatch(tooMany);
  expect(await refused(() => enrollByCluster(of('west', 'n3', again), NOW + 1, 3))).toBe('accepted');
  expect(await refused(() => enrollByCluster(of('east', 'n4'), NOW, 3))).toBe('accepted');
  expect(await run(forgetClusterNodes(NOW + WEEK))).toContain('west-n1');
  expect(await refused(() => enrollByCluster(of('west', 'n4'), NOW + WEEK, 3))).toBe('accepted');
});

describe('while the registry has lost its memory', () => {
  test('a node that it does not know of has to wait: it may be alive, under another key', async () => {
    await run(bindCa('a'.repeat(64), true));
    const lost = /^unavailable: the registry lost its memory .* issues no name/;
    expect(await refused(() => checkClusterEnrollment(asks(), NOW))).toMatch(lost);
    expect(await refused(() => enrollByCluster(asks(), NOW))).toMatch(lost);
    await run(settle(NOW));
    expect(await refused(() => enrollByCluster(asks(), NOW))).toBe('accepted');
  });

  test('one that it knows may enrol anew', async () => {
    await run(bindCa('a'.repeat(64)));
    await run(enrollByCluster(asks(), NOW));
    await run(beginRestored('s2'));
    expect(await refused(() => enrollByCluster(asks(again, 's2'), NOW + 1))).toBe('accepted');
  });
});
