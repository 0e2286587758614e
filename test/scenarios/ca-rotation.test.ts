// The CA of a running domain is put on a machine of its own and then replaced, both under traffic: the next one comes into
// the bundle, signs, and the old one goes. Nodes renew under the next by themselves, and not a packet is lost. The outage
// budget is a minute here, so that grants and records are renewed often, too. With the CA in the registry's process:
// test/src/ca/rotation.test.ts.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { fromBase64 } from '../../src/base64.ts';
import { isIssuedBy, parseCertificate } from '../../src/identity/certificate.ts';
import { loadNodeIdentity } from '../../src/identity/identity-file.ts';
import type { Daemon } from '../lab/daemon.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { ForgedStore } from './forged-store.ts';

let domain: Domain;
let n1: Node;
let n2: Node;
let p1: Pod;
let p2: Pod;
let pings: Daemon;

interface Ca {
  signer: string;
  nextStep: string;
  authorities: { state: string; fingerprint: string }[];
}

const show = async (): Promise<Ca> => await domain.adminJson<Ca>('ca', 'show');

const identityOf = async ({ stateDir }: Node) => {
  const identity = await loadNodeIdentity(stateDir);
  if (identity === undefined) throw new Error('it has no identity');
  return identity;
};

const isLeased = async (node: Node): Promise<boolean> => {
  const [leaf] = (await identityOf(node)).certificateChain;
  return leaf !== undefined && parseCertificate(leaf).isLeased;
};

beforeAll(async () => {
  domain = await Domain.start();
  await domain.stopRegistry();
  await domain.startRegistry('--outage-budget', '60s');
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  [n1, n2] = await Promise.all([domain.startNode('n1'), domain.startNode('n2')]);
  p1 = await n1.pod('p1', 'red');
  p2 = await n2.pod('p2', 'red');
  await domain.meet('red');
  // By grants, too, which the CA signs for.
  await domain.admin('admission', 'create', 'n1', '--network', 'red', '--node', 'n1');
  await domain.admin('admission', 'create', 'n2', '--network', 'red', '--node', 'n2');
  await domain.admin('admission', 'delete', 'home', '--network', 'red');
  expect(await p1.reaches(p2.v4('red'))).toBe(true);
}, 120_000);

afterAll(() => domain?.close());

test('a CA is put apart under traffic: no packet is lost, and nodes are leased by the signer from then on', async () => {
  pings = p1.host.start(['ping', '-n', '-i', '0.1', p2.v4('red')]);
  await domain.putApart('--outage-budget', '60s');
  expect((await show()).signer).toBe('apart');
  await domain.admin('ca', 'register-network', 'red', '--pool-v4', '10.60.0.0/16');
  for (const node of ['n1', 'n2'])
    await domain.admin('admission', 'create', node, '--network', 'red', '--node', node);
  await domain.command('admission', 'delete', 'home', '--network', 'red', '--admin', domain.adminFile);
  for (const node of [n1, n2]) await vi.waitFor(async () => expect(await isLeased(node)).toBe(true), SOON);
  await vi.waitFor(async () => {
    for (const [node, other] of [
      [n1, n2],
      [n2, n1],
    ] as const)
      expect((await node.peer('red', other))?.prefixes).toHaveLength(1);
    expect((await n1.status()).problems).toEqual([]);
  }, SOON);
});

