// What a node shows when it enrols: of a cluster's token, that it is read anew, and what waits and what does not.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, test, vi } from 'vitest';
import { systemClock } from '../../../src/agent/clock.ts';
import { identify, Reenrolment } from '../../../src/agent/enrolment.ts';
import { byCluster, credentialOf } from '../../../src/agent/enrolment-credential.ts';
import { formatDomainAddress } from '../../../src/identity/domain-address.ts';
import { storeNodeIdentity } from '../../../src/identity/identity-file.ts';
import { DOMAIN, enrolled, openCa, temporaryDirectory } from '../identity/fixture.ts';

const clock = systemClock();
const { signal } = new AbortController();
/** Nobody listens there. */
const addressOf = (trustDomain = DOMAIN): string =>
  formatDomainAddress({
    registries: ['127.0.0.1:1'],
    trustDomain,
    caFingerprint: new Uint8Array(32),
  });

const files = async () => {
  const directory = await temporaryDirectory();
  const [tokenFile, domainFile] = [join(directory, 'token'), join(directory, 'domain')];
  return { directory, tokenFile, domainFile, credential: byCluster({ tokenFile, domainFile }) };
};
const failureOf = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
    return 'enrolled';
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    return `${code}: ${message}`;
  }
};

test('a join token beats a cluster, and without either there is nothing to show', () => {
  expect(credentialOf({})).toBeUndefined();
  const cluster = { tokenFile: '/token', domainFile: '/domain' };
  expect(credentialOf({ token: 'x', cluster })?.means).toBe('with its join token');
  expect(credentialOf({ cluster })?.means).toBe('by the word of its Kubernetes cluster');
});

test('token and address are read anew at each attempt, and what is not there yet is waited for', async () => {
  const { directory, tokenFile, domainFile, credential } = await files();
  const attempt = () => failureOf(credential.enroll({ directory, signal, now: Date.now }, DOMAIN));
  expect(await attempt()).toBe(
    `unavailable: the kubelet keeps the token for the registry in ${tokenFile}, which cannot be read yet (ENOENT)`,
  );
  writeFileSync(tokenFile, 'token');
  expect(await attempt()).toMatch(/^unavailable: the registry writes its address, once it runs, in/);
  writeFileSync(domainFile, '');
  expect(await attempt()).toMatch(/cannot be read yet \(it is empty\)/);
  writeFileSync(domainFile, addressOf('other.example'));
  expect(await attempt()).toMatch(
    /^failed-precondition: the domain address is of other\.example, and this node of aws-prod\.example/,
  );
  writeFileSync(domainFile, `${addressOf()}\n`);
  expect(await attempt()).toMatch(/^unavailable: the registry at 127\.0\.0\.1:1 cannot be reached/);
  writeFileSync(tokenFile, 'x'.repeat(20_000));
  expect(await attempt()).toMatch(/longer than 16384 bytes/);
});

test('an address that is given, and is none or of another domain, is refused at once', () => {
  const given = (domain: string) => byCluster({ tokenFile: '/token', domain });
  expect(() => given('nonsense').check()).toThrow(/vl3 registry domain/);
  expect(() => given(addressOf('other.example')).check(DOMAIN)).toThrow(/is of other\.example/);
  expect(() => given(addressOf()).check(DOMAIN)).not.toThrow();
});

test('a refusal by the registry is never the last word: its admin can set it right', async () => {
  const { credential } = await files();
  for (const code of ['permission-denied', 'already-exists', 'unauthenticated', 'unavailable'] as const) {
    expect(credential.isFinal(code, true)).toBe(false);
    expect(credential.isFinal(code, false)).toBe(false);
  }
  expect(credential.isFinal('failed-precondition', true)).toBe(true);
});

test('a node that never enrolled waits in its process, and says why once', async () => {
  const { directory, tokenFile, domainFile } = await files();
  const lines: string[] = [];
  const logger = pino({ level: 'warn' }, { write: (line: string) => lines.push(line) });
  const stop = new AbortController();
  const stateDirectory = join(directory, 'state');
  const waiting = identify(
    { stateDirectory, cluster: { tokenFile, domainFile } },
    { logger, clock, hasExpired: () => false, signal: stop.signal },
  );
  const outcome = expect(waiting).rejects.toThrow();
  await vi.waitFor(() => expect(lines.join()).toMatch(/enrolment is tried again/), { timeout: 60_000 });
  writeFileSync(tokenFile, 'token');
  await vi.waitFor(() => expect(lines).toHaveLength(2), { timeout: 60_000 });
  expect(lines[1]).toMatch(/the registry writes its address/);
  stop.abort();
  await outcome;
});

test('a node that runs is tried again and again, whatever it was refused with', async () => {
  const identity = await enrolled(await openCa(), 'n1');
  const { directory, tokenFile, domainFile, credential } = await files();
  await storeNodeIdentity(directory, identity);
  writeFileSync(tokenFile, 'token');
  writeFileSync(domainFile, addressOf('other.example'));
  let now = 0;
  const counted = { ...clock, monotonic: () => now };
  const logger = pino({ level: 'silent' });
  const it = new Reenrolment({ credential, stateDirectory: directory }, { logger, clock: counted });
  expect(it.sentence).toBe(
    'the agent runs on from what it saved, and enrols anew by the word of its Kubernetes cluster as soon as it can',
  );
  expect(await it.attempt(identity, signal)).toBeUndefined();
  expect(it.sentence).toMatch(/as soon as it can \(the domain address is of other\.example/);
  writeFileSync(domainFile, addressOf());
  await it.attempt(identity, signal);
  expect(it.sentence).toMatch(/is of other\.example/);
  now += 60_000;
  await it.attempt(identity, signal);
  expect(it.sentence).toMatch(/as soon as it can \(the registry at 127\.0\.0\.1:1/);
});
