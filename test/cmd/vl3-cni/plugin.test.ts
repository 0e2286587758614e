// The plugin without a process and without an agent: versions, results, and whatever may come on standard input.

import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { runPlugin, type World } from '../../../cmd/vl3-cni/plugin.ts';
import { MAX_INPUT_BYTES } from '../../../native-free/cni/json.ts';

const MAIN = resolve(import.meta.dirname, '../../../cmd/vl3-cni/main.ts');
const KEY = 'io.kubernetes.cri.pod-annotations';
const ENV = {
  CNI_CONTAINERID: 'c0ffee',
  CNI_IFNAME: 'eth0',
  CNI_NETNS: '/run/netns/x',
  CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=web;K8S_POD_UID=u1',
};
const MADE = {
  name: 'red',
  mac: '02:00:00:00:00:01',
  mtu: 1420,
  addresses: [{ address: '10.60.0.2/32', gateway: '10.60.0.1' }, { address: 'fd00:60::2/128' }],
  routes: [{ destination: '10.60.0.0/16', gateway: '10.60.0.1' }],
};
const CONFIG = {
  cniVersion: '1.0.0',
  name: 'cluster',
  prevResult: { interfaces: [{ name: 'eth0' }], 'x-unknown': { kept: [1] } },
  runtimeConfig: { [KEY]: { 'vl3.io/networks': 'red' } },
};

interface Ran {
  code: number;
  // biome-ignore lint/suspicious/noExplicitAny: whatever it prints
  result: any;
  asked: { socket: string; path: string; body: unknown }[];
}

const run = async (command: string, input: unknown, more: Partial<World> = {}): Promise<Ran> => {
  const asked: Ran['asked'] = [];
  const { code, output } = await runPlugin({
    env: { ...ENV, CNI_COMMAND: command },
    input: () => (typeof input === 'string' ? input : JSON.stringify(input)),
    readFile: () => undefined,
    ask: async <T>(socket: string, path: string, body: unknown): Promise<T> => {
      asked.push({ socket, path, body });
      return JSON.parse(JSON.stringify({ interfaces: [MADE], faults: [] }));
    },
    warn: () => undefined,
    ...more,
  });
  return { code, result: output === '' ? undefined : JSON.parse(output), asked };
};

describe('VERSION', () => {
  test.each(['', '{"cniVersion":"1.0.0"}', '{}'])('is answered for %j', async (input) => {
    const { code, result } = await run('VERSION', input);
    expect(code).toBe(0);
    expect(result.supportedVersions).toEqual(['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']);
    expect(result.cniVersion).toBe(input.includes('1.0.0') ? '1.0.0' : '1.1.0');
  });
});

