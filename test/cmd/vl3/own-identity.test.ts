// What goes together of an identity that the registry does not give, as the command line takes it.

import { describe, expect, test } from 'vitest';
import { inProcess } from './in-process.ts';

const SOCKET = ['--identity', 'unix:///run/spire/agent.sock'];
const FILES = ['--identity', '/run/vl3-svid'];
const AT = ['--registry', 'registry.example'];

describe('vl3 agent', () => {
  test.each([
    ['a socket', [...SOCKET, ...AT]],
    ['a socket without an authority', ['--identity', 'unix:/run/spire/agent.sock', ...AT]],
    ['files', [...FILES, ...AT, '--trust-domain', 'x.example']],
    ['files of other names', [...FILES, ...AT, '--identity-files', 'tls.crt,tls.key,ca.crt']],
  ])('takes %s', async (_, args) => {
    const { code, out, err } = await inProcess(['agent', 'config', ...args, '-o', 'json']);
    expect([code, err]).toEqual([0, '']);
    const identity = JSON.parse(out).find(({ key }: { key: string }) => key === 'identity');
    expect(identity).toEqual({ key: 'identity', value: args[1], from: '--identity' });
  });

  test.each([
    ['no registry', SOCKET, /identity is set, and registry is not/],
    [
      'a registry alone',
      AT,
      /registry, trust-domain and identity-files are for a node with an identity of its own/,
    ],
    ['a join token as well', [...SOCKET, ...AT, '--token', 'x'], /both token and identity are set/],
    [
      'names of files beside a socket',
      [...SOCKET, ...AT, '--identity-files', 'a,b,c'],
      /identity is no directory/,
    ],
    [
      'names that leave the directory',
      [...FILES, ...AT, '--identity-files', '../a,b,c'],
      /names of three files/,
    ],
    ['two names', [...FILES, ...AT, '--identity-files', 'a,b'], /names of three files/],
    ['a port', ['--identity', 'tcp://127.0.0.1:8081', ...AT], /only a socket of this machine/i],
    ['a path that is none', ['--identity', 'agent.sock', ...AT], /write a socket like unix:\/\/\//i],
    [
      'a socket whose path is too long',
      ['--identity', `unix:///${'x'.repeat(120)}`, ...AT],
      /write a socket like/i,
    ],
  ])('refuses %s', async (_, args, sentence) => {
    const { code, err } = await inProcess(['agent', 'config', ...args]);
    expect(code).toBe(2);
    expect(err).toMatch(sentence);
  });
});

describe('vl3 registry', () => {
  const config = (...args: readonly string[]) =>
    inProcess(['registry', 'config', '--trust-domain', 'x.example', ...args]);

  test('takes bundles that are given by a socket alone', async () => {
    expect((await config(...SOCKET, '--given-bundle', 'partner.example')).code).toBe(0);
    for (const args of [[], [...FILES, '--admission-identity', '/run/other']]) {
      const { code, err } = await config(...args, '--given-bundle', 'partner.example');
      expect(code).toBe(2);
      expect(err).toMatch(
        /given-bundle is for bundles that the Workload API gives: set identity to its socket/,
      );
    }
  });

  test('takes a socket by itself, and a directory with another one', async () => {
    expect((await config(...SOCKET)).code).toBe(0);
    expect((await config(...FILES, '--admission-identity', '/run/vl3-admission')).code).toBe(0);
  });

  test.each([
    ['one directory for two SVIDs', FILES, /set admission-identity/],
    [
      'an admission identity alone',
      ['--admission-identity', '/run/x'],
      /are for a registry without a CA of its own/,
    ],
    [
      'clusters',
      [...SOCKET, '--kubernetes-clusters', '/etc/x'],
      /kubernetes-clusters is for a domain with a CA/,
    ],
    ['a signer apart', [...SOCKET, '--signer', '/etc/x'], /signer is for a domain with a CA of its own/],
  ])('refuses %s', async (_, args, sentence) => {
    const { code, err } = await config(...args);
    expect(code).toBe(2);
    expect(err).toMatch(sentence);
  });
});
