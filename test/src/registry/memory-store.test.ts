import { randomUUID } from 'node:crypto';
import { MemoryStore } from '../../../src/registry/memory-store.ts';
import { describeStore } from '../../contract/store.ts';

describeStore('the memory store', {
  create: async (options) =>
    new MemoryStore({ identity: randomUUID(), now: () => performance.now(), ...options }),
  leaseTtlMs: 90,
});
