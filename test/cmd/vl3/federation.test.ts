// What two admins type, each against their own registry.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { red, startDomain, type TestDomain } from '../../src/registry/fixture.ts';
import { inProcess } from './in-process.ts';

const HOME = 'home.example';
const PARTNER = 'partner.example';

const typed = (domain: TestDomain, ...args: string[]) =>
  inProcess([...args, '--admin', join(domain.stateDirectory, 'admin.json')]);

test('invite, accept, list, test and revoke say what they do on both sides', async () => {
  const home = await startDomain({ trustDomain: HOME });
  const partner = await startDomain({ trustDomain: PARTNER });
  await (await home.admin()).createNetwork({ network: red });

  const invited = await typed(home, 'federation', 'invite', PARTNER, '--network', 'red', '--expires', '1h');
  expect(invited.code).toBe(0);
  const [invitation = ''] = invited.out.split('\n');
  expect(invitation).toMatch(/^vl3f1\./);
  const [homeCa = ''] = /[0-9a-f]{64}/.exec(invited.err) ?? [];
  expect((await typed(home, 'federation', 'list')).out).toMatch(/partner\.example +pending +invited to red/);

  const other = await typed(partner, 'federation', 'accept', invitation, '--as', 'other.example');
  expect([other.code, other.err]).toEqual([1, expect.stringMatching(/is of home\.example, not of other/)]);
  const accepted = await typed(partner, 'federation', 'accept', invitation, '--as', HOME);
  expect([accepted.code, accepted.err]).toEqual([0, '']);
  expect(accepted.out).toContain(`CA of ${HOME}: SHA-256 ${homeCa}`);
  const again = await typed(partner, 'federation', 'accept', invitation);
  expect([again.code, again.out]).toEqual([0, accepted.out]);
  const file = join(partner.stateDirectory, 'invitation');
  writeFileSync(file, `${invitation.slice(0, 80)}\n${invitation.slice(80)}\n`);
  const byFile = await typed(partner, 'federation', 'accept', '--invitation-file', file);
  expect([byFile.code, byFile.out]).toEqual([0, accepted.out]);
  const wrong = [[], [invitation, '--invitation-file', file], ['--invitation-file', join(file, 'none')]];
  for (const args of wrong)
    expect(await typed(partner, 'federation', 'accept', ...args)).toMatchObject({
      code: 1,
      err: expect.stringMatching(/either the invitation or --invitation-file|cannot be read/),
    });

  const listed = await typed(home, 'federation', 'list');
  expect(listed.out).toMatch(/partner\.example +active +red +- +0/);
  expect(listed.out).toContain(`CA of ${HOME} (this domain): SHA-256 ${homeCa}`);
  const there = JSON.parse((await typed(partner, 'federation', 'list', '-o', 'json')).out);
  expect(there).toMatchObject([
    { trustDomain: HOME, state: 'active', accepted: { networks: ['red'] }, caFingerprints: [homeCa] },
  ]);

  const rule = ['admission', 'create', 'ledger', '--network', 'red', '--from'];
  const early = await typed(home, ...rule, 'nobody.example', '--label', 'app=x');
  expect(early.err).toMatch(/warning: there is no federation with nobody\.example/);
  const made = await typed(
    home,
    'admission',
    'create',
    '--network',
    'red',
    '--from',
    PARTNER,
    '--namespace',
    'billing',
  );
  expect([made.code, made.err]).toEqual([0, '']);
  const about = ['admission', 'test', '--network', 'red', '--from', PARTNER, '--namespace'];
  const good = await typed(home, ...about, 'billing');
  expect([good.code, good.out]).toEqual([
    0,
    expect.stringMatching(/assertion of partner\.example: whoever runs its nodes can say what they like/),
  ]);
  expect((await typed(home, ...about, 'web')).code).toBe(6);
  const clustered = await typed(
    home,
    'admission',
    'create',
    '--network',
    'red',
    '--from',
    PARTNER,
    '--cluster',
    'c1',
  );
  expect([clustered.code, clustered.err]).toEqual([1, expect.stringMatching(/nobody here can know/)]);

  const revoked = await typed(home, 'federation', 'revoke', PARTNER);
  expect([revoked.code, revoked.out]).toEqual([0, expect.stringMatching(/has ended; it had no node here/)]);
  expect((await typed(home, ...about, 'billing')).out).toMatch(/not admitted to red: there is no federation/);
  expect((await typed(home, 'federation', 'revoke', PARTNER)).err).toMatch(/there is no federation with/);
  const late = await typed(partner, 'federation', 'accept', invitation);
  expect([late.code, late.err]).toEqual([
    1,
    expect.stringMatching(/not one of this registry, or none that counts/),
  ]);
  const log = await typed(home, 'admission', 'log');
  for (const kind of ['partner-invited', 'partner-joined', 'partner-revoked'])
    expect(log.out).toContain(kind);
  // Of both registries' logs no line holds what lets anybody in.
  const secret = JSON.parse(Buffer.from(invitation.slice(6), 'base64url').subarray(2, -4).toString()).s;
  for (const line of [...home.log.lines, ...partner.log.lines]) expect(line).not.toContain(secret);
});

test('a command line that cannot be is refused before anything is asked', async () => {
  const { code, err } = await inProcess(['federation', 'invite', PARTNER]);
  expect([code, err]).toEqual([2, expect.stringMatching(/--network/)]);
});
