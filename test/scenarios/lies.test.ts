// T5 for swapped keys: a registry that lies about a node's WireGuard key or endpoint gets no packet accepted, and whoever
// notices says so. Mallory owns the registry's store and machine, and every key but the CA's and the nodes'.

import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { Capture } from '../lab/capture.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Site } from '../lab/internet.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { type KeyPair, wireguardKeys } from '../lab/wireguard-go.ts';
import { alter, ForgedStore } from './forged-store.ts';
import { callAs, keysOf } from './mallory.ts';

const REFUSED = /the record of n1 was refused: the signature does not verify/;

let domain: Domain;
/** Whose record is forged. */
let n1: Node;
let n2: Node;
let p1: Pod;
let p2: Pod;
let mallory: Site;
const malloryKeys = wireguardKeys();

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  [n1, n2] = await Promise.all([domain.startNode('n1'), domain.startNode('n2')]);
  p1 = await n1.pod('p1', 'red');
  p2 = await n2.pod('p2', 'red');
  mallory = await domain.cloud.node('mallory', 66);
  await domain.meet('red');
  await bothWaysWork();
}, 120_000);

afterAll(() => domain?.close());

const bothWaysWork = async (): Promise<void> => {
  expect(await p1.reaches(p2.v4('red'))).toBe(true);
  expect(await p2.reaches(p1.v6('red'))).toBe(true);
};

type Stored = ReturnType<ForgedStore['read']>;

/** The registry is stopped, the record of n1 is changed in its store, and it is started again. */
const lie = async (forge: (honest: Stored, of: (node: string) => Stored) => Stored): Promise<void> => {
  await domain.stopRegistry();
  {
    using store = new ForgedStore(join(domain.registryState, 'store.db'));
    const told = store.read('red', 'n1');
    honest ??= told;
    store.write(
      'red',
      'n1',
      forge(honest, (node) => store.read('red', node)),
    );
  }
  await domain.startRegistry();
};
let honest: Stored | undefined;

const reports = async (node: Node, sentence: RegExp): Promise<void> => {
  await vi.waitFor(async () => expect((await node.status()).problems.join('\n')).toMatch(sentence), SOON);
};

/** Mallory calls a node as n1, by a stock WireGuard, from p1's address. How many of the pings get in to the pod? */
const impersonate = (node: Node, pod: Pod, keys: KeyPair) =>
  callAs({ lab: domain.lab, from: mallory, node, pod, keys, address: p1.v4('red') });
const NOTHING = { received: 0, arrived: 0, hasSession: false };

beforeEach(async () => {
  if (honest === undefined) return;
  await lie((truth) => truth);
  await vi.waitFor(async () => expect((await n2.status()).problems).toEqual([]), SOON);
});

test('a swapped key is refused and reported by who knew the node before, and traffic goes on', async () => {
  const before = await n2.peer('red', n1);
  await lie((truth) => alter(truth, { publicKey: malloryKeys.publicKey }));
  await reports(n2, REFUSED);
  const { code, stdout } = await n2.tryVl3('status');
  expect(stdout).toMatch(REFUSED);
  expect(code).toBe(4);
  expect((await n2.peer('red', n1))?.publicKey).toBe(before?.publicKey);
  expect(await impersonate(n2, p2, malloryKeys)).toEqual(NOTHING);
  await bothWaysWork();
});

test('a swapped key is refused by a restarted agent too, which still has the record it verified', async () => {
  await lie((truth) => alter(truth, { publicKey: malloryKeys.publicKey }));
  await n2.agent.stop('SIGKILL');
  await n2.start();
  await reports(n2, REFUSED);
  expect(await impersonate(n2, p2, malloryKeys)).toEqual(NOTHING);
  await bothWaysWork();
});

test('a node that never knew better is not fooled either: it has no such peer, and says why', async () => {
  await lie((truth) => alter(truth, { publicKey: malloryKeys.publicKey }));
  const n3 = await domain.startNode('n3');
  const p3 = await n3.pod('p3', 'red');
  await reports(n3, REFUSED);
  await n3.meets('red', [n2]);
  expect(await n3.peer('red', n1)).toBeUndefined();
  expect(await impersonate(n3, p3, malloryKeys)).toEqual(NOTHING);
  // Once the registry tells the truth again, all is well without anybody's doing.
  await lie((truth) => truth);
  await n3.meets('red', [n1]);
  expect(await p3.reaches(p1.v4('red'))).toBe(true);
  // The lie was told by stopping the registry, which the agent may not have asked again yet.
  await vi.waitFor(async () => expect((await n3.status()).problems).toEqual([]), SOON);
});

test('a swapped endpoint draws not one packet', async () => {
  const address = mallory.address;
  const capture = await Capture.start(mallory.host, 'eth0', ['udp']);
  await lie((truth) => alter(truth, { endpoints: [{ address, port: 51_820, scope: 'public' }] }));
  await reports(n2, REFUSED);
  // Without its session it has to ask itself anew where n1 is.
  await n2.agent.stop('SIGKILL');
  await n2.start();
  await reports(n2, REFUSED);
  await bothWaysWork();
  expect(await capture.stop()).toEqual([]);
  expect((await n2.peer('red', n1))?.endpoint).toContain(n1.site.address);
});

test("another node's record in the place of n1's is refused, good as its signature is", async () => {
  await lie((_, of) => of('n3'));
  await reports(n2, /the record of n1 was refused: the registry gave a record of "n3" for "n1"/);
  await bothWaysWork();
});

test('an old record, replayed, does not displace a newer one', async () => {
  const old = honest;
  if (old === undefined) throw new Error('no lie was told before');
  // The node is made anew: another key, another record. The old key may be in anybody's hands.
  const leaked = await keysOf(n1);
  await n1.clean();
  await n1.enrol();
  await n1.attach(p1, 'red');
  const key = async () => (await n2.peer('red', n1))?.publicKey;
  await vi.waitFor(async () => expect(await key()).not.toBe(leaked.publicKey), SOON);
  const renewed = await key();
  await bothWaysWork();
  honest = undefined;
  await lie(() => old);
  // What comes later in the registry's story has come: so has the old record.
  await domain.admin('node', 'delete', 'n3');
  await vi.waitFor(async () => expect((await n2.status()).networks[0]?.peers).toHaveLength(1), SOON);
  expect(await key()).toBe(renewed);
  expect(await impersonate(n2, p2, leaked)).toEqual(NOTHING);
  await bothWaysWork();
});

test('the same attack with the true key succeeds: it was the signature that stopped it', async () => {
  const stolen = await keysOf(n1);
  const attack = await impersonate(n2, p2, stolen);
  expect(attack.hasSession).toBe(true);
  expect(attack.arrived).toBeGreaterThan(0);
  expect(attack.received).toBeGreaterThan(0);
});
