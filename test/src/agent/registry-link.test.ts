import { expect, onTestFinished, test, vi } from 'vitest';
import { systemClock } from '../../../src/agent/clock.ts';
import { Reenrolment } from '../../../src/agent/enrolment.ts';
import { RegistryLink } from '../../../src/agent/registry-link.ts';
import { AgentState } from '../../../src/agent/state.ts';
import { loadNodeIdentity } from '../../../src/identity/identity-file.ts';
import { recordingLogger, startDomain, type TestDomain, temporaryDirectory } from '../registry/fixture.ts';

const SOON = { timeout: 30_000, interval: 50 };
const clock = systemClock();

/** The line of a node that is deleted before it begins. */
const deletedNode = async (domain: TestDomain, tokenFor?: () => Promise<string>) => {
  const { identity } = await domain.enrol('n1');
  await (await domain.admin()).deleteNode({ name: 'n1' });
  const token = await tokenFor?.();
  const { logger, lines } = recordingLogger();
  const stateDirectory = temporaryDirectory();
  const state = new AgentState(stateDirectory);
  onTestFinished(() => state[Symbol.dispose]());
  const happened: string[] = [];
  const note = (what: string) => () => void happened.push(what);
  const link = new RegistryLink(
    { stateDirectory, identity },
    {
      ...{ state, clock, logger },
      seen: { position: { storeId: '', revision: 0n, stamp: new Uint8Array(0) }, answered: () => false },
      onObserved: () => {},
      onStoreReplaced: () => {},
      onRecovering: () => {},
      onBack: note('back'),
      onRenewed: note('renewed'),
      onMembershipsLost: async (reason) => void happened.push(reason),
      onEnrolledAnew: note('enrolled anew'),
      ...(token !== undefined && {
        reenrolment: new Reenrolment({ token, stateDirectory }, { logger, clock }),
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
  return { link, happened, identity, stateDirectory, lines };
};

test('a deleted node with a new token loses what it held, and only then goes on as the new one', async () => {
  const domain = await startDomain();
  const { link, happened, identity, stateDirectory } = await deletedNode(domain, () => domain.token());
  await vi.waitFor(() => expect(happened.at(-1)).toBe('back'), SOON);
  expect(happened).toEqual(['this node was deleted at the registry', 'renewed', 'enrolled anew', 'back']);
  expect([link.problem, link.notEnrolledProblem]).toEqual([undefined, undefined]);
  expect(link.identity.certificateChain).not.toEqual(identity.certificateChain);
  expect((await loadNodeIdentity(stateDirectory))?.certificateChain).toEqual(link.identity.certificateChain);
}, 60_000);

test('a deleted node without a token says so once, with the remedy that works', async () => {
  const { link, happened, lines } = await deletedNode(await startDomain());
  await vi.waitFor(() => expect(link.notEnrolledProblem).toBeDefined(), SOON);
  expect(link.notEnrolledProblem).toBe(
    'this node was deleted at the registry: stop the agent, and start it with a new join token (--token, made by `vl3 token create`)',
  );
  expect(happened).toEqual([]);
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
  expect(happened).toEqual([]);
}, 60_000);
