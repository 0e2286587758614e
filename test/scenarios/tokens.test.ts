// T1: a join token admits one node, once, in its time. Expired, used, revoked, guessed or made for another node: refused,
// logged and counted, and nothing of the secret is in any log.

import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { createTokenSecret, formatJoinToken, parseJoinToken } from '../../src/identity/token.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';

interface Shown {
  id: string;
  node: string;
  usedBy: string;
  joinToken: string;
}

let domain: Domain;
let a1: Node;
let used: string;

beforeAll(async () => {
  domain = await Domain.start();
  a1 = await domain.addNode('a1');
  used = await domain.token();
  await a1.start('--name', 'a1', '--token', used);
}, 120_000);

afterAll(() => domain?.close());

const refusals = async (reason: string): Promise<number> => {
  const { refusedEnrolments } = await domain.adminJson<{ refusedEnrolments: Record<string, number> }>(
    'registry',
    'status',
  );
  return refusedEnrolments[reason] ?? 0;
};

let intruders = 0;
/** A machine tries to enrol with a token; it must end, say why in a sentence, be logged and be counted. */
const refused = async (token: string, reason: string, sentence: RegExp): Promise<void> => {
  intruders += 1;
  const node = await domain.addNode(`intruder-${intruders}`);
  const before = await refusals(reason);
  const agent = node.launch('--name', node.name, '--token', token);
  await vi.waitFor(() => expect(agent.running).toBe(false), SOON);
  expect(await agent.stop()).toBe(1);
  const lines = agent.output().trim().split('\n');
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(sentence);

  expect(await refusals(reason)).toBe(before + 1);
  expect(domain.registryLog()).toContainEqual(
    expect.objectContaining({
      msg: 'enrolment refused',
      reason,
      node: node.name,
      address: node.site.address,
    }),
  );
  const nodes = await domain.adminJson<{ name: string }[]>('node', 'list');
  expect(nodes.map(({ name }) => name)).toEqual(['a1']);
  rmSync(node.stateDir, { recursive: true, force: true });
};

test('the node that the token admitted is listed, and so is the token, without its secret', async () => {
  // Alive from its first heartbeat on, which a busy machine sends a moment after the agent said it was ready.
  await vi.waitFor(
    async () => expect(await domain.adminJson('node', 'list')).toMatchObject([{ name: 'a1', alive: true }]),
    SOON,
  );
  const listed = await domain.admin('token', 'list', '-o', 'json');
  expect(JSON.parse(listed)).toMatchObject([{ usedBy: 'a1' }]);
  expect(listed).not.toContain(parseJoinToken(used).secret);
});

test('a used token admits nobody else', async () => {
  await refused(used, 'used', /the join token [0-9a-f]{16} was used already: ask the admin for a new one/);
});

test('an expired token admits nobody', async () => {
  const token = await domain.token('--ttl', '1s');
  await new Promise((resolve) => setTimeout(resolve, 1100));
  await refused(token, 'expired', /has expired: ask the admin for a new one/);
});

test('a revoked token admits nobody', async () => {
  const { id, joinToken } = await domain.adminJson<Shown>('token', 'create');
  await domain.admin('token', 'revoke', id);
  await refused(joinToken, 'revoked', /was revoked: ask the admin for a new one/);
});

test('a guessed token admits nobody', async () => {
  const guess = formatJoinToken({ ...parseJoinToken(used), secret: createTokenSecret() });
  await refused(guess, 'unknown', /the join token is not one of this registry: ask the admin/);
});

test('a token for one node admits no other', async () => {
  const token = await domain.token('--node', 'somebody');
  await refused(token, 'other-name', /admits only the node "somebody"/);
});

test('a token for any node does not take over a name', async () => {
  const node = await domain.addNode('usurper');
  const before = await refusals('name-taken');
  const agent = node.launch('--name', 'a1', '--token', await domain.token());
  await vi.waitFor(() => expect(agent.running).toBe(false), SOON);
  expect(agent.output()).toMatch(
    /a node "a1" exists: take another name, delete that one, or use a token made for it/,
  );
  expect(await refusals('name-taken')).toBe(before + 1);
});

test('a token that names another CA finds no registry to trust, and tells it nothing', async () => {
  const node = await domain.addNode('misled');
  const token = parseJoinToken(await domain.token());
  const caFingerprint = new Uint8Array(32).fill(7);
  const agent = node.launch('--name', 'misled', '--token', formatJoinToken({ ...token, caFingerprint }));
  await vi.waitFor(() => expect(agent.running).toBe(false), SOON);
  expect(await agent.stop()).toBe(1);
  expect(agent.output().trim().split('\n')).toHaveLength(1);
  expect(agent.output()).toMatch(/198\.51\.100\.5:7443/);
  expect(domain.registryLog().filter(({ node }) => node === 'misled')).toEqual([]);
});

test.each([
  ['what is no token', 'hello', /this is not a join token: paste the whole line/],
  ['a token cut short', 'cut', /the join token is (truncated|damaged).*: paste the whole line/],
])('%s is refused before anybody is asked', async (_, text, sentence) => {
  const node = await domain.addNode(`typo-${text}`);
  const agent = node.launch('--name', 'typo', '--token', text === 'cut' ? used.slice(0, -9) : text);
  await vi.waitFor(() => expect(agent.running).toBe(false), SOON);
  expect(agent.output()).toMatch(sentence);
  expect(await agent.stop()).toBe(1);
});

test('no secret of a token is in any log', () => {
  const logs = JSON.stringify(domain.registryLog()) + a1.agent.output();
  expect(logs).toContain('join token created');
  expect(logs).not.toContain(parseJoinToken(used).secret);
  expect(logs).not.toContain(used);
});