describe('ADD', () => {
  test.each(['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'])(
    'answers in the words of %s',
    async (cniVersion) => {
      const { result, asked } = await run('ADD', {
        ...CONFIG,
        cniVersion,
        socket: '/run/x/agent.sock',
        waitSeconds: 3,
      });
      const version = (number: string) => (cniVersion < '1' ? { version: number } : {});
      expect(result).toEqual({
        ...CONFIG.prevResult,
        cniVersion,
        interfaces: [
          { name: 'eth0' },
          {
            name: 'red',
            mac: MADE.mac,
            sandbox: ENV.CNI_NETNS,
            ...(cniVersion === '1.1.0' ? { mtu: 1420 } : {}),
          },
        ],
        ips: [
          { interface: 1, address: '10.60.0.2/32', gateway: '10.60.0.1', ...version('4') },
          { interface: 1, address: 'fd00:60::2/128', ...version('6') },
        ],
        routes: [{ dst: '10.60.0.0/16', gw: '10.60.0.1' }],
      });
      expect(asked).toEqual([
        {
          socket: '/run/x/agent.sock',
          path: '/v1/cni/add',
          body: {
            owner: { cniNetwork: 'cluster', containerId: 'c0ffee', ifName: 'eth0' },
            netns: ENV.CNI_NETNS,
            pod: { namespace: 'a', name: 'web', uid: 'u1' },
            wanted: { by: 'pod', key: 'vl3.io/networks', text: 'red' },
            waitMs: 3000,
          },
        },
      ]);
    },
  );

  test("may list interfaces alone: there are runtimes that take every address for the pod's", async () => {
    const { result } = await run('ADD', { ...CONFIG, reportAddresses: false });
    expect(result.interfaces).toHaveLength(2);
    expect(result.ips).toBeUndefined();
  });

  test('asks for what its entry names where no annotation decides', async () => {
    const body = async (config: object) =>
      (await run('ADD', { ...CONFIG, networks: 'green', ...config })).asked[0]?.body;
    expect(await body({ runtimeConfig: {} })).toMatchObject({
      wanted: { by: 'configuration', text: 'green' },
    });
    expect(await body({ runtimeConfig: { [KEY]: {} } })).toMatchObject({ wanted: { text: 'green' } });
    expect(await body({})).toMatchObject({ wanted: { text: 'red' } });
    expect(await body({ runtimeConfig: { [KEY]: { 'vl3.io/networks': '' } } })).toBeUndefined();
  });

  test("looks for a namespace's default only for a pod that has no annotation of its own", async () => {
    const read: string[] = [];
    const readFile = (path: string) => {
      read.push(path);
      return '{"version":1,"namespaces":{"a":{"networkservicemesh.io":"kernel://blue"}}}';
    };
    const { asked } = await run('ADD', { ...CONFIG, runtimeConfig: { [KEY]: null } }, { readFile });
    expect(asked[0]?.body).toMatchObject({ wanted: { by: 'namespace', text: 'kernel://blue' } });
    expect(read).toEqual(['/run/vl3/namespaces.json']);
    await run('ADD', CONFIG, { readFile });
    await run('ADD', { ...CONFIG, runtimeConfig: {} }, { readFile });
    expect(read).toHaveLength(1);
  });
});

