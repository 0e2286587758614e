// T2 of a node that was off for longer than the outage budget and comes back while the registry is gone: what ended is taken
// down all the same, and it enrols anew beside what runs. That so much time has passed, its clock and its boot id say.

import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { LocalClient } from '../../src/agent/local-client.ts';
import { formatJoinToken, parseJoinToken } from '../../src/identity/token.ts';
import type { Daemon } from '../lab/daemon.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';

const MONTH = 30 * 24 * 3_600_000;
const PROGRAM = resolve(import.meta.dirname, 'clocked-agent.ts');

let domain: Domain;
/** The node that is off for a month. */
let sleeper: Node;
let agent: Daemon;
let client: Pod;
let web: Pod;
let token: string;

const clockFile = (): string => join(domain.lab.scratch, 'sleeper-clock');
const setClock = (offset: number, bootId?: string): void =>
  writeFileSync(clockFile(), [offset, ...(bootId === undefined ? [] : [bootId])].join(' '));

const launch = (withToken: string): Daemon => {
  const { stateDir, runDir, netnsPrefix, name } = sleeper;
  const place = { stateDirectory: stateDir, runDirectory: runDir, netnsPrefix, name, token: withToken };
  const options = JSON.stringify({ ...place, networks: ['red'] });
  const node = [process.execPath, '--disable-warning=ExperimentalWarning'];
  agent = sleeper.host.start([...node, PROGRAM, clockFile(), options]);
  return agent;
};
const start = (withToken: string): Promise<unknown> =>
  launch(withToken).printed(/"agent is up"/, SOON.timeout);
const identity = (): string => readFileSync(join(sleeper.stateDir, 'identity.json'), 'utf8');
const attached = async () => await new LocalClient(sleeper.socket).attachments();
const links = async (): Promise<string> => await client.host.run(['ip', '-o', 'link']);
const problems = async (): Promise<string> => (await sleeper.status()).problems.join('\n');

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  const steady = await domain.startNode('steady', { networks: ['red'] });
  sleeper = await domain.addNode('sleeper');
  setClock(0);
  await start(await domain.token('--node', 'sleeper'));
  client = await sleeper.pod('client', 'red');
  web = await steady.pod('web', 'red');
  await steady.meets('red', [sleeper]);
  expect(await client.reaches(web.v4('red'))).toBe(true);

  token = await domain.token('--node', 'sleeper');
  await domain.stopRegistry();
  await agent.stop();
  // Its interfaces stayed, as after a crash.
  expect(await links()).toContain('red');
  setClock(MONTH, 'the-next-boot');
}, 120_000);

afterAll(() => domain?.close());

test('a token of another domain is refused, and nothing is changed', async () => {
  const before = identity();
  const foreign = formatJoinToken({ ...parseJoinToken(token), trustDomain: 'other.example' });
  await launch(foreign).printed(
    /the join token is of other\.example, and this node of test\.example: use a join token of test\.example/,
    SOON.timeout,
  );
  await agent.stop();
  expect(identity()).toBe(before);
});

test('without a registry it is up at once, takes down what ended, and says how it stands', async () => {
  const before = identity();
  await start(token);
  await vi.waitFor(async () => {
    expect(await attached()).toEqual([
      expect.objectContaining({ workload: 'client', addresses: [], ready: false }),
    ]);
  }, SOON);
  expect(await links()).not.toContain('red');
  await vi.waitFor(async () => {
    expect(await problems()).toMatch(
      /SVID of this node has expired: the agent runs on from what it saved, and enrols anew with its join token as soon as it can \(.*198\.51\.100\.5/,
    );
  }, SOON);
  expect(identity()).toBe(before);
}, 90_000);

test('it can be ended meanwhile, and goes on after that', async () => {
  expect(await agent.stop()).toBe(0);
  await start(token);
}, 90_000);

test('once the registry answers it enrols anew, and what was attached comes back by itself', async () => {
  setClock(0, 'the-next-boot');
  await domain.startRegistry();
  await vi.waitFor(async () => {
    expect(await problems()).toBe('');
    expect(await attached()).toEqual([expect.objectContaining({ workload: 'client', ready: true })]);
  }, SOON);
  await vi.waitFor(async () => expect(await client.reaches(web.v4('red'))).toBe(true), SOON);
  expect(agent.output()).toMatch(/"enrolled anew"/);
}, 120_000);

test('a token that was used is refused once, and the agent runs on', async () => {
  await agent.stop();
  // Or the registry would renew an SVID that has expired for the node alone.
  await domain.admin('node', 'delete', 'sleeper');
  await domain.stopRegistry();
  setClock(MONTH, 'yet-another-boot');
  await start(token);
  setClock(0, 'yet-another-boot');
  await domain.startRegistry();
  await vi.waitFor(async () => {
    expect(await problems()).toMatch(
      /(?:has expired|was deleted at the registry): its join token is refused \(the join token [0-9a-f]{16} was used already: .*\): start the agent with a new join token/,
    );
  }, SOON);
  expect(await attached()).toEqual([expect.objectContaining({ workload: 'client' })]);
  const refusals = domain.registryLog().filter(({ msg }) => msg === 'enrolment refused');
  expect(refusals).toHaveLength(1);
}, 120_000);
