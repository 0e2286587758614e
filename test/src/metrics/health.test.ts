// Health and readiness when something is wrong inside; that all is well they say of real programs in
// test/scenarios/metrics.test.ts.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, expect, test } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import { agentHealth, type HealthParts } from '../../../src/metrics/agent-health.ts';
import { observeRegistry } from '../../../src/metrics/registry-metrics.ts';
import { MemoryStore } from '../../../src/registry/memory-store.ts';
import { startRegistry } from '../../../src/registry/server.ts';

const scratch = mkdtempSync(join(tmpdir(), 'vl3-health-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const well: HealthParts = { now: () => 1000, tickedAt: () => 900, tell: () => true, settled: async () => {} };

test('an agent whose timers and threads run is healthy, also without a network', async () => {
  expect(await agentHealth(well)).toEqual([]);
  const never = { tell: () => false, settled: () => new Promise<void>(() => {}) };
  expect(await agentHealth({ ...well, ...never })).toEqual([]);
});

test('an agent whose timers stand still is not', async () => {
  expect(await agentHealth({ ...well, now: () => 60_000 })).toEqual([
    'the timers of the devices have not run for 59100 ms',
  ]);
});

test('an agent whose packet threads take nothing over is not', async () => {
  const stuck = { settled: () => new Promise<void>(() => {}) };
  expect(await agentHealth({ ...well, ...stuck })).toEqual(['the packet threads do not answer']);
});

test('a registry is ready while its store takes a write and its port is open, and not after', async () => {
  const running = await startRegistry(
    { stateDirectory: scratch, trustDomain: 'test.example', listen: { host: '127.0.0.1', port: 0 } },
    { logger: pino({ level: 'silent' }) },
  );
  class FullStore extends MemoryStore {
    override async grantLease(): Promise<string> {
      throw new Vl3Error('unavailable', 'the disk is full: make room');
    }
  }
  try {
    const { observed } = running;
    using observer = observeRegistry(observed);
    expect(await observer.readiness()).toEqual([]);
    const store = new FullStore({ identity: 'full', now: () => 0 });
    using full = observeRegistry({ ...observed, context: { ...observed.context, store } });
    expect(await full.readiness()).toEqual(['the store cannot be written: the disk is full: make room']);
    using closed = observeRegistry({ ...observed, port: () => 0 });
    expect(await closed.readiness()).toEqual(['the port is not open']);
  } finally {
    await running[Symbol.asyncDispose]();
  }
});
