import { expect, onTestFinished, test, vi } from 'vitest';
import { NotEnrolled } from '../../../native-free/error.ts';
import { systemClock } from '../../../src/agent/clock.ts';
import { HeardStatement } from '../../../src/agent/domain-statement.ts';
import { Reenrolment } from '../../../src/agent/enrolment.ts';
import { byJoinToken } from '../../../src/agent/enrolment-credential.ts';
import { RegistryLink } from '../../../src/agent/registry-link.ts';
import { AgentState } from '../../../src/agent/state.ts';
import { toConnectError } from '../../../src/api/errors.ts';
import type { Identity } from '../../../src/identity/identity.ts';
import { loadNodeIdentity } from '../../../src/identity/identity-file.ts';
import { recordingLogger, startDomain, type TestDomain, temporaryDirectory } from '../registry/fixture.ts';

const SOON = { timeout: 30_000, interval: 50 };
const clock = systemClock();

/** The line of a node that is deleted before it begins. */
const deletedNode = async (domain: TestDomain, tokenFor?: () => Promise<string>) => {
  const { identity } = await domain.enrol('n1');
  await (await domain.admin()).deleteNode({ name: 'n1' });
  return lineOf(identity, await tokenFor?.());
};

const lineOf = (identity: Identity, token?: string, onObserved: (address: string) => void = () => {}) => {
  const { logger, lines } = recordingLogger();
  const stateDirectory = temporaryDirectory();
  const state = new AgentState(stateDirectory);
  onTestFinished(() => state[Symbol.dispose]());
  const happened: string[] = [];
  let beats = 0;
  const note = (what: string) => () => void happened.push(what);
  const link = new RegistryLink(
    { stateDirectory, identity },
    {
      ...{ state, clock, logger },
      seen: {
        get position() {
          beats += 1;
          return { storeId: '', revision: 0n, stamp: new Uint8Array(0) };
        },
        answered: () => false,
      },
      onObserved,
      onStoreReplaced: () => {},
      onRecovering: () => {},
      onFederations: () => {},
      isFederated: () => false,
      onBack: note('back'),
      onRenewed: note('renewed'),
      statement: new HeardStatement({ state, clock, logger }),
      onTrustChanged: () => {},
      onMembershipsLost: async (reason) => void happened.push(reason),
      onEnrolledAnew: note('enrolled anew'),
      ...(token !== undefined && {
        reenrolment: new Reenrolment({ credential: byJoinToken(token), stateDirectory }, { logger, clock }),
      }),
    },
  );
  const stop = new AbortController();
  const running = link.run(stop.signal);
  onTestFinished(async () => {
    stop.abort();
    await running;
    await link[Symbol.asyncDispose]();
  });
  return { link, happened, identity, stateDirectory, lines, beats: () => beats };
};

test('a deleted node with a new token loses what it held, once, and only then goes on as the new one', async () => {
  const domain = await startDomain();
  const { link, happened, identity, stateDirectory } = await deletedNode(domain, () => domain.token());
  await vi.waitFor(() => expect(happened.at(-1)).toBe('back'), SOON);
  expect(happened).toEqual(['this node was deleted at the registry', 'renewed', 'enrolled anew', 'back']);
  expect([link.problem, link.notEnrolledProblem]).toEqual([undefined, undefined]);
  expect(link.identity.certificateChain).not.toEqual(identity.certificateChain);
  expect((await loadNodeIdentity(stateDirectory))?.certificateChain).toEqual(link.identity.certificateChain);
}, 60_000);

test('a deleted node without a token takes down what it held, and says so once, with the remedy that works', async () => {
  const { link, happened, lines, beats } = await deletedNode(await startDomain());
  await vi.waitFor(() => expect(link.notEnrolledProblem).toBeDefined(), SOON);
  // It is told so again and again.
  await vi.waitFor(() => expect(beats()).toBeGreaterThan(2), SOON);
  expect(link.notEnrolledProblem).toBe(
    'this node was deleted at the registry: stop the agent, and start it with a new join token (--token, made by `vl3 token create`)',
  );
  expect(happened).toEqual(['this node was deleted at the registry']);
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { msg: 'registry refuses this node', again: 0 },
  ]);
}, 60_000);

test('a token that a deleted node has used before is said to be refused', async () => {
  const domain = await startDomain();
  const used = await domain.token();
  await domain.enrol('n0', used);
  const { link, happened } = await deletedNode(domain, async () => used);
  await vi.waitFor(
    () =>
      expect(link.notEnrolledProblem).toMatch(
        /^this node was deleted at the registry: its join token is refused \(.* was used already: .*\): start the agent with a new/,
      ),
    SOON,
  );
  expect(happened).toEqual(['this node was deleted at the registry']);
}, 60_000);

test('a registry that does not know this node, as an empty one does not, takes nothing from it', async () => {
  const { identity } = await (await startDomain()).enrol('n1');
  const refusal = toConnectError(new NotEnrolled('unknown', 'node "n1" is unknown here'));
  const { link, happened } = lineOf(identity);
  const client = { heartbeat: async () => Promise.reject(refusal) };
  vi.spyOn(link, 'client', 'get').mockReturnValue({ ...link.client, ...client });
  await vi.waitFor(
    () => expect(link.notEnrolledProblem).toMatch(/^the registry does not know this node/),
    SOON,
  );
  expect(happened).toEqual([]);
}, 60_000);

test('what this node fails to do with an answer is not that the registry does not answer', async () => {
  const { identity } = await (await startDomain()).enrol('n1');
  const { link, lines, beats } = lineOf(identity, undefined, () => {
    throw new Error('of our own');
  });
  await vi.waitFor(() => expect(beats()).toBeGreaterThan(1), SOON);
  expect(link.problem).toBeUndefined();
  expect(link.lastContactAt).toBeGreaterThan(0);
  const warnings = lines.map((line) => JSON.parse(line)).filter(({ level }) => level >= 40);
  expect(warnings).toMatchObject([
    { msg: "what follows from the registry's answer could not be done", reason: 'of our own', again: 0 },
  ]);
}, 60_000);
