// Who calls a registry: which address is taken, and whom nothing is told.

import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { connectAdmin, connectAgent } from '../../../src/registry/client.ts';
import { unusedPort } from '../../lab/unused-port.ts';
import { agentOf, refusal, startDomain, temporaryDirectory } from './fixture.ts';

describe('a client', () => {
  test('takes the next address when one does not answer, and names all when none does', async () => {
    const domain = await startDomain();
    const a = await domain.enrol('a');
    const dead = `127.0.0.1:${await unusedPort()}`;
    const both = connectAgent({ ...a.identity, registries: [dead, ...a.identity.registries] });
    onTestFinished(() => both[Symbol.asyncDispose]());
    await both.client.heartbeat({});
    const none = connectAgent(
      { ...a.identity, registries: [dead, '192.0.2.1:7443'] },
      { connectTimeoutMs: 300 },
    );
    onTestFinished(() => none[Symbol.asyncDispose]());
    const sentence = await refusal(none.client.heartbeat({}));
    expect(sentence).toMatch(
      /^unavailable: no registry answers at 127\.0\.0\.1:\d+ \(.*ECONNREFUSED.*\), 192\.0\.2\.1:7443/,
    );
  });

  test('sends nothing to a server that is not the registry of its domain', async () => {
    const domain = await startDomain();
    const other = await startDomain();
    const a = await domain.enrol('a');
    const misled = agentOf({ ...a.identity, registries: other.registry.registries });
    expect(await refusal(misled.heartbeat({}))).toMatch(/^unavailable: /);
    expect(other.log.lines.filter((line) => line.includes('call'))).toEqual([]);
  });

  test('without an admin credential is told where it is', async () => {
    expect(await refusal(connectAdmin(join(temporaryDirectory(), 'admin.json')))).toMatch(
      /^not-found: .*--admin/,
    );
  });
});
