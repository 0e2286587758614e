import { create, toBinary } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { WatchNetworkResponseSchema } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import { SharedMessage } from '../../../src/registry/shared-message.ts';

test('what is encoded once is, byte for byte, what each stream would have encoded', () => {
  const record = { record: new Uint8Array(700).fill(1), signature: new Uint8Array(64), certificateChain: [] };
  const messages = [
    create(WatchNetworkResponseSchema),
    create(WatchNetworkResponseSchema, {
      storeId: 'store',
      revision: 7n,
      step: { case: 'progress', value: {} },
    }),
    create(WatchNetworkResponseSchema, {
      storeId: 'store',
      revision: 2n ** 53n,
      step: {
        case: 'snapshot',
        value: {
          network: { name: 'red', excludedPrefixes: ['10.0.0.0/24'] },
          nodes: [{ node: 'a', record, alive: true }],
        },
      },
    }),
    create(WatchNetworkResponseSchema, { step: { case: 'delta', value: { networkDeleted: true } } }),
  ];
  for (const message of messages) {
    const shared = new SharedMessage(message);
    const expected = toBinary(WatchNetworkResponseSchema, message);
    expect(toBinary(WatchNetworkResponseSchema, shared.encoded)).toEqual(expected);
    expect(shared.encoded).toBe(shared.encoded);
  }
});