test('a rotation loses no packet: nodes renew under the next CA, and the old one is retired', async () => {
  const [old] = (await show()).authorities;
  expect(old?.state).toBe('signing');

  await domain.admin('ca', 'rotate', 'prepare');
  for (const node of [n1, n2])
    await vi.waitFor(
      async () => expect((await identityOf(node)).trustBundle.certificates).toHaveLength(2),
      SOON,
    );
  // Not before everybody had the time to hear of it, unless somebody says so.
  const early = await domain.tryAdmin(['ca', 'rotate', 'sign']);
  expect(early.code).toBe(1);
  expect(early.stderr).toMatch(/do not know the next CA yet: wait until .*, or say --now/);

  await domain.admin('ca', 'rotate', 'sign', '--now');
  await domain.makeAdmin();
  const bySigning = async (node: Node): Promise<boolean> => {
    const { certificateChain, trustBundle } = await identityOf(node);
    const [leaf] = certificateChain;
    const [signing] = trustBundle.certificates;
    const isOld = signing !== undefined && old?.fingerprint === (await fingerprintOf(signing));
    return (
      leaf !== undefined &&
      signing !== undefined &&
      !isOld &&
      isIssuedBy(parseCertificate(leaf), parseCertificate(signing))
    );
  };
  for (const node of [n1, n2]) await vi.waitFor(async () => expect(await bySigning(node)).toBe(true), SOON);
  await vi.waitFor(async () => expect((await show()).nextStep).toBe('retire'), SOON);
  // What the old one vouched for is signed anew: records with the SVIDs, grants by their next round.
  const isOverAll = async (): Promise<void> => {
    for (const [node, other] of [
      [n1, n2],
      [n2, n1],
    ] as const) {
      const peer = await node.peer('red', other);
      expect(peer?.prefixes).toHaveLength(1);
    }
  };
  await isOverAll();
  await vi.waitFor(
    async () => {
      const { trustBundle } = await identityOf(n1);
      const [signing] = trustBundle.certificates;
      const { grants, records } = await storedChains();
      for (const leaf of [...grants, ...records])
        expect(signing && isIssuedBy(parseCertificate(leaf), parseCertificate(signing))).toBe(true);
      expect(grants.length).toBe(2);
    },
    { ...SOON, timeout: 60_000 },
  );

  // Who comes meanwhile is let in by the one, and knows the other.
  const n4 = await domain.startNode('n4');
  await vi.waitFor(async () => expect((await identityOf(n4)).trustBundle.certificates).toHaveLength(2), SOON);

  await domain.admin('ca', 'rotate', 'retire', '--now');
  for (const node of [n1, n2])
    await vi.waitFor(
      async () => expect((await identityOf(node)).trustBundle.certificates).toHaveLength(1),
      SOON,
    );
  const { authorities: left, nextStep } = await show();
  expect(left.map(({ state }) => state)).toEqual(['signing']);
  expect(left[0]?.fingerprint).not.toBe(old?.fingerprint);
  expect(nextStep).toBe('prepare');
  await isOverAll();
  await vi.waitFor(async () => expect((await n1.status()).problems).toEqual([]), SOON);

  await pings.stop('SIGINT');
  const seen = [...pings.output().matchAll(/icmp_seq=(\d+)/g)].map(([, sequence]) => Number(sequence));
  console.log(`rotation under traffic: ${seen.length} pings 0.1 s apart, none lost`);
  expect(seen.length).toBeGreaterThan(50);
  expect(new Set(seen).size).toBe(seen.at(-1));
});

test('the old key is nowhere any more, and a node that enrols, or restarts, knows the new CA alone', async () => {
  const key = await readFile(join(domain.caState, 'ca', 'authorities.json'), 'utf8');
  expect(key.match(/BEGIN PRIVATE KEY/g)).toHaveLength(1);
  await expect(readFile(join(domain.caState, 'ca', 'key.pem'))).rejects.toThrow();
  const n3 = await domain.startNode('n3');
  await domain.admin('admission', 'create', 'n3', '--network', 'red', '--node', 'n3');
  const p3 = await n3.pod('p3', 'red');
  await n2.agent.stop('SIGKILL');
  await n2.start();
  await domain.stopRegistry();
  await domain.startRegistry();
  await n3.meets('red', [n1, n2]);
  await vi.waitFor(async () => expect(await p3.reaches(p2.v4('red'))).toBe(true), SOON);
});

const fingerprintOf = async (der: Uint8Array): Promise<string> => {
  const digest = await crypto.subtle.digest('SHA-256', new Uint8Array(der));
  return Buffer.from(digest).toString('hex');
};

/** The leaves by which what is in the store was signed. */
const storedChains = async (): Promise<{ grants: Uint8Array[]; records: Uint8Array[] }> => {
  const copy = join(domain.lab.scratch, 'copy.db');
  await domain.admin('registry', 'backup', copy, '--force');
  using store = new ForgedStore(copy);
  const leaf = (key: string): Uint8Array => fromBase64(store.readAt(key).certificateChain[0]);
  return {
    grants: ['n1', 'n2'].map((node) => leaf(`/grants/red/${node}`)),
    records: ['n1', 'n2'].map((node) => leaf(`/records/red/${node}`)),
  };
};
