// Stock peers as they are asked for, over attachments that are only noted.

import { expect, test } from 'vitest';
import { toBase64 } from '../../../native-free/base64.ts';
import { Vl3Error } from '../../../native-free/error.ts';
import type { WishDocument } from '../../../native-free/reconcile/documents.ts';
import { StockPeers } from '../../../src/agent/stock-peers.ts';

const KEY = toBase64(new Uint8Array(32).fill(7));

const wish: WishDocument = {
  id: 'abc',
  network: 'red',
  workload: 'phone',
  labels: {},
  netns: 'stock-peer:phone',
  netnsId: 'stock-peer:phone',
  interfaceName: 'wg0',
  fixed: ['10.60.0.9'],
  preferred: [],
  askedAt: 1,
  reason: 'no rule admits it any more',
  stockPeer: { publicKey: KEY },
};

/** Whatever is asked for has to wait. */
const world = (present: readonly WishDocument[]) => {
  const documents = [...present];
  const peers = new StockPeers({
    own: 'test.example',
    attachments: {
      documents,
      attach: async ({ netns, workload = '' }) => {
        const found = documents.find((one) => one.netns === netns);
        if (found === undefined) documents.push({ ...wish, id: 'new', netns, workload });
        const { id } = found ?? { id: 'new' };
        const { network, interfaceName, labels, reason } = wish;
        return {
          id,
          network,
          workload,
          interfaceName,
          labels,
          netns,
          addresses: [],
          ready: false,
          pending: reason,
        };
      },
      detach: async (request) => {
        const at = documents.findIndex((one) => 'id' in request && one.id === request.id);
        if (at >= 0) documents.splice(at, 1);
        return [];
      },
    },
    join: async () => ({
      mtu: 1380,
      tunnel: { publicKey: new Uint8Array(32) },
      saved: { pools: [] },
      addresses: { gateways: [] },
      stockPeers: {
        mustBeFree: (key: string) => {
          if (key !== KEY) throw new Vl3Error('already-exists', 'taken');
        },
      },
    }),
    member: () => undefined,
    endpoints: () => [],
  });
  return { peers, documents };
};

const phone = { network: 'red', name: 'phone', publicKey: KEY };

test('one that waits is not removed by being asked for again, whose addresses are in a configuration elsewhere', async () => {
  const { peers, documents } = world([wish]);
  await expect(peers.create(phone)).rejects.toThrow(/waits, and its addresses with it.*no rule admits it/);
  expect(documents).toEqual([wish]);
});

test('of one that cannot be made nothing is left', async () => {
  const { peers, documents } = world([]);
  await expect(peers.create(phone)).rejects.toThrow(/was not made.*no rule admits it/);
  expect(documents).toEqual([]);
});

test('the name of another key is refused, and changes nothing', async () => {
  const { peers, documents } = world([wish]);
  const other = toBase64(new Uint8Array(32).fill(8));
  await expect(peers.create({ ...phone, publicKey: other })).rejects.toThrow(/another key: remove it first/);
  expect(documents).toEqual([wish]);
});

test('on a network of another domain is refused before anything is made, with what to do', async () => {
  const { peers, documents } = world([]);
  await expect(peers.create({ ...phone, network: 'red@partner.example' })).rejects.toThrow(
    "red@partner.example is a network of partner.example, and this node is of test.example: a stock peer is made on a node of the network's own domain",
  );
  expect(documents).toEqual([]);
});

test('on a network that is named with the own domain is the same one', async () => {
  const { peers, documents } = world([wish]);
  const named = { ...phone, network: 'red@test.example' };
  await expect(peers.create(named)).rejects.toThrow(/waits, and its addresses with it/);
  expect((await peers.remove(named))?.name).toBe('phone');
  expect(documents).toEqual([]);
  expect(await peers.remove(named)).toBeUndefined();
});
