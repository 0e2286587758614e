// The agent's handshakes and packets are OpenSSL's: it says so in its status, and agents in which @noble only throws
// shake hands and carry packets all the same.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import type { Daemon } from '../../lab/daemon.ts';
import type { Host } from '../../lab/host.ts';
import { Lab } from '../../lab/lab.ts';
import { fromSources, vl3 } from '../../lab/program.ts';

const WITHOUT_NOBLE = fileURLToPath(new URL('./without-noble.ts', import.meta.url));
const REGISTRY = '192.0.2.1:7443';

const lab = Lab.create();
afterAll(async () => await lab.close());

const statusOf = async (host: Host, name: string) => {
  const socket = join(lab.scratch, name, 'run', 'agent.sock');
  const { stdout } = await host.tryRun(vl3('status', '--socket', socket, '-o', 'json'));
  return JSON.parse(stdout);
};

test('agents for which @noble only throws have a session and an echo through it', async () => {
  const one = await lab.host('one');
  const two = await lab.host('two');
  await lab.cable(
    { host: one, interface: 'eth0', addresses: ['192.0.2.1/24'] },
    { host: two, interface: 'eth0', addresses: ['192.0.2.2/24'] },
  );
  const state = join(lab.scratch, 'registry');
  const admin = (...args: string[]) => one.run(vl3(...args, '--admin', join(state, 'admin.json')));
  const registry = one.start(
    vl3('registry', 'run', '--state-dir', state, '--listen', REGISTRY, '--trust-domain', 'test.example'),
  );
  await registry.printed(/"registry is up"/, 20_000);
  await admin('network', 'create', 'red', '--pool-v4', '10.60.0.0/16');
  const start = async (host: Host): Promise<Daemon> => {
    const directory = join(lab.scratch, host.name);
    mkdirSync(directory);
    const place = ['--state-dir', join(directory, 'state'), '--run-dir', join(directory, 'run')];
    const prefix = ['--netns-prefix', lab.owns(`${lab.name}-${host.name}-`)];
    const token = (await admin('token', 'create', '--node', host.name)).trim();
    const command = fromSources('agent', 'run', ...place, ...prefix, '--name', host.name, '--network', 'red');
    const agent = host.start(command, {
      env: { VL3_TOKEN: token, NODE_OPTIONS: `--import=${WITHOUT_NOBLE}` },
    });
    await agent.printed(/"agent is up"/, 30_000);
    return agent;
  };
  for (const host of [one, two]) await start(host);

  let status = await statusOf(one, 'one');
  for (let i = 0; i < 60 && typeof status.networks[0]?.peers[0]?.rttMs !== 'number'; i++) {
    // There is no session before somebody speaks: the gateways do.
    await two.tryRun([
      ...['nsenter', `--net=/run/netns/${lab.name}-two-red`],
      ...['ping', '-c', '1', '-W', '1', '10.60.0.1'],
    ]);
    status = await statusOf(one, 'one');
  }
  expect(status).toMatchObject({ primitives: opensslPrimitives.name, problems: [] });
  expect(status.primitives).toBe('openssl');
  expect(status.aead).toMatch(/^(ipsec-mb|openssl-low-level)$/);
  expect(status.networks[0].peers[0].rttMs).toBeGreaterThan(0);
});
