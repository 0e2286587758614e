// What earlier versions kept is read by this one: state of an agent and of a registry, written down as text when they were
// made (test/fixtures/main.ts). With that version's sources and real nodes: test/scenarios/upgrade.long.test.ts.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Allocator, allocatorStateSchema } from '../../native-free/ipam/allocator.ts';
import { ATTACHMENT, NETWORK, NODE, PEER, RECORD, WISH } from '../../native-free/reconcile/documents.ts';
import { all } from '../../native-free/registry/keys.ts';
import { AgentState } from '../../src/agent/state.ts';
import { SqliteStore } from '../../src/registry/sqlite-store.ts';
import { Transactor } from '../../src/registry/transactor.ts';
import { loadDatabase } from '../lab/sqlite-text.ts';

const FIXTURES = join(import.meta.dirname, '../fixtures/upgrade');
const versions = readdirSync(FIXTURES, { withFileTypes: true }).flatMap((entry) =>
  entry.isDirectory() ? [entry.name] : [],
);

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vl3-upgrade-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

test('there are fixtures', () => expect(versions).toContain('f1ced3c'));

describe.each(versions)('what %s kept', (version) => {
  const load = (name: string): void => {
    const text = readFileSync(join(FIXTURES, version, `${name}.sql`), 'utf8');
    loadDatabase(join(directory, `${name}.db`), text);
  };

  test("of an agent's is all read, and nothing moves", () => {
    load('agent');
    using state = new AgentState(directory);
    expect(state.get(NODE, 'self')).toEqual({ name: 'a1', port: 51820 });
    const networks = state.list(NETWORK);
    expect(networks.map(({ name }) => name)).toEqual(['green', 'red']);
    const attachments = state.list(ATTACHMENT).map(({ value }) => value);
    expect(attachments.map(({ network, ready }) => [network, ready]).sort()).toEqual([
      ['green', true],
      ['red', true],
    ]);
    expect(state.list(RECORD).length).toBeGreaterThan(0);
    expect(state.list(PEER).length).toBeGreaterThan(0);
    expect(state.list(WISH)).toEqual([]);
    for (const { name, value } of networks) {
      const allocator = allocatorStateSchema.parse(value.allocator);
      new Allocator(allocator);
      const used = allocator.prefixes.flatMap((prefix) => Object.keys(prefix.used)).sort();
      const attached = attachments.filter(({ network }) => network === name);
      expect(used).toEqual(attached.flatMap(({ addresses }) => addresses).sort());
      expect(value.leases.length).toBeGreaterThan(0);
    }
  });

  test("of an agent's is written back and read again", () => {
    load('agent');
    const read = (state: AgentState) =>
      [NODE, NETWORK, RECORD, PEER, ATTACHMENT].map((kind) => state.list<unknown>(kind));
    let before: unknown;
    {
      using state = new AgentState(directory);
      before = read(state);
      for (const { name, value } of state.list(NETWORK)) state.put(NETWORK, name, value);
      for (const { name, value } of state.list(ATTACHMENT)) state.put(ATTACHMENT, name, value);
    }
    using state = new AgentState(directory);
    expect(read(state)).toEqual(before);
  });

  test("of a registry's is all read", async () => {
    load('store');
    await using store = new SqliteStore({ path: join(directory, 'store.db'), now: () => performance.now() });
    const { entries } = await store.read([all('/')]);
    const state = await new Transactor(store).read([all('/')]);
    const read = [
      [state.domain()],
      state.networks(),
      state.nodes(),
      state.tokens(),
      state.members(),
      state.leases(),
      ...['green', 'red'].flatMap((network) => ['a1', 'a2'].map((node) => state.record(network, node) ?? [])),
      state.attachments(),
      ...['a1', 'a2'].flatMap((node) => [state.liveness(node) ?? [], state.sighting(node) ?? []]),
      state.tombstones(),
    ].flat();
    // Nothing that is there is overlooked.
    expect(read).toHaveLength(entries.length);
    expect(state.networks().map(({ value }) => value.name)).toEqual(['green', 'red']);
    expect(
      state
        .leases('red')
        .map(({ value }) => value.node)
        .sort(),
    ).toEqual(['a1', 'a1', 'a2', 'a2']);
  });
});
