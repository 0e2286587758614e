// The agent's settings about a cluster, as far as no field can tell by itself.

import { expect, test } from 'vitest';
import { inProcess } from './in-process.ts';

const config = (...args: string[]) =>
  inProcess(['agent', 'config', '-o', 'json', ...args], { NODE_NAME: 'worker-1' });

test('a kubeconfig for an informer that is off is refused', async () => {
  const { code, err } = await config('--kubeconfig', '/etc/vl3/kubeconfig');
  expect(code).toBe(2);
  expect(err).toMatch(/^vl3: kubeconfig is set, and kubernetes is off: set it to on/);
});

test('a pod is told what its node is called by the downward API', async () => {
  const { code, out } = await config('--kubernetes', 'on');
  expect(code).toBe(0);
  expect(JSON.parse(out)).toEqual(
    expect.arrayContaining([{ key: 'node-name', value: 'worker-1', from: 'NODE_NAME' }]),
  );
});
