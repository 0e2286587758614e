// The shared state against obvious twins: the index table, keypair slots and their reuse, endpoints, rings.

import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { KeypairSlots } from '../../../src/datapath/keypair-slots.ts';
import { createRing, Ring } from '../../../src/datapath/ring.ts';
import {
  createSharedMemory,
  NO_SLOT,
  SharedState,
  workerNumber,
} from '../../../src/datapath/shared-state.ts';
import { decodePath, encodePath } from '../../../src/datapath/sockaddr.ts';
import { keypairs } from './tunnel.ts';

const newState = (maxKeypairs = 64): SharedState => new SharedState(createSharedMemory(16, maxKeypairs));

describe('receiver indices', () => {
  test('are found exactly while their keypair is installed, also when they collide', () => {
    // Few distinct low bits: long chains.
    const index = fc.integer({ min: 0, max: 11 }).map((n) => (n % 3) + Math.floor(n / 3) * 2 ** 20);
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), index), { maxLength: 200 }), (steps) => {
        const state = newState(16);
        const slots = new KeypairSlots(state);
        const installed = new Set<number>();
        const [keypair] = keypairs(0);
        for (const [isInstall, localIndex] of steps) {
          if (isInstall) {
            slots.install(1, { ...keypair, localIndex });
            installed.add(localIndex);
          } else {
            slots.remove(localIndex);
            installed.delete(localIndex);
          }
          for (let n = 0; n < 12; n++) {
            const probe = (n % 3) + Math.floor(n / 3) * 2 ** 20;
            const slot = state.findKeypair(probe);
            expect(slot !== NO_SLOT).toBe(installed.has(probe));
            if (slot !== NO_SLOT) expect(state.localIndexOf(slot)).toBe(probe);
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  test('above 2^31 are found', () => {
    const state = newState();
    const slots = new KeypairSlots(state);
    const [keypair] = keypairs(0);
    slots.install(1, { ...keypair, localIndex: 0xffff_fffe });
    expect(state.findKeypair(0xffff_fffe)).not.toBe(NO_SLOT);
    expect(state.findKeypair(0xffff_ffff)).toBe(NO_SLOT);
  });
});

describe('a keypair slot', () => {
  test('keeps its keys while a worker is inside its loop, and is wiped and reused afterwards', () => {
    const state = newState(2);
    const slots = new KeypairSlots(state);
    const [one, two] = keypairs(0);
    const key = new Uint8Array(32);
    slots.install(1, one);
    const slot = state.findKeypair(one.localIndex);
    state.enter(workerNumber('egress', 0));
    slots.remove(one.localIndex);
    expect(state.findKeypair(one.localIndex)).toBe(NO_SLOT);
    expect(slots.reap()).toBe(false);
    state.copySendKey(slot, key, 0);
    expect(Buffer.compare(key, one.sendKey)).toBe(0);

    slots.install(1, two);
    expect(state.findKeypair(two.localIndex)).not.toBe(slot);

    state.leave(workerNumber('egress', 0));
    expect(slots.reap()).toBe(true);
    state.copySendKey(slot, key, 0);
    expect(key.every((byte) => byte === 0)).toBe(true);
    slots.install(1, { ...one, localIndex: 7 });
    expect(state.findKeypair(7)).toBe(slot);
  });

  test('that is used again has another generation', () => {
    const state = newState(1);
    const slots = new KeypairSlots(state);
    const [one, two] = keypairs(0);
    slots.install(1, one);
    const before = state.generationOf(0);
    slots.remove(one.localIndex);
    slots.install(1, two);
    expect(state.generationOf(0)).not.toBe(before);
  });

  test('is no longer the one in use once removed', () => {
    const state = newState();
    const slots = new KeypairSlots(state);
    const [one] = keypairs(0);
    slots.install(1, one);
    state.setKeypairInUse(1, slots.slotOf(one.localIndex, 1) ?? NO_SLOT);
    slots.remove(one.localIndex);
    expect(state.keypairInUse(1)).toBe(NO_SLOT);
  });

  test('past the last is not to be had, and throws nothing', () => {
    const slots = new KeypairSlots(newState(1));
    const [one, two] = keypairs(0);
    expect(slots.install(1, one)).toBe(true);
    expect(slots.install(1, two)).toBe(false);
  });
});

describe('endpoints', () => {
  test.each([
    { address: '192.0.2.1', port: 1 },
    { address: '255.255.255.255', port: 65535 },
    { address: '2001:db8::1', port: 51820 },
    { address: 'fe80::1%lo', port: 51820 },
    { address: '192.0.2.1', port: 1, local: '192.0.2.7' },
    { address: '2001:db8::1', port: 51820, local: 'fe80::7' },
  ])('$address survives the way through shared memory', (endpoint) => {
    const state = newState();
    state.paths.setEndpoint(3, encodePath(endpoint));
    const bytes = new Uint8Array(44);
    state.paths.read(3, new DataView(bytes.buffer), 0);
    expect(decodePath(bytes)).toEqual(endpoint);
    expect(state.paths.hasEndpoint(3, new DataView(bytes.buffer), 0)).toBe(true);
    state.paths.setEndpoint(3, undefined);
    expect(state.paths.hasEndpoint(3, new DataView(bytes.buffer), 0)).toBe(false);
  });

  test('without the address of ours that was refused are used until the peer is heard again', () => {
    const state = newState();
    const path = encodePath({ address: '192.0.2.1', port: 1, local: '192.0.2.7' });
    const view = new DataView(path.buffer);
    const bytes = new Uint8Array(44);
    const read = () => {
      state.paths.read(3, new DataView(bytes.buffer), 0);
      return decodePath(bytes);
    };
    state.paths.setEndpoint(3, encodePath({ address: '192.0.2.1', port: 1 }));
    expect(state.paths.isSentBy(3, view, 0)).toBe(false);
    state.paths.setHeard(3, view, 0);
    expect(read()).toEqual({ address: '192.0.2.1', port: 1, local: '192.0.2.7' });
    expect(state.paths.isSentBy(3, view, 0)).toBe(true);
    state.paths.refuseLocal(3);
    expect(read()).toEqual({ address: '192.0.2.1', port: 1 });
    state.paths.setHeard(3, view, 0);
    expect(read()).toEqual({ address: '192.0.2.1', port: 1, local: '192.0.2.7' });
  });

  test('are never seen half changed by another thread', async () => {
    const memory = createSharedMemory(4, 4);
    const state = new SharedState(memory);
    const one = encodePath({ address: '1:1:1:1:1:1:1:1', port: 0x0101 });
    const two = encodePath({ address: '2:2:2:2:2:2:2:2', port: 0x0202 });
    state.paths.setEndpoint(0, one);
    const module = new URL('../../../src/datapath/shared-state.ts', import.meta.url).href;
    const reader = new Worker(
      `import { parentPort, workerData } from 'node:worker_threads';
       const { SharedState } = await import(${JSON.stringify(module)});
       const state = new SharedState(workerData);
       const bytes = new Uint8Array(44);
       const view = new DataView(bytes.buffer);
       parentPort.postMessage('started');
       let torn = 0;
       for (let i = 0; i < 300_000; i++) {
         state.paths.read(0, view, 0);
         if (bytes[3] !== bytes[9] || bytes[3] !== bytes[23]) torn++;
       }
       parentPort.postMessage(torn);`,
      { eval: true, workerData: memory },
    );
    const { promise, resolve } = Promise.withResolvers<number>();
    let isDone = false;
    reader.on('message', (message: unknown) => {
      if (typeof message !== 'number') return;
      isDone = true;
      resolve(message);
    });
    while (!isDone) {
      for (let i = 0; i < 2000; i++) state.paths.setEndpoint(0, i % 2 === 0 ? one : two);
      await new Promise((next) => setImmediate(next));
    }
    expect(await promise).toBe(0);
  });
});

describe('a ring', () => {
  test('gives what was put in, in order, and refuses when it is full', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 100 }), (steps) => {
        const ring = new Ring(createRing(8, 4));
        const twin: number[] = [];
        let next = 1;
        for (const isPut of steps) {
          if (isPut) {
            const entry = ring.reserve();
            expect(entry < 0).toBe(twin.length === 4);
            if (entry < 0) continue;
            ring.view.setUint32(entry, next);
            ring.commit();
            twin.push(next++);
          } else {
            const entry = ring.peek();
            expect(entry < 0).toBe(twin.length === 0);
            if (entry < 0) continue;
            expect(ring.view.getUint32(entry)).toBe(twin.shift());
            ring.release();
          }
        }
      }),
    );
  });
});
