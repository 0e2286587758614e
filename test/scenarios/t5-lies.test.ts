// T5 with the signer apart: each lie of a registry that holds no key of the CA, played against real agents. Mallory owns the
// registry's machine, its store and its credential, and a node of the domain, n3, with its SVID and keys. Nobody's packet is
// accepted.

import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { encodeGrant, readGrant } from '../../native-free/admission/grant.ts';
import type { NodeRecord } from '../../native-free/registry/record.ts';
import { fromBase64, toBase64 } from '../../src/base64.ts';
import { loadNodeIdentity } from '../../src/identity/identity-file.ts';
import { signRecord } from '../../src/identity/record-signer.ts';
import { Capture } from '../lab/capture.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Site } from '../lab/internet.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { type KeyPair, wireguardKeys } from '../lab/wireguard-go.ts';
import { alter, ForgedStore } from './forged-store.ts';
import { callAs, keysOf } from './mallory.ts';

let domain: Domain;
let n1: Node;
let n2: Node;
/** Mallory's. */
let n3: Node;
let p1: Pod;
let p2: Pod;
let mallory: Site;
let leaked: KeyPair;
const malloryKeys = wireguardKeys();
const NOTHING = { received: 0, arrived: 0, hasSession: false };

const at = {
  n1: '/records/red/n1',
  n3: '/records/red/n3',
  grant3: '/grants/red/n3',
  grant1: '/grants/red/n1',
};
/** By key, as it was before the first lie. */
const honest = new Map<string, unknown>();

/** The registry is stopped, its store is changed, and it is started again. */
const lie = async (change: (store: ForgedStore) => void): Promise<void> => {
  await domain.stopRegistry();
  {
    using store = new ForgedStore(join(domain.registryState, 'store.db'));
    for (const key of Object.values(at)) if (!honest.has(key)) honest.set(key, store.readAt(key));
    for (const [key, value] of honest) store.writeAt(key, value);
    change(store);
  }
  await domain.startRegistry();
};

const call = (keys: KeyPair, address = p1.v4('red')) =>
  callAs({ lab: domain.lab, from: mallory, node: n2, pod: p2, keys, address });

const bothWaysWork = async (): Promise<void> => {
  expect(await p1.reaches(p2.v4('red'))).toBe(true);
  expect(await p2.reaches(p1.v4('red'))).toBe(true);
};

const reports = async (sentence: RegExp): Promise<void> => {
  await vi.waitFor(async () => expect((await n2.status()).problems.join('\n')).toMatch(sentence), SOON);
};

const allowed = async (other: Node): Promise<readonly string[]> =>
  (await n2.peer('red', other))?.prefixes ?? [];

beforeAll(async () => {
  domain = await Domain.startApart();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  [n1, n2, n3] = await Promise.all([domain.startNode('n1'), domain.startNode('n2'), domain.startNode('n3')]);
  p1 = await n1.pod('p1', 'red');
  p2 = await n2.pod('p2', 'red');
  await n3.pod('p3', 'red');
  mallory = await domain.cloud.node('mallory', 66);
  await domain.meet('red');
  await bothWaysWork();
  leaked = await keysOf(n3);
}, 180_000);

afterAll(() => domain?.close());

beforeEach(async () => {
  if (honest.size === 0) return;
  await lie(() => {});
});

test('a swapped key and a swapped endpoint are refused, and draw not one packet', async () => {
  const { address } = mallory;
  const capture = await Capture.start(mallory.host, 'eth0', ['udp']);
  await lie((store) => {
    const told = store.read('red', 'n1');
    const endpoints = [{ address, port: 51_820, scope: 'public' as const }];
    store.write('red', 'n1', alter(told, { publicKey: malloryKeys.publicKey, endpoints }));
  });
  await reports(/the record of n1 was refused: the signature does not verify/);
  await bothWaysWork();
  expect(await capture.stop()).toEqual([]);
  expect(await call(malloryKeys)).toEqual(NOTHING);
});

