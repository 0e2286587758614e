// What an operator meets at the command line: help with examples, JSON that parses, and for everything that may be wrong
// one sentence with its remedy and the exit code that scripts go by.

import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { statusSchema } from '../../src/agent/local-messages.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Result } from '../lab/host.ts';
import type { Node } from '../lab/node.ts';
import { vl3 } from '../lab/program.ts';

const [OK, FAILED, USAGE, UNAVAILABLE] = [0, 1, 2, 3];

let domain: Domain;
let a1: Node;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  a1 = await domain.startNode('a1', { networks: ['red'] });
  await a1.pod('web', 'red');
}, 120_000);

afterAll(() => domain?.close());

/** Runs vl3 on the registry's host, where nothing of an agent is. */
const run = (...args: string[]): Promise<Result> => domain.host.tryRun(vl3(...args));

/** One line on stderr that fits, nothing on stdout, and the exit code. */
const expectRefusal = (result: Result, code: number, sentence: RegExp): void => {
  expect(result.stderr).toMatch(sentence);
  expect(result.stderr.trim().split('\n')).toHaveLength(1);
  expect(result).toMatchObject({ code, stdout: '' });
};

const scratch = (name: string): string => join(domain.lab.scratch, name);
const place = (name: string): string[] => [
  '--state-dir',
  scratch(`${name}-state`),
  '--run-dir',
  scratch(`${name}-run`),
];

test('help is printed, with examples', async () => {
  const { code, stdout, stderr } = await run('network', 'create', '--help');
  expect({ code, stderr }).toEqual({ code: OK, stderr: '' });
  expect(stdout).toMatch(/\nExamples:\n {2}vl3 network create /);
});

describe('JSON', () => {
  test.each([
    ['token list'],
    ['token create --node somebody'],
    ['network list'],
    ['network show red'],
    ['network update red --mtu 1400'],
    ['network create orange --pool-v4 10.90.0.0/16'],
    ['node list'],
    ['node show a1'],
    ['attachment list'],
    ['registry status'],
  ])('%s prints it', async (command) => {
    const shown = await domain.adminJson<object>(...command.split(' '));
    expect(Object.keys(shown).length).toBeGreaterThan(0);
  });

  test('status prints it, as people see it and as its exit code says', async () => {
    const json = await a1.tryVl3('status', '-o', 'json');
    expect(json).toMatchObject({ code: OK, stderr: '' });
    const status = statusSchema.parse(JSON.parse(json.stdout));
    expect(status.networks).toMatchObject([{ name: 'red', state: 'up', attachments: 1 }]);
    const text = await a1.tryVl3('status');
    expect(text.code).toBe(OK);
    expect(text.stdout).toMatch(/^healthy$/m);
    for (const gateway of status.networks[0]?.gateways ?? []) expect(text.stdout).toContain(gateway);
  });
});

describe('a wrong command line', () => {
  test.each([
    ['an unknown command', ['fly'], /unknown command 'fly'/],
    ['an unknown option', ['network', 'list', '--colour'], /unknown option '--colour'/],
    ['a missing argument', ['network', 'show'], /missing required argument 'name'/],
    ['a missing option', ['attach', '--netns', '/run/netns/x'], /required option '--network <name>'/],
    ['an unknown format', ['node', 'list', '-o', 'xml'], /Allowed choices are table, json/],
    ['a port that is none', ['agent', 'run', '--port', '70000'], /whole number from 1 to 65535/],
    [
      'a trust domain that is none',
      ['registry', 'run', '--trust-domain', 'Not one'],
      /'Not one' is invalid. Use at most/,
    ],
    ['an address that is none', ['agent', 'run', '--advertise', 'http://x'], /Write an address like/],
    [
      'a duration that is none',
      ['token', 'create', '--ttl', 'soon'],
      /Write a duration like 90s, 15m, 1h or 7d/,
    ],
    ['a network without a pool', ['network', 'create', 'blue'], /--pool-v4, --pool-v6 or both/],
    ['a network named twice', ['run', '--network', 'red', '--network', 'red', '--', 'true'], /named twice/],
    ['half a place', ['detach', '--network', 'red'], /by --id, or by --network and --netns together/],
  ])('%s is explained and ends with code 2', async (_, args, sentence) => {
    const { code, stderr, stdout } = await run(...args);
    expect(stderr).toMatch(sentence);
    expect({ code, stdout }).toEqual({ code: USAGE, stdout: '' });
  });
});

