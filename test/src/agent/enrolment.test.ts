import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { pino } from 'pino';
import { expect, onTestFinished, test, vi } from 'vitest';
import { systemClock } from '../../../src/agent/clock.ts';
import { identify, Reenrolment } from '../../../src/agent/enrolment.ts';
import { byJoinToken } from '../../../src/agent/enrolment-credential.ts';
import type { Identity } from '../../../src/identity/identity.ts';
import { storeNodeIdentity } from '../../../src/identity/identity-file.ts';
import { createTokenSecret, formatJoinToken } from '../../../src/identity/token.ts';
import { DOMAIN, enrolled, openCa, temporaryDirectory } from '../identity/fixture.ts';

const logger = pino({ level: 'silent' });
const clock = systemClock();
const { signal } = new AbortController();
const deps = (expired: boolean) => ({ logger, clock, signal, hasExpired: () => expired });

/** Nobody listens there. */
const DEAD = '127.0.0.1:1';
const tokenOf = ({ trustBundle }: Identity, trustDomain = DOMAIN, registry = DEAD): string =>
  formatJoinToken({
    registries: [registry],
    trustDomain,
    caFingerprint: createHash('sha256')
      .update(trustBundle.certificates[0] ?? '')
      .digest(),
    secret: createTokenSecret(),
  });

const saved = async () => {
  const identity = await enrolled(await openCa(), 'n1');
  const stateDirectory = await temporaryDirectory();
  await storeNodeIdentity(stateDirectory, identity);
  return { identity, stateDirectory };
};

test('a saved identity is answered at once, also an expired one whose registry is gone', async () => {
  const { identity, stateDirectory } = await saved();
  const token = tokenOf(identity);
  for (const expired of [false, true]) {
    const found = await identify({ stateDirectory, token, name: 'n1' }, deps(expired));
    expect(found.certificateChain).toEqual(identity.certificateChain);
  }
  expect((await identify({ stateDirectory }, deps(true))).name).toBe('n1');
});

test('a token of another domain, or none at all, is refused where it is needed and only there', async () => {
  const { identity, stateDirectory } = await saved();
  const foreign = tokenOf(identity, 'other.example');
  await expect(identify({ stateDirectory, token: foreign }, deps(true))).rejects.toThrow(
    `the join token is of other.example, and this node of ${DOMAIN}: use a join token of ${DOMAIN}`,
  );
  await expect(identify({ stateDirectory, token: 'nonsense' }, deps(true))).rejects.toThrow(/join token/);
  for (const token of [foreign, 'nonsense'])
    expect((await identify({ stateDirectory, token }, deps(false))).name).toBe('n1');
});

test('another name than the saved one is refused', async () => {
  const { stateDirectory } = await saved();
  await expect(identify({ stateDirectory, name: 'n2' }, deps(false))).rejects.toThrow(/enrolled as n1/);
});

test('without an identity a registry that is gone is waited for until the end', async () => {
  const { identity } = await saved();
  const stop = new AbortController();
  const options = { stateDirectory: await temporaryDirectory(), token: tokenOf(identity), name: 'n1' };
  const failure = identify(options, { ...deps(false), signal: stop.signal });
  const outcome = expect(failure).rejects.toThrow();
  stop.abort();
  await outcome;
});

test('a registry that does not answer is in the log once, however often it is asked', async () => {
  const { identity } = await saved();
  let asked = 0;
  const registry = createServer((socket) => {
    asked += 1;
    socket.destroy();
  });
  registry.listen(0, '127.0.0.1');
  await once(registry, 'listening');
  onTestFinished(() => void registry.close());
  const address = registry.address();
  const port = typeof address === 'object' ? address?.port : undefined;
  const lines: string[] = [];
  const loud = pino({ level: 'warn' }, { write: (line: string) => lines.push(line) });
  const stop = new AbortController();
  const token = tokenOf(identity, DOMAIN, `127.0.0.1:${port}`);
  const options = { stateDirectory: await temporaryDirectory(), token, name: 'n1' };
  const failure = identify(options, { ...deps(false), logger: loud, signal: stop.signal });
  const outcome = expect(failure).rejects.toThrow();
  await vi.waitFor(() => expect(asked).toBeGreaterThan(2), { timeout: 60_000 });
  stop.abort();
  await outcome;
  expect(lines).toHaveLength(1);
});

const reenrolment = (stateDirectory: string, token: string) => {
  let now = 0;
  let asked = 0;
  const counted = {
    ...clock,
    monotonic: () => now,
    moment: () => {
      asked += 1;
      return clock.moment();
    },
  };
  return {
    it: new Reenrolment({ credential: byJoinToken(token), stateDirectory }, { logger, clock: counted }),
    pass: (milliseconds: number) => {
      now += milliseconds;
    },
    asked: () => asked,
  };
};

test('a registry that is gone is tried again, later and later, and the sentence says what is missing', async () => {
  const { identity, stateDirectory } = await saved();
  const { it, pass, asked } = reenrolment(stateDirectory, tokenOf(identity));
  expect(it.sentence).toBe(
    'the agent runs on from what it saved, and enrols anew with its join token as soon as it can',
  );
  for (let i = 0; i < 5; i++) expect(await it.attempt(identity, signal)).toBeUndefined();
  expect(asked()).toBe(1);
  expect(it.sentence).toMatch(/as soon as it can \(.*127\.0\.0\.1:1/);
  pass(15_000);
  await it.attempt(identity, signal);
  expect(asked()).toBe(2);
});

test('a token that will never do is not tried again', async () => {
  const { identity, stateDirectory } = await saved();
  const { it, pass, asked } = reenrolment(stateDirectory, tokenOf(identity, 'other.example'));
  for (let i = 0; i < 3; i++) {
    expect(await it.attempt(identity, signal)).toBeUndefined();
    pass(3_600_000);
  }
  expect(asked()).toBe(0);
  expect(it.sentence).toMatch(
    /^its join token is refused \(the join token is of other\.example.*\): start the agent with a new/,
  );
});
