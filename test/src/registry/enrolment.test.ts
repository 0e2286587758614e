// How a node gets its identity by a join token, and everything that keeps others from one.

import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { parseCertificate } from '../../../src/identity/certificate.ts';
import { enroll } from '../../../src/identity/enroll.ts';
import { formatJoinToken, parseJoinToken } from '../../../src/identity/token.ts';
import { refusal, startDomain, temporaryDirectory } from './fixture.ts';

const run = promisify(execFile);

describe('T1: a join token', () => {
  test('that is used again, expired, revoked or guessed is refused for its own reason, logged and counted', async () => {
    const domain = await startDomain();
    const admin = await domain.admin();
    const used = await domain.token();
    await domain.enrol('a', used);
    expect(await refusal(domain.enrol('b', used))).toMatch(/^permission-denied: .*was used already/);

    const { joinToken: brief } = await admin.createToken({ ttl: { seconds: 1n } });
    await new Promise((resolve) => setTimeout(resolve, 1100));
    expect(await refusal(domain.enrol('b', brief))).toMatch(/^permission-denied: .*has expired/);

    const { joinToken: revoked, token } = await admin.createToken({});
    await admin.revokeToken({ id: token?.id ?? '' });
    expect(await refusal(domain.enrol('b', revoked))).toMatch(/^permission-denied: .*was revoked/);

    const real = parseJoinToken(await domain.token());
    const guessed = formatJoinToken({ ...real, secret: Buffer.alloc(32, 9).toString('base64url') });
    expect(await refusal(domain.enrol('b', guessed))).toMatch(
      /^permission-denied: .*not one of this registry/,
    );

    const { joinToken: named } = await admin.createToken({ node: 'c' });
    expect(await refusal(domain.enrol('b', named))).toMatch(/^permission-denied: .*admits only the node "c"/);

    const { refusedEnrolments } = await admin.getStatus({});
    expect(refusedEnrolments).toEqual({ used: 1n, expired: 1n, revoked: 1n, unknown: 1n, 'other-name': 1n });
    const logged = domain.log.lines.filter((line) => line.includes('enrolment refused'));
    expect(logged).toHaveLength(5);
    expect(logged.every((line) => line.includes('"address":"127.0.0.1"'))).toBe(true);
    expect((await admin.listNodes({})).nodes.map(({ name }) => name)).toEqual(['a']);
  });

  test('gives the same SVID as often as the node asks that cannot keep what it gets', async () => {
    const domain = await startDomain();
    const token = parseJoinToken(await domain.token());
    const directory = temporaryDirectory();
    // Its clock is a month ahead: to it no certificate of this registry holds.
    let ahead = 0;
    const asks = () => enroll({ token, node: 'a', directory }, () => Date.now() + ahead);
    const serials = new Set<string>();
    ahead = 30 * 24 * 3_600_000;
    for (let i = 0; i < 3; i++) expect(await refusal(asks())).toMatch(/^unauthenticated/);
    const key = readFileSync(join(directory, 'enrolling-key.pem'));
    ahead = 0;
    for (let i = 0; i < 3; i++) {
      // The node dies before it has noted that it is enrolled.
      writeFileSync(join(directory, 'enrolling-key.pem'), key, { mode: 0o600 });
      const [leaf = new Uint8Array()] = (await asks()).certificateChain;
      serials.add(parseCertificate(leaf).serial);
    }
    expect(serials.size).toBe(1);
    expect(domain.log.lines.filter((line) => line.includes('"msg":"node enrolled"'))).toHaveLength(1);
  });

  test('of which many are used at once admits exactly one', async () => {
    const domain = await startDomain();
    const token = await domain.token();
    const names = Array.from({ length: 8 }, (_, i) => `n${i}`);
    const results = await Promise.all(names.map((name) => refusal(domain.enrol(name, token))));
    expect(results.filter((result) => result === 'accepted')).toHaveLength(1);
    expect((await (await domain.admin()).listNodes({})).nodes).toHaveLength(1);
  });

  test('is listed by its id, with who used it, and its secret is nowhere but in the answer', async () => {
    const domain = await startDomain();
    const admin = await domain.admin();
    const { joinToken, token } = await admin.createToken({ node: 'a' });
    await domain.enrol('a', joinToken);
    const { tokens } = await admin.listTokens({});
    expect(tokens).toMatchObject([{ id: token?.id, node: 'a', usedBy: 'a' }]);
    const { secret } = parseJoinToken(joinToken);
    expect(
      JSON.stringify(tokens, (_, value) => (typeof value === 'bigint' ? String(value) : value)),
    ).not.toContain(secret);
    expect(domain.log.lines.join('')).not.toContain(secret);
    for (const file of readdirSync(domain.stateDirectory).filter((name) => name.startsWith('store.db'))) {
      expect(readFileSync(join(domain.stateDirectory, file)).includes(secret)).toBe(false);
    }
  });
});

test('a node that was deleted can enrol anew under its name, and its old SVID stays dead', async () => {
  const domain = await startDomain();
  const admin = await domain.admin();
  const old = await domain.enrol('a');
  await admin.deleteNode({ name: 'a' });
  const fresh = await domain.enrol('a');
  await fresh.client.heartbeat({});
  expect(await refusal(old.client.heartbeat({}))).toMatch(/^unauthenticated: .*earlier enrolment/);
});

test('without a token nobody can have it read a certificate request', async () => {
  const domain = await startDomain();
  const url = `https://127.0.0.1:${domain.registry.port}/vl3.v1.EnrollmentService/Enroll`;
  const body = JSON.stringify({ tokenSecret: 'guessed', certificateRequest: 'AAAA', node: 'a' });
  const { stdout } = await run('curl', ['-ks', '-H', 'content-type: application/json', '-d', body, url]);
  expect(JSON.parse(stdout)).toMatchObject({
    code: 'permission_denied',
    message: expect.stringMatching(/not one of this registry/),
  });
});

test('a node that enrols with a token of another CA sends no secret', async () => {
  const domain = await startDomain();
  const other = await startDomain();
  const token = { ...parseJoinToken(await domain.token()), registries: other.registry.registries };
  expect(await refusal(enroll({ token, node: 'a', directory: temporaryDirectory() }))).toMatch(
    /^unauthenticated/,
  );
  expect(other.log.lines.filter((line) => line.includes('enrolment'))).toEqual([]);
});