describe('networks', () => {
  const v4 = (pool: string, ...rest: string[]) => ['--pool-v4', pool, ...rest];
  test.each([
    ['a pool without a length', v4('10.80.0.0'), /pool_v4: "10\.80\.0\.0" is not a prefix: write it like/],
    ['a pool with bits outside it', v4('10.80.0.1/16'), /10\.80\.0\.0\/16/],
    ['a pool that is no prefix', v4('10.80.0.0/33'), /10\.80\.0\.0\/33/],
    ['a pool that is no address', v4('300.0.0.0/8'), /pool_v4: "300\.0\.0\.0" is not an IP address/],
    ['a v6 pool for v4', v4('fd00:80::/48'), /is an IPv6 prefix: give an IPv4 one/],
    ['a v4 pool for v6', ['--pool-v6', '10.80.0.0/16'], /is an IPv4 prefix: give an IPv6 one/],
    ['loopback addresses', v4('127.0.0.0/8'), /127\.0\.0\.0\/8/],
    ['multicast addresses', v4('224.0.0.0/8'), /224\.0\.0\.0\/8/],
    ['everything', v4('0.0.0.0/0'), /pool_v4: use a length from \/8 to \/30, not \/0/],
    [
      'a node prefix wider than the pool',
      v4('10.80.0.0/16', '--node-prefix-length-v4', '12'),
      /node_prefix_length_v4: use 16 to 30/,
    ],
    [
      'an excluded prefix outside the pool',
      v4('10.80.0.0/16', '--exclude', '10.99.0.0/24'),
      /10\.99\.0\.0\/24/,
    ],
    ['an MTU that is too small', v4('10.80.0.0/16', '--mtu', '600'), /mtu.*1280/],
  ])('are not made of %s', async (_, options, sentence) => {
    expectRefusal(await domain.tryAdmin(['network', 'create', 'blue', ...options]), FAILED, sentence);
  });

  test.each([
    ['made twice', ['network', 'create', 'red', '--pool-v4', '10.80.0.0/16'], /"red".*(exists|already)/],
    ['made of a name that is none', ['network', 'create', 'Red_1', '--pool-v4', '10.80.0.0/16'], /DNS label/],
    ['shown when nobody made them', ['network', 'show', 'blue'], /there is no network "blue"/],
    ['deleted when nobody made them', ['network', 'delete', 'blue'], /there is no network "blue"/],
    ['deleted while a node is on them', ['network', 'delete', 'red'], /a1/],
  ])('are not %s', async (_, args, sentence) => {
    expectRefusal(await domain.tryAdmin(args), FAILED, sentence);
  });

  test('that a node asks for and nobody made are pending, with the reason, and joined once they are there', async () => {
    const node = await domain.startNode('early', { networks: ['violet'] });
    await vi.waitFor(async () => {
      const { code, stdout } = await node.tryVl3('status');
      expect(stdout).toMatch(/^network violet: pending \(there is no network "violet"/m);
      expect(code).toBe(4);
    }, SOON);
    await domain.createNetwork('violet', '--pool-v4', '10.81.0.0/16');
    await vi.waitFor(async () => expect((await node.status()).networks[0]?.state).toBe('up'), SOON);
    expect((await node.tryVl3('status')).code).toBe(OK);
  });
});

describe('the admin', () => {
  test('without a credential is told where it is looked for', async () => {
    const result = await run('node', 'list', '--admin', scratch('nothing.json'));
    expectRefusal(result, FAILED, /nothing\.json/);
  });

  test('with a registry that does not answer is told which, with code 3', async () => {
    const credential = scratch('elsewhere.json');
    copyFileSync(domain.adminFile, credential);
    await domain.stopRegistry();
    try {
      const result = await run('node', 'list', '--admin', credential);
      expectRefusal(result, UNAVAILABLE, /no registry answers at 198\.51\.100\.5:7443 .*: is it running/);
    } finally {
      await domain.startRegistry();
    }
  });

  test.each([
    ['a node nobody knows', ['node', 'show', 'ghost'], /there is no node "ghost": see `vl3 node list`/],
    [
      'a token nobody made',
      ['token', 'revoke', '0123456789abcdef'],
      /there is no token 0123456789abcdef: see/,
    ],
    ['a token id that is none', ['token', 'revoke', 'x'], /16 digits that `vl3 token list` shows/],
  ])('asking for %s is told so', async (_, args, sentence) => {
    expectRefusal(await domain.tryAdmin(args), FAILED, sentence);
  });
});

describe('the registry', () => {
  const registry = (name: string, port: number) => [
    'registry',
    'run',
    '--trust-domain',
    'other.example',
    '--state-dir',
    scratch(name),
    '--listen',
    `198.51.100.5:${port}`,
  ];

  test('does not start on a port that is taken', async () => {
    expectRefusal(await run(...registry('other', 7443)), FAILED, /198\.51\.100\.5:7443.*--listen/);
  });

  test('does not start on the state of another that runs', async () => {
    expectRefusal(
      await run(...registry('registry', 7444)),
      FAILED,
      /another registry has it open.*--state-dir/,
    );
  });
});

describe('the agent', () => {
  test('without a token says how to get one', async () => {
    const result = await run('agent', 'run', ...place('untold'));
    expectRefusal(
      result,
      FAILED,
      /give it a join token with --token \(an admin makes one with "vl3 token create"\)/,
    );
  });

  test('with a token file that is not there says so', async () => {
    const result = await run('agent', 'run', ...place('untold'), '--token-file', '/nonexistent');
    expectRefusal(result, FAILED, /cannot read the token file \/nonexistent: check --token-file/);
  });

  test('does not start on a port that is taken', async () => {
    const token = await domain.token('--node', 'second');
    const prefix = ['--netns-prefix', domain.lab.owns(`${domain.lab.name}-second-`)];
    const command = vl3('agent', 'run', ...place('second'), ...prefix, '--name', 'second', '--token', token);
    const result = await a1.host.tryRun(command);
    expect(result.stderr).toMatch(/^vl3: .*51820.*--port/m);
    expect(result.code).toBe(FAILED);
  });

  test('that enrolled under another name keeps it', async () => {
    await a1.agent.stop();
    const result = await a1.host.tryRun(vl3('agent', 'run', ...a1.place, '--name', 'a9'));
    expectRefusal(result, FAILED, /this node enrolled as a1: leave --name out, or run "vl3 agent clean"/);
    await a1.start();
  });

  test('that is not there is missed with code 3 by all who need it', async () => {
    const socket = ['--socket', scratch('no.sock')];
    for (const args of [
      ['status', ...socket],
      ['attach', ...socket, '--network', 'red', '--netns', '/run/netns/x'],
      ['detach', ...socket, '--id', 'x'],
      ['run', ...socket, '--network', 'red', '--', 'true'],
    ])
      expectRefusal(
        await run(...args),
        UNAVAILABLE,
        /no agent answers on .*no\.sock: start one with "vl3 agent run"/,
      );
  });

  test('without /dev/net/tun says what is missing, and leaves the machine as it was', async () => {
    const token = await domain.token('--node', 'tunless');
    const prefix = ['--netns-prefix', domain.lab.owns(`${domain.lab.name}-tunless-`)];
    const command = vl3(
      'agent',
      'run',
      ...place('tunless'),
      ...prefix,
      '--network',
      'red',
      '--name',
      'tunless',
      '--token',
      token,
    );
    const site = await domain.cloud.node('tunless', 90);
    const hidden = [
      'unshare',
      '--mount',
      'sh',
      '-c',
      'mount -t tmpfs none /dev/net && exec "$@"',
      'sh',
      ...command,
    ];
    const agent = site.host.start(hidden);
    await agent.printed(/"network is not available"|^vl3: /m, SOON.timeout);
    expect(agent.output()).toMatch(/\/dev\/net\/tun.*modprobe tun/);
    await agent.stop();
  });
});

describe('somebody who is not root', () => {
  const asNobody = (...args: string[]): Promise<Result> =>
    domain.host.tryRun(
      ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', ...vl3(...args)],
      {
        env: { HOME: '/nonexistent' },
      },
    );

  test.each([
    [
      'run an agent',
      ['agent', 'run', '--state-dir', '/var/lib/vl3-nobody'],
      /run this as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN/,
    ],
    [
      'run a registry in a directory of root',
      ['registry', 'run', '--trust-domain', 'x.example', '--state-dir', '/var/lib/vl3-nobody'],
      /vl3-nobody/,
    ],
    ['ask the agent', ['status', '--socket', '/root/agent.sock'], /is root's: run this as root/],
  ])('cannot %s, and is told why', async (_, args, sentence) => {
    expectRefusal(await asNobody(...args), FAILED, sentence);
  });
});

describe('the launcher', () => {
  /** A copy of it, and a Node that says it is 18. */
  const launch = async (name: string, ...files: string[]): Promise<Result> => {
    const directory = scratch(name);
    const bin = join(directory, 'bin');
    mkdirSync(bin, { recursive: true });
    copyFileSync(resolve(import.meta.dirname, '../../cmd/vl3/vl3'), join(directory, 'vl3'));
    writeFileSync(join(bin, 'node'), '#!/bin/sh\n[ "$1" = -p ] && echo 18 || echo v18.20.4\n', {
      mode: 0o755,
    });
    for (const file of files) writeFileSync(join(directory, file), '');
    const env = { PATH: `${bin}:/usr/bin:/bin`, VL3_NODE: '' };
    return await domain.lab.tryRun(['sh', join(directory, 'vl3'), 'status'], { env });
  };

  test('names a Node that is too old, and the one it takes', async () => {
    const sentence = /needs Node 24 or newer, found v18\.20\.4: install it, or name it with VL3_NODE/;
    expectRefusal(await launch('old-node', 'main.js'), FAILED, sentence);
  });

  test('of a clone that is not set up says what to run', async () => {
    expectRefusal(await launch('clone'), FAILED, /this clone is not set up: run "npm run setup" in \//);
  });
});
