// The peers of a network against a tunnel that only notes what it is told.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { toBase64 } from '../../../native-free/base64.ts';
import type { PeerStatus } from '../../../native-free/device/peer.ts';
import { Vl3Error } from '../../../native-free/error.ts';
import { PEER } from '../../../native-free/reconcile/documents.ts';
import type { NodeRecord } from '../../../native-free/registry/record.ts';
import { Peers } from '../../../src/agent/peers.ts';
import { AgentState } from '../../../src/agent/state.ts';

const keyOf = (n: number): string => toBase64(new Uint8Array(32).fill(n));

const record = (node: string, n: number): NodeRecord => ({
  trustDomain: 'home.example',
  network: 'red',
  networkUid: 'uid',
  node,
  publicKey: keyOf(n),
  prefixes: [{ prefix: `10.60.${n}.0/24`, leasedAt: n }],
  endpoints: [{ address: '192.0.2.1', port: 51820, scope: 'public' }],
  sequence: 1,
  notBefore: 0,
  notAfter: 1_000_000,
});

let directory: string;
let state: AgentState;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vl3-peers-'));
  state = new AgentState(directory);
});
afterEach(() => {
  state[Symbol.dispose]();
  rmSync(directory, { recursive: true, force: true });
});

const world = (stockPeers: readonly { name: string; publicKey: string }[] = []) => {
  let records: readonly NodeRecord[] = [];
  const ids = new Set<string>();
  const called: string[] = [];
  let published: string[] = [];
  const statuses = new Map<string, PeerStatus>();
  const peers = new Peers({
    node: 'self',
    state,
    saved: { name: 'red', claims: () => [] },
    grants: { of: () => 'whole', leased: () => [], retry: () => false },
    stockPeers: { keys: stockPeers },
    tunnel: {
      publicKey: new Uint8Array(32),
      get peerIds() {
        return [...ids];
      },
      status: (id) => statuses.get(id),
      setPeer: (id) => {
        ids.add(id);
        return true;
      },
      removePeer: (id) => void ids.delete(id),
      publishAllowedIps: () => {
        published = [...ids];
      },
      roomForPeers: 10,
      initiate: (id) => {
        called.push(id);
        return undefined;
      },
    },
    book: {
      valid: () => records.map((one) => ({ ...one, isLeased: false })),
      retry: () => false,
      listing: { mayHold: () => true },
    },
    surroundings: { behindNat: false, site: undefined },
    clock: { moment: () => ({ bootId: 'one', boot: 0, wall: 0 }) },
    logger: pino({ level: 'silent' }),
  });
  const learn = (...some: NodeRecord[]): void => {
    records = some;
    peers.reconcile();
  };
  const known = () => peers.all.map(({ desired }) => desired.node).sort();
  return { peers, learn, known, ids, called, statuses, published: () => published };
};

test('on a full disk peers come and go all the same, and what was kept of them is struck out when there is room', () => {
  const { peers, learn, known, published } = world();
  learn(record('a', 1), record('b', 2));
  for (const { id } of peers.all)
    state.put(PEER, `red/${id}`, { endpoint: { address: '192.0.2.9', port: 1 } });
  expect(state.list(PEER)).toHaveLength(2);

  const full = vi.spyOn(state, 'delete').mockImplementation(() => {
    throw new Vl3Error('failed-precondition', 'the disk is full');
  });
  learn(record('b', 2), record('c', 3));
  expect(known()).toEqual(['b', 'c']);
  expect([...published()].sort()).toEqual(peers.all.map(({ id }) => id).sort());
  expect(() => peers.checkpoint()).toThrow('the disk is full');
  full.mockRestore();
  expect(state.list(PEER)).toHaveLength(2);
  peers.checkpoint();
  expect(state.list(PEER).map(({ name }) => name)).toEqual([`red/${peers.all[0]?.id}`]);
});

test('a peer that went and is back is called at once, since it may still send on what was forgotten; a new one is not', () => {
  const { peers, learn, called } = world();
  learn(record('a', 1));
  const [a] = peers.all.map(({ id }) => id);
  expect(called).toEqual([]);
  learn();
  learn(record('a', 1), record('b', 2));
  expect(called).toEqual([a]);
});

test('a peer that comes back before that keeps what is known of it', () => {
  const { peers, learn, known } = world();
  learn(record('a', 1));
  const name = `red/${peers.all[0]?.id}`;
  state.put(PEER, name, { endpoint: { address: '192.0.2.9', port: 1 } });
  const full = vi.spyOn(state, 'delete').mockImplementation(() => {
    throw new Vl3Error('failed-precondition', 'the disk is full');
  });
  learn();
  expect(known()).toEqual([]);
  learn(record('a', 1));
  full.mockRestore();
  peers.checkpoint();
  expect(state.get(PEER, name)).toBeDefined();
});

test('where a stock peer was heard is written down again when it was removed and made anew meanwhile', () => {
  const { peers, ids, statuses } = world();
  const endpoint = { address: '203.0.113.2', port: 4000 };
  const lastHandshake = { at: 1, wallclock: 1 };
  const heard = {
    endpoint,
    learnedEndpoint: endpoint,
    lastHandshake,
    keypair: undefined,
    isHandshaking: false,
  };
  ids.add('phone');
  statuses.set('phone', { id: 'phone', ...heard });
  peers.checkpoint();
  expect(state.get(PEER, 'red/phone')).toEqual({ endpoint });

  ids.delete('phone');
  state.delete(PEER, 'red/phone');
  peers.checkpoint();
  ids.add('phone');
  peers.checkpoint();
  expect(state.get(PEER, 'red/phone')).toEqual({ endpoint });
});

test("a node that announces a stock peer's key takes nobody's place, whichever came first, and is said to", () => {
  const { peers, learn, known, ids } = world([{ name: 'phone', publicKey: keyOf(7) }]);
  learn(record('a', 1), record('thief', 7));
  expect(known()).toEqual(['a']);
  expect([...ids]).toHaveLength(1);
  expect(peers.conflicts).toEqual([{ node: 'thief', claim: keyOf(7), heldBy: 'phone' }]);
  learn(record('a', 1));
  expect(known()).toEqual(['a']);
});
