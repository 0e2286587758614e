// What is there is not silently taken for something else that is asked for, and a start that is refused costs no token.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Domain } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { Pod } from '../lab/pod.ts';
import { vl3 } from '../lab/program.ts';

let domain: Domain;
let node: Node;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  node = await domain.startNode('a1');
}, 120_000);

afterAll(() => domain?.close());

test('an attachment asked for again under another name, or with other labels, is refused', async () => {
  const pod = await Pod.create(domain.lab, 'web', node);
  const attach = (...options: string[]) =>
    node.tryVl3('attach', '--network', 'red', '--netns', pod.host.netns, ...options);
  const first = ['--name', 'web', '--label', 'app=web', '--label', 'tier=1'];
  expect((await attach(...first)).code).toBe(0);
  expect((await attach('--name', 'web', '--label', 'tier=1', '--label', 'app=web')).code).toBe(0);
  expect((await attach()).code).toBe(0);
  const renamed = await attach('--name', 'other');
  expect(renamed.stderr).toMatch(/is on red already, as the workload "web": detach it first/);
  expect(renamed.code).toBe(1);
  const relabelled = await attach('--label', 'app=web');
  expect(relabelled.stderr).toMatch(/is on red already, with other labels: detach it first/);
  expect(relabelled.code).toBe(1);
});

test('an agent whose socket is taken does not use up its token', async () => {
  const token = await domain.token();
  const stateDir = join(domain.lab.scratch, 'refused');
  const refused = await node.host.tryRun(
    vl3(
      ...['agent', 'run', '--token', token, '--name', 'refused', '--port', '51999'],
      ...['--state-dir', stateDir, '--run-dir', node.runDir, '--netns-prefix', `${node.netnsPrefix}refused-`],
    ),
  );
  expect(refused.stderr).toMatch(/another agent answers on .*: stop it or choose another --run-dir/);
  expect(refused.code).toBe(1);
  expect(existsSync(join(stateDir, 'identity.json'))).toBe(false);
  expect(await domain.admin('node', 'list')).not.toMatch(/^refused\s/m);
});

test('an agent started under another prefix of namespaces is refused, and the right one goes on', async () => {
  const moved = await domain.startNode('moved');
  const pod = await moved.pod('stays', 'red');
  await moved.agent.stop('SIGTERM');
  const refused = await moved.host.tryRun(
    vl3(
      ...['agent', 'run', '--state-dir', moved.stateDir, '--run-dir', moved.runDir],
      ...['--netns-prefix', `${moved.netnsPrefix}other-`],
    ),
  );
  expect(refused.stderr).toContain(
    `were made with --netns-prefix ${moved.netnsPrefix}: give that one, or run`,
  );
  expect(refused.code).toBe(1);
  await moved.start();
  expect(await pod.reaches('10.60.0.1')).toBe(true);
});
