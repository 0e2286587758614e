// What a node announces as its WireGuard key, over real TLS.

import { expect, test } from 'vitest';
import { signRecord } from '../../../src/identity/record-signer.ts';
import { red, refusal, startDomain, type TestNode } from './fixture.ts';

const KEYS = [1, 2].map((byte) => Buffer.alloc(32, byte).toString('base64'));

test('nobody announces the key that another node announces, and its owner may change and keep it', async () => {
  const domain = await startDomain();
  const admin = await domain.admin();
  const { network } = await admin.createNetwork({ network: red });
  const [thief, victim] = [await domain.enrol('thief'), await domain.enrol('victim')];
  for (const { client } of [thief, victim]) await client.joinNetwork({ network: 'red' });
  let sequence = 0;
  const announce = (node: TestNode, publicKey: string | undefined) => {
    const record = signRecord(node.identity, {
      network: 'red',
      networkUid: network?.uid ?? '',
      publicKey: publicKey ?? '',
      endpoints: [],
      sequence: ++sequence,
      prefixes: [],
    });
    const signed = { ...record, certificateChain: [...record.certificateChain] };
    return refusal(node.client.putRecord({ network: 'red', record: signed }));
  };
  const [first, second] = KEYS;
  expect(await announce(victim, first)).toBe('accepted');
  const stolen = /^permission-denied: record: its public key is node "victim"'s/;
  expect(await announce(thief, first)).toMatch(stolen);
  expect(await announce(victim, first)).toBe('accepted');
  await domain.stop();
  await domain.start();
  expect(await announce(thief, first)).toMatch(stolen);
  expect(await announce(victim, second)).toBe('accepted');
  expect(await announce(thief, second)).toMatch(stolen);
  expect(await announce(thief, first)).toBe('accepted');
  // Whoever left has none.
  await victim.client.leaveNetwork({ network: 'red' });
  expect(await announce(thief, second)).toBe('accepted');
});
