// Settings as the command line takes and shows them.

import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { run } from '../../../cmd/vl3/program.ts';

const attempt = async (
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number; out: string; err: string }> => {
  const seen = { code: 0, out: '', err: '' };
  await run([...args], {
    env,
    out: (line) => {
      seen.out += `${line}\n`;
    },
    err: (line) => {
      seen.err += `${line}\n`;
    },
    signal: new AbortController().signal,
    exit: (code) => {
      seen.code = code;
    },
  });
  return seen;
};

test('a relative directory on the command line is the one that the caller sees', async () => {
  const { code, out } = await attempt(['agent', 'config', '--state-dir', 'some/where', '-o', 'json']);
  expect(code).toBe(0);
  expect(JSON.parse(out)).toContainEqual({
    key: 'state-dir',
    value: resolve('some/where'),
    from: '--state-dir',
  });
});

test('a relative directory in the environment is refused: nobody knows where a daemon starts', async () => {
  const { code, err } = await attempt(['registry', 'config', '--trust-domain', 'x.example'], {
    VL3_REGISTRY_STATE_DIR: './state',
  });
  expect(code).toBe(2);
  expect(err).toContain('VL3_REGISTRY_STATE_DIR: state-dir "./state": write the whole path');
});
