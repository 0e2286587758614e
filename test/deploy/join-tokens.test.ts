// The script that makes nodes' join tokens, against a stand-in for kubectl that writes down what it is asked.

import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ROOT } from './chart.ts';

const scratch = mkdtempSync(join(tmpdir(), 'vl3-join-tokens-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const script = resolve(ROOT, 'deploy/examples/kubernetes/join-tokens.sh');

const joinTokens = (nodes: string, known: string[], ...args: string[]): string => {
  const list = JSON.stringify(
    known.map((name) => ({ name })),
    null,
    2,
  );
  writeFileSync(
    join(scratch, 'kubectl'),
    `#!/bin/sh
case "$*" in
  *'get nodes'*) echo '${nodes}' ;;
  *'node list'*) echo '${list}' ;;
  *'token create'*) while [ "$1" != --node ]; do shift; done; echo "token-of-$2" ;;
  *'create secret'*) printf '%s\\n' "$@" ;;
  *apply*) printf '%s ' "$@"; cat ;;
  *) exit 1 ;;
esac
`,
  );
  chmodSync(join(scratch, 'kubectl'), 0o755);
  const env = { ...process.env, PATH: `${scratch}:${process.env['PATH']}` };
  return execFileSync('sh', [script, ...args], { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
};

test('a node gets a token for the name that its agent will have, under the name that Kubernetes has for it', () => {
  const said = joinTokens('ip-10-0-0-1.example.internal worker-2', [], 'one', 'two', 'east-');
  const lines = said.split('\n');
  expect(lines).toContain('--from-literal=ip-10-0-0-1.example.internal=token-of-east-ip-10-0-0-1');
  expect(lines).toContain('--from-literal=worker-2=token-of-east-worker-2');
  expect(said).toMatch(/^--context two --namespace vl3-system apply -f - /);
});

test('a node that has enrolled gets none', () => {
  const said = joinTokens('worker-1 worker-2 worker-20', ['worker-2'], 'one', 'one');
  expect(said).toMatch(/worker-1=token-of-worker-1\n/);
  expect(said).toMatch(/worker-20=token-of-worker-20\n/);
  expect(said).not.toMatch(/worker-2=/);
});

test('when all have enrolled, nothing is changed', () => {
  expect(joinTokens('worker-1', ['worker-1'], 'one', 'one')).toBe('');
});
