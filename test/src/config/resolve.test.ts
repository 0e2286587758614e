// Where settings come from, and what is said of each mistake.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { agentSettings } from '../../../src/config/agent-settings.ts';
import { registrySettings } from '../../../src/config/registry-settings.ts';
import { resolveSettings } from '../../../src/config/resolve.ts';
import type { Raw } from '../../../src/config/setting.ts';

const scratch = mkdtempSync(join(tmpdir(), 'vl3-config-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
let written = 0;

const write = (content: string | Uint8Array): string => {
  written += 1;
  const path = join(scratch, `${written}.yaml`);
  writeFileSync(path, content);
  return path;
};

interface Given {
  file?: string | Uint8Array;
  environment?: Record<string, string>;
  flags?: Record<string, Raw>;
}

const agent = ({ file = '', environment = {}, flags = {} }: Given) =>
  resolveSettings(agentSettings, {
    environment,
    flags: new Map(Object.entries(flags)),
    file: write(file),
  });

test('a flag wins over the environment, that over the file, that over the default', () => {
  const all = {
    file: 'name: from-file\nport: 1\nnetns-prefix: f-\n',
    environment: { VL3_AGENT_NAME: 'from-env', VL3_AGENT_UDP_PORT: '2' },
    flags: { name: 'from-flag' },
  };
  const { values, effective } = agent(all);
  expect(values).toMatchObject({ name: 'from-flag', port: 2, 'netns-prefix': 'f-', 'run-dir': '/run/vl3' });
  const where = Object.fromEntries(effective.map((one) => [one.key, one.where]));
  expect(where).toMatchObject({ name: '--name', port: 'VL3_AGENT_UDP_PORT', 'run-dir': 'default' });
  expect(where['netns-prefix']).toMatch(/\.yaml:3:15$/);
});

test('a list may be written as one value, in one line, over many, in the environment with commas', () => {
  const two = ['red', 'green'];
  expect(agent({ file: 'network: red' }).values.network).toEqual(['red']);
  expect(agent({ file: 'network: [red, green]' }).values.network).toEqual(two);
  expect(agent({ file: 'network:\n  - red # the first\n  - green\n' }).values.network).toEqual(two);
  expect(agent({ environment: { VL3_AGENT_NETWORK: 'red, green' } }).values.network).toEqual(two);
});

test('text stays what was written, whatever YAML would make of it', () => {
  for (const text of ['1.10', 'yes', '0x1f', '2026-01-01', '~'])
    expect(agent({ file: `token-file: ${text}` }).values['token-file']).toBe(text);
});

test('an empty file is a file, an empty variable is none', () => {
  expect(agent({ file: '' }).values['run-dir']).toBe('/run/vl3');
  expect(agent({ file: '# nothing\n' }).values['run-dir']).toBe('/run/vl3');
  expect(agent({ environment: { VL3_AGENT_NAME: '' } }).values.name).toBeUndefined();
});

test.each<[string, Given, RegExp]>([
  [
    'an unknown key',
    { file: 'name: a\nportt: 1\n' },
    /\.yaml:2:1: there is no setting "portt": did you mean "port"\?$/,
  ],
  [
    'a key in camel case',
    { file: 'stateDir: /x\n' },
    /yaml:1:1: there is no setting "stateDir": did you mean "state-dir"/,
  ],
  [
    'a bad value',
    { file: 'name: a\nport: high\n' },
    /\.yaml:2:7: port "high": write a whole number from 1 to 65535$/,
  ],
  [
    'a bad value in a list',
    { file: 'advertise:\n  - 1.2.3.4\n  - a:b:c\n' },
    /advertise "a:b:c": write an address like/,
  ],
  [
    'a bad choice',
    { file: 'log-level: loud\n' },
    /yaml:1:12: log-level "loud": choose one of trace, debug, info/,
  ],
  [
    'a key twice',
    { file: 'name: a\nname: b\n' },
    /\.yaml:2:1: this is not the YAML it should be \(Map keys must be unique\)/,
  ],
  [
    'a relative directory',
    { file: 'state-dir: var/vl3\n' },
    /yaml:1:12: state-dir "var\/vl3": write the whole path, from "\/" on, like \/var\/lib\/vl3$/,
  ],
  [
    'a relative directory in the environment',
    { environment: { VL3_AGENT_RUN_DIR: 'run' } },
    /^VL3_AGENT_RUN_DIR: run-dir "run": write the whole path/,
  ],
  ['no YAML', { file: 'name: [a\n' }, /\.yaml:\d:\d: this is not the YAML it should be/],
  ['two documents', { file: 'name: a\n---\nname: b\n' }, /not the YAML it should be/],
  ['a list of settings', { file: '- name: a\n' }, /\.yaml:1:1: this is no list of "key: value" lines/],
  ['a bare word', { file: 'hello\n' }, /yaml:1:1: this is no list of "key: value" lines/],
  ['a key without a value', { file: 'name:\n' }, /name is empty: leave it out, or give it a value$/],
  ['a map for a value', { file: 'name: {a: b}\n' }, /\.yaml:1:7: name: write one value here$/],
  [
    'a list for a value',
    { file: 'name: [a, b]\n' },
    /name: this takes one value, not a list: write "name: value"$/,
  ],
  ['an alias', { file: 'name: &a b\nrun-dir: *a\n' }, /\.yaml:2:10: run-dir: write one value here$/],
  ['a list in a list', { file: 'network: [[a]]\n' }, /network: write a list like \[one, two\] here$/],
  ['a tag', { file: 'name: !!python/object a\n' }, /not the YAML it should be/],
  [
    'text that is none',
    { file: new Uint8Array([0xff, 0xfe, 0]) },
    /cannot read the configuration file .*\.yaml/,
  ],
  [
    'a megabyte',
    { file: `name: ${'a'.repeat(1 << 20)}` },
    /is longer than 1 MiB: name the right file with --config$/,
  ],
  [
    'an unknown variable',
    { environment: { VL3_AGENT_PROT: '1' } },
    /^environment: there is no setting VL3_AGENT_PROT: did you mean VL3_AGENT_/,
  ],
  [
    'a bad variable',
    { environment: { VL3_AGENT_UDP_PORT: 'x' } },
    /^VL3_AGENT_UDP_PORT: port "x": write a whole number/,
  ],
  [
    'a value that a flag overrides',
    { file: 'port: x\n', flags: { port: '1' } },
    /yaml:1:7: port "x": write a whole/,
  ],
])('%s is refused, with its place and a remedy', (_, given, sentence) => {
  expect(() => agent(given)).toThrow(sentence);
});

test('what Kubernetes sets for a service of that name is no mistake', () => {
  const environment = {
    VL3_AGENT_PORT: 'tcp://10.0.0.1:9643',
    VL3_AGENT_SERVICE_HOST: '10.0.0.1',
    VL3_AGENT_SERVICE_PORT_METRICS: '9643',
    VL3_AGENT_PORT_9643_TCP_ADDR: '10.0.0.1',
  };
  expect(agent({ environment }).values.port).toBeUndefined();
});

test('a secret is never said', () => {
  const token = 'x'.repeat(5000);
  expect(() => agent({ file: `token: ${token}\n` })).toThrow(/token: write at most 4096 characters$/);
});

test('a file that is named and not there is refused, the one by default is not missed', () => {
  const sources = { environment: {}, flags: new Map() };
  expect(() => resolveSettings(agentSettings, { ...sources, file: '/nonexistent.yaml' })).toThrow(
    /^there is no configuration file \/nonexistent\.yaml: name another with --config/,
  );
  expect(() => resolveSettings(agentSettings, { ...sources, file: scratch })).toThrow(/EISDIR/);
  const absent = { ...agentSettings, file: '/nonexistent.yaml' };
  expect(resolveSettings(absent, sources)).not.toHaveProperty('file');
  const environment = { VL3_AGENT_CONFIG: write('name: b') };
  expect(resolveSettings(absent, { ...sources, environment }).values.name).toBe('b');
});

test('what has to be set and is not is named with all its places', () => {
  const absent = { ...registrySettings, file: '/nonexistent.yaml' };
  expect(() => resolveSettings(absent, { environment: {}, flags: new Map() })).toThrow(
    'give --trust-domain, VL3_REGISTRY_TRUST_DOMAIN, or "trust-domain:" in /nonexistent.yaml',
  );
});