describe("a prefix that is another node's", () => {
  /** What n3 signs with its own good SVID: that n1's prefix is its, and has been for longer. */
  const stolen = async (): Promise<(store: ForgedStore) => void> => {
    const identity = await loadNodeIdentity(n3.stateDir);
    if (identity === undefined) throw new Error('n3 has no identity');
    return (store) => {
      const victim: NodeRecord = JSON.parse(Buffer.from(store.read('red', 'n1').record, 'base64').toString());
      const own = store.read('red', 'n3');
      const { network, networkUid, publicKey, endpoints, prefixes, sequence }: NodeRecord = JSON.parse(
        Buffer.from(own.record, 'base64').toString(),
      );
      const taken = victim.prefixes.map(({ prefix }) => ({ prefix, leasedAt: 1 }));
      const claimed = [...prefixes, ...taken];
      const signed = signRecord(identity, {
        ...{ network, networkUid, publicKey, endpoints },
        prefixes: claimed,
        sequence: sequence + 1,
      });
      store.write('red', 'n3', {
        ...own,
        record: toBase64(signed.record),
        signature: toBase64(signed.signature),
        certificateChain: signed.certificateChain.map(toBase64),
        sequence: sequence + 1,
      });
    };
  };

  test('is not taken by a record that claims it, however old that says it is: the signer leased it to n1', async () => {
    const before = await allowed(n1);
    const own = await allowed(n3);
    expect(before).toHaveLength(1);
    const forge = await stolen();
    await lie(forge);
    // It is taken for what it is: n3's word, good and valid; and nothing follows from it.
    await vi.waitFor(async () => expect(await p2.reaches(p1.v4('red'))).toBe(true), SOON);
    await n2.agent.stop('SIGKILL');
    await n2.start();
    await n2.meets('red', [n1, n3]);
    expect(await allowed(n1)).toEqual(before);
    expect(await allowed(n3)).toEqual(own);
    expect(await call(leaked)).toMatchObject({ received: 0, arrived: 0 });
    await bothWaysWork();
  });

  test('is not taken by a grant that says so, nor by an older one', async () => {
    const own = await allowed(n3);
    const forge = await stolen();
    await lie((store) => {
      forge(store);
      const grant = store.readAt(at.grant3);
      const victim = readGrant(fromBase64(store.readAt(at.grant1).grant));
      const read = readGrant(fromBase64(grant.grant));
      if (read === undefined || victim === undefined) throw new Error('there is no grant');
      const prefixes = [...(read.prefixes ?? []), ...(victim.prefixes ?? [])].sort();
      const bytes = encodeGrant({ ...read, prefixes, sequence: read.sequence + 1 });
      store.writeAt(at.grant3, { ...grant, grant: toBase64(bytes), sequence: read.sequence + 1 });
    });
    await n2.agent.stop('SIGKILL');
    await n2.start();
    await n2.meets('red', [n1, n3]);
    expect(await allowed(n3)).toEqual(own);
    expect(await call(leaked)).toMatchObject({ received: 0, arrived: 0 });
    await bothWaysWork();
  });

  test("is not had by another's grant in the place of its own, nor by who never knew better", async () => {
    const own = await allowed(n3);
    const forge = await stolen();
    await lie((store) => {
      forge(store);
      // Another node's, good as its signature is.
      store.writeAt(at.grant3, store.readAt(at.grant1));
    });
    const n4 = await domain.startNode('n4', { networks: ['red'] });
    // The registry first waits for n3, which is Mallory's by now.
    await n4.meets('red', [n1, n2]);
    const p4 = await n4.pod('p4', 'red');
    // Nothing, or what the signer has leased to it, which this registry asks for as soon as it looks at what it has.
    expect([[], own]).toContainEqual((await n4.peer('red', n3))?.prefixes ?? []);
    const outcome = await callAs({
      ...{ lab: domain.lab, from: mallory, node: n4, pod: p4, keys: leaked },
      address: p1.v4('red'),
    });
    expect(outcome).toMatchObject({ received: 0, arrived: 0 });
    expect(await p4.reaches(p1.v4('red'))).toBe(true);
  });
});

test('what a node of the domain has it keeps: its own key opens a session, and from its own prefix only', async () => {
  const [own = ''] = await allowed(n3);
  const outcome = await call(leaked, own.replace(/\d+\/\d+$/, '77'));
  expect(outcome.hasSession).toBe(true);
  expect(outcome.arrived).toBeGreaterThan(0);
});

test('who was revoked is not believed any more, whoever hands on what it signed', async () => {
  // The signer alone is told; what the registry has of n3 it goes on handing out.
  await domain.admin('ca', 'revoke', 'n3');
  await reports(/the record of n3 was refused/);
  expect(await n2.peer('red', n3)).toBeUndefined();
  expect(await call(leaked, '10.60.0.77')).toEqual(NOTHING);
  await bothWaysWork();
  // Nor by one who restarts, nor with a registry that keeps the revocation to itself from now on.
  await n2.agent.stop('SIGKILL');
  await n2.start();
  await n2.meets('red', [n1]);
  expect(await n2.peer('red', n3)).toBeUndefined();
});

test('who is admitted the signer decides, by rules that it was told and by what nodes signed of their workloads', async () => {
  await domain.admin('admission', 'create', 'ledger', '--network', 'red', '--label', 'app=ledger');
  await domain.command('admission', 'delete', 'home', '--network', 'red', '--admin', domain.adminFile);
  const [p5, p6] = await Promise.all([n1.pod('p5'), n2.pod('p6')]);
  await Promise.all([
    n1.attach(p5, 'red', '--label', 'app=ledger'),
    n2.attach(p6, 'red', '--label', 'app=ledger'),
  ]);
  await vi.waitFor(async () => expect(await allowed(n1)).toEqual([`${p5.v4('red')}/32`]), SOON);
  await vi.waitFor(async () => expect(await p5.reaches(p6.v4('red'))).toBe(true), SOON);
  // The registry says that all of it is admitted: to the peers it is what was signed.
  await domain.stopRegistry();
  {
    using store = new ForgedStore(join(domain.registryState, 'store.db'));
    store.writeAt('/rulesets/red', { ...store.readAt('/rulesets/red'), isOpen: true, isInForce: false });
  }
  await domain.startRegistry();
  await n2.agent.stop('SIGKILL');
  await n2.start();
  await n2.meets('red', [n1]);
  expect(await allowed(n1)).toEqual([`${p5.v4('red')}/32`]);
  await vi.waitFor(async () => expect(await p5.reaches(p6.v4('red'))).toBe(true), SOON);
});