describe('what is wrong', () => {
  const deep = (levels: number) => `{"x":${'['.repeat(levels)}${']'.repeat(levels)}}`;
  test.each<[string, unknown, number]>([
    ['no input', '', 6],
    ['no JSON', '{', 6],
    ['no object', '[]', 7],
    ['a null', 'null', 7],
    ['depth', deep(65), 6],
    ['depth without end', '{"x":'.repeat(100_000), 6],
    ['no version', { name: 'x' }, 1],
    ['an old version', { ...CONFIG, cniVersion: '0.2.0' }, 1],
    ['a version that is a number', { ...CONFIG, cniVersion: 1 }, 7],
    ['no name', { ...CONFIG, name: undefined }, 7],
    ['a name that is a path', { ...CONFIG, name: '../x' }, 7],
    ['no previous result', { ...CONFIG, prevResult: undefined }, 7],
    ['a previous result that is text', { ...CONFIG, prevResult: 'x' }, 7],
    ['interfaces that are none', { ...CONFIG, prevResult: { interfaces: [1] } }, 7],
    ['addresses that are none', { ...CONFIG, prevResult: { ips: {} } }, 7],
    ['a socket that is a list', { ...CONFIG, socket: [] }, 7],
    ['a wait without end', { ...CONFIG, waitSeconds: 1e9 }, 7],
    ['a runtime configuration that is text', { ...CONFIG, runtimeConfig: 'x' }, 7],
    ['annotations that are a list', { ...CONFIG, runtimeConfig: { [KEY]: [] } }, 7],
  ])('%s is an error with its code', async (_, input, code) => {
    const ran = await run('ADD', input);
    expect(ran).toMatchObject({ code: 1, result: { code, msg: expect.stringMatching(/.{10}/) } });
    expect(ran.result.cniVersion).toMatch(/^1\.[01]\.0$/);
  });

  test.each<[string, Record<string, string>]>([
    ['CNI_COMMAND', { CNI_COMMAND: 'add' }],
    ['CNI_COMMAND', { CNI_COMMAND: 'toString' }],
    ['CNI_CONTAINERID', { CNI_CONTAINERID: '' }],
    ['CNI_CONTAINERID', { CNI_CONTAINERID: '../../x' }],
    ['CNI_NETNS', { CNI_NETNS: 'x' }],
    ['CNI_IFNAME', { CNI_IFNAME: 'a b' }],
    ['CNI_IFNAME', { CNI_IFNAME: 'sixteen-letters-' }],
  ])('%s in the environment is an error with code 4', async (variable, env) => {
    const { code, result } = await run('ADD', CONFIG, { env: { ...ENV, CNI_COMMAND: 'ADD', ...env } });
    expect({ code, result }).toMatchObject({
      code: 1,
      result: { code: 4, msg: expect.stringContaining(variable) },
    });
  });

  test('commands that a version does not know are refused', async () => {
    for (const [command, cniVersion] of [
      ['CHECK', '0.3.1'],
      ['GC', '1.0.0'],
      ['STATUS', '1.0.0'],
    ])
      expect(await run(command ?? '', { ...CONFIG, cniVersion })).toMatchObject({
        code: 1,
        result: { code: 1 },
      });
  });

  test('an agent that fails is an error of ADD and none of DEL', async () => {
    const ask = async (): Promise<never> => {
      throw new Error('boom');
    };
    expect(await run('ADD', CONFIG, { ask })).toMatchObject({ code: 1, result: { code: 999 } });
    expect(await run('DEL', CONFIG, { ask })).toMatchObject({ code: 0 });
  });

  test('any JSON is answered as CNI wants it', async () => {
    const some = fc.jsonValue({ maxDepth: 3 });
    const config = fc.record(
      {
        cniVersion: fc.constantFrom('1.0.0', '1.1.0', '0.3.1', 7, null),
        name: fc.constantFrom('x', '', 3),
        prevResult: fc.oneof(
          some,
          fc.record({ interfaces: some, ips: some, routes: some }, { requiredKeys: [] }),
        ),
        runtimeConfig: fc.oneof(
          some,
          fc.record({ [KEY]: fc.oneof(some, fc.constant({ 'vl3.io/networks': 'red' })) }),
        ),
        socket: some,
      },
      { requiredKeys: [] },
    );
    const command = fc.constantFrom('ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION');
    await fc.assert(
      fc.asyncProperty(command, config, async (name, input) => {
        const { code, result } = await run(name, input);
        if (code === 0) return;
        expect(result).toMatchObject({ code: expect.any(Number), msg: expect.any(String) });
      }),
      { numRuns: 500 },
    );
  });
});

describe('the process', () => {
  const start = (command: string | undefined, input: string | Uint8Array) =>
    spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN], {
      input,
      encoding: 'utf8',
      env: { ...ENV, ...(command === undefined ? {} : { CNI_COMMAND: command }) },
    });

  test('ends with 1 and an error on standard output for what is too long or not UTF-8', () => {
    const long = start('ADD', `{"x":"${'x'.repeat(MAX_INPUT_BYTES)}"}`);
    expect({ status: long.status, ...JSON.parse(long.stdout) }).toMatchObject({ status: 1, code: 6 });
    const binary = start('ADD', new Uint8Array([0x7b, 0xff, 0x7d]));
    expect({ status: binary.status, ...JSON.parse(binary.stdout) }).toMatchObject({ status: 1, code: 6 });
  });

  test('hands on a result that is larger than a pipe holds', () => {
    const prevResult = {
      interfaces: [],
      routes: Array.from({ length: 20_000 }, (_, i) => ({ dst: `10.0.0.${i}` })),
    };
    const { status, stdout } = start('ADD', JSON.stringify({ ...CONFIG, runtimeConfig: {}, prevResult }));
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ ...prevResult, cniVersion: '1.0.0' });
  });

  test('says what it is to a person', () => {
    const { status, stdout, stderr } = start(undefined, '');
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/vl3-cni is a CNI plugin/);
  });
});
