// What a node knows of its domain's partners, against a registry that says what the test wants: learned once a version, kept over
// a restart, never taken from a registry without memory, and gone at once when it is gone.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient, createRouterTransport } from '@connectrpc/connect';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Vouched } from '../../../src/agent/domain-statement.ts';
import { Federations } from '../../../src/agent/federations.ts';
import { AgentState } from '../../../src/agent/state.ts';
import { AgentService } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import { encodeSpiffeBundle } from '../../../src/identity/spiffe-bundle.ts';
import { openCa } from '../identity/fixture.ts';

/** How long something may take that happens at once, on a machine that is busy. */
const SOON = { timeout: 30_000 };

const OWN = 'home.example';
const PARTNER = 'partner.example';

let directory: string;
let state: AgentState;
let bundle: string;
let listed: object[];
let isRecovering: boolean;
let asked: number;
let changed: string[];
let vouched: Map<string, Vouched> | undefined;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'vl3-federations-'));
  state = new AgentState(directory);
  bundle = encodeSpiffeBundle((await openCa(PARTNER)).trustBundle);
  listed = [partner()];
  isRecovering = false;
  asked = 0;
  changed = [];
  vouched = undefined;
});
afterEach(() => {
  state[Symbol.dispose]();
  rmSync(directory, { recursive: true, force: true });
});

const partner = (over: object = {}): object => ({
  trustDomain: PARTNER,
  registries: ['198.51.100.5:7443'],
  bundle,
  bundleSequence: '1',
  networks: ['red'],
  ...over,
});

const open = (): Federations => {
  const client = createClient(
    AgentService,
    createRouterTransport(({ service }) =>
      service(AgentService, {
        listFederations: () => {
          asked += 1;
          return { federations: listed, version: `v${asked}`, recovering: isRecovering };
        },
      }),
    ),
  );
  return new Federations({
    state,
    own: () => OWN,
    client: () => client,
    clock: { monotonic: () => performance.now(), wall: Date.now },
    vouched: () => vouched,
    logger: pino({ level: 'silent' }),
    onChanged: (domain) => changed.push(domain),
  });
};

const hear = async (federations: Federations, version: string): Promise<void> => {
  const before = asked;
  federations.heard(version, false);
  await vi.waitFor(() => expect(asked).toBe(before + 1), SOON);
  await vi.waitFor(() => expect(federations.hasHeard).toBe(true), SOON);
  // Until the answer was taken.
  await new Promise((resolve) => setTimeout(resolve, 20));
};

test('are asked for once a version, and known again after a start without a registry', async () => {
  const federations = open();
  expect(federations.hasHeard).toBe(false);
  await hear(federations, 'v1');
  expect(federations.get(PARTNER)).toMatchObject({ registries: ['198.51.100.5:7443'], isRevoked: false });
  expect(federations.bundleOf(PARTNER)?.certificates).toHaveLength(1);
  federations.heard('v1', false);
  federations.heard('', false);
  federations.heard('v2', true);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect({ asked, changed }).toEqual({ asked: 1, changed: [PARTNER] });
  const again = open();
  expect(again.bundleOf(PARTNER)?.trustDomain).toBe(PARTNER);
  await hear(again, 'v1');
  expect(changed).toEqual([PARTNER]);
});

test('one that is not listed any more is believed nothing at once, also over a crash, until it is forgotten', async () => {
  const federations = open();
  await hear(federations, 'v1');
  listed = [];
  isRecovering = true;
  await hear(federations, 'vx');
  expect(federations.bundleOf(PARTNER)).toBeDefined();
  isRecovering = false;
  await hear(federations, 'vy');
  expect(federations.bundleOf(PARTNER)).toBeUndefined();
  expect(changed).toEqual([PARTNER, PARTNER]);
  const again = open();
  expect(again.get(PARTNER)?.isRevoked).toBe(true);
  expect(again.bundleOf(PARTNER)).toBeUndefined();
  again.forget(PARTNER);
  expect(open().get(PARTNER)).toBeUndefined();
});

test('one that is listed again is a partner again, also while it is being taken down', async () => {
  const federations = open();
  await hear(federations, 'v1');
  listed = [];
  await hear(federations, 'vx');
  listed = [partner()];
  await hear(federations, 'vy');
  federations.forget(PARTNER);
  expect(federations.bundleOf(PARTNER)).toBeDefined();
});

test('one whose bundle counts no more is known, and nobody of it is believed', async () => {
  const federations = open();
  await hear(federations, 'v1');
  listed = [partner({ isBundleExpired: true })];
  await hear(federations, 'vx');
  expect(federations.get(PARTNER)?.isRevoked).toBe(false);
  expect(federations.bundleOf(PARTNER)).toBeUndefined();
  expect(federations.problems).toEqual([
    expect.stringMatching(/partner\.example was not confirmed for too long/),
  ]);
});

test.each([
  ['the own domain', { trustDomain: OWN }],
  ['no domain', { trustDomain: 'Not One' }],
  ['a registry that is nowhere', { registries: ['1.2.3.400'] }],
  ['no bundle', { bundle: '{"keys":[]' }],
])('one that cannot be read (%s) changes nothing, and is said', async (_, over) => {
  const federations = open();
  await hear(federations, 'v1');
  const before = federations.get(PARTNER);
  listed = [partner(), partner(over)];
  await hear(federations, 'vx');
  expect(federations.all).toEqual([before]);
  expect(federations.problems).toEqual([expect.stringMatching(/what cannot be read/)]);
});

test('where the signer is apart, a partner is known by what that says of it, and not by what the registry does', async () => {
  const until = Date.now() + 60_000;
  const real = (await openCa(PARTNER)).trustBundle;
  vouched = new Map();
  const federations = open();
  await hear(federations, 'v1');
  expect(federations.get(PARTNER)?.registries).toEqual(['198.51.100.5:7443']);
  expect(federations.get(PARTNER)?.bundle).toBeUndefined();
  expect(federations.bundleOf(PARTNER)).toBeUndefined();
  expect(federations.problems).toEqual([expect.stringMatching(/the signer of this domain does not vouch/)]);
  vouched = new Map([[PARTNER, { bundle: real, until }]]);
  federations.vouchedChanged();
  expect(changed).toEqual([PARTNER, PARTNER]);
  expect(federations.bundleOf(PARTNER)).toBe(real);
  expect(federations.all[0]?.bundle).toBe(real);
  vouched = new Map([[PARTNER, { bundle: real, until: Date.now() - 1 }]]);
  expect(federations.bundleOf(PARTNER)).toBeUndefined();
  // One that only the signer knows is none: the registry has to be reached by somebody.
  vouched = new Map([['other.example', { bundle: real, until }]]);
  expect(federations.bundleOf('other.example')).toBeUndefined();
});
