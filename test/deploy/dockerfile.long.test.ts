// The Dockerfile itself, built to its end by podman. Of the images that it begins with none can be pulled where vl3 is developed: a
// Debian of the same release with the same Node takes their place. Brings some 200 MB of packages; nothing is installed.

import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { VERSION } from '../../src/version.ts';
import { makeImage } from '../lab/image.ts';
import { Lab } from '../lab/lab.ts';
import { ROOT } from './chart.ts';

const MINUTES = 1_500_000;
const NPM = '11.6.2';
const CERTIFICATES = 'etc/ssl/certs/ca-certificates.crt';

let lab: Lab;
const at = (...path: string[]): string => join(lab.scratch, ...path);
const env = {
  PATH: [dirname(process.execPath), join(ROOT, 'node_modules/.bin'), process.env['PATH']].join(delimiter),
};
const run = (command: readonly string[], cwd = ROOT): Promise<string> =>
  lab.run(['sh', '-c', 'cd "$0" && exec "$@"', cwd, ...command], { timeoutMs: MINUTES, env });
/** Podman with all that it keeps below the run's directory, and no mount that anybody else sees. */
const podman = (...args: string[]): Promise<string> => {
  const place = ['root', 'runroot', 'tmpdir'].flatMap((name) => [`--${name}`, at('podman', name)]);
  const drivers = ['--storage-driver', 'vfs', '--cgroup-manager', 'cgroupfs', '--events-backend', 'none'];
  const alone = 'mount --make-private / && mount -t tmpfs none /var/lib && exec "$@"';
  return run([
    ...['unshare', '--mount', '--propagation', 'unchanged', 'sh', '-c', alone, 'sh'],
    ...['podman', ...place, ...drivers, ...args],
  ]);
};

/** A directory that an image begins with: Debian, Node and npm. */
const makeBase = async (directory: string): Promise<void> => {
  const release = /^VERSION_CODENAME=(\w+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? '';
  const mirrors = await run([
    'apt-get',
    'indextargets',
    '--format',
    '$(CODENAME) $(REPO_URI)',
    'Created-By: Packages',
  ]);
  const mirror = new RegExp(`^${release} (.+)$`, 'm').exec(mirrors)?.[1] ?? '';
  mkdirSync(at('debootstrap'));
  await run(['apt-get', 'download', '-q', '-o', 'APT::Sandbox::User=root', 'debootstrap'], at('debootstrap'));
  for (const name of readdirSync(at('debootstrap')))
    await run(['dpkg', '-x', name, 'unpacked'], at('debootstrap'));
  const place = at('debootstrap/unpacked/usr');
  const script = `DEBOOTSTRAP_DIR=${place}/share/debootstrap exec sh ${place}/sbin/debootstrap "$@"`;
  const packages = ['--variant=minbase', '--include=ca-certificates'];
  await run(['unshare', '--mount', 'sh', '-c', script, 'sh', ...packages, release, directory, mirror]);
  copyFileSync(process.execPath, join(directory, 'usr/local/bin/node'));
  const npm = join(directory, 'usr/local/lib/node_modules/npm');
  mkdirSync(npm, { recursive: true });
  await run(['npm', 'pack', `npm@${NPM}`, '--pack-destination', lab.scratch], npm);
  await run(['tar', 'xzf', at(`npm-${NPM}.tgz`), '--strip-components', '1'], npm);
  symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(directory, 'usr/local/bin/npm'));
  // Where this machine goes by a proxy, so does what is built on it.
  copyFileSync(join('/', CERTIFICATES), join(directory, CERTIFICATES));
  cpSync('/etc/apt/apt.conf.d', join(directory, 'etc/apt/apt.conf.d'), { recursive: true });
  const npmrc = join(process.env['HOME'] ?? '/root', '.npmrc');
  try {
    copyFileSync(npmrc, join(directory, 'root/.npmrc'));
  } catch {
    // It has none.
  }
};

beforeAll(async () => {
  lab = Lab.create();
  await makeBase(at('base'));
  mkdirSync(at('podman'));
  const path = 'PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin';
  await run(['tar', '-C', at('base'), '--numeric-owner', '-cf', at('base.tar'), '.']);
  await podman(
    'import',
    '--change',
    `ENV ${path}`,
    '--change',
    `ENV NODE_EXTRA_CA_CERTS=/${CERTIFICATES}`,
    at('base.tar'),
    'localhost/base',
  );
  const images = ['NODE_IMAGE', 'NODE_SLIM_IMAGE'].flatMap((name) => [
    '--build-arg',
    `${name}=localhost/base`,
  ]);
  const platform = ['--build-arg', 'BUILDPLATFORM=linux/amd64', '--platform', 'linux/amd64'];
  const file = [
    '-f',
    'deploy/container/Dockerfile',
    '--ignorefile',
    'deploy/container/Dockerfile.dockerignore',
  ];
  await podman(
    'build',
    '--isolation',
    'chroot',
    '--network',
    'host',
    ...platform,
    ...file,
    ...images,
    '-t',
    'localhost/vl3',
    '.',
  );
}, MINUTES);

afterAll(() => lab?.close());

const listOf = async (directory: string): Promise<string[]> =>
  (await run(['find', '.', '(', '-type', 'f', '-o', '-type', 'l', ')'], directory))
    .split('\n')
    // npm's own notes, what no program reads, and tests that a package brings.
    .filter((path) => !/\/node_modules\/\.|\/\.npmrc$|\/usr\/share\/doc\/|\/test\/fixtures\//.test(path))
    .sort();

test(
  'it holds what tests take it for, and runs as nobody',
  async () => {
    const [{ Config: config }] = JSON.parse(await podman('image', 'inspect', 'localhost/vl3'));
    expect(config).toMatchObject({ User: '65532:65532', Entrypoint: ['/usr/local/bin/vl3'] });
    await podman('save', '--format', 'oci-dir', '-o', at('saved'), 'localhost/vl3');
    const { manifests } = JSON.parse(readFileSync(at('saved/index.json'), 'utf8'));
    const blob = (digest: string): string => at('saved/blobs', digest.replace(':', '/'));
    const { layers } = JSON.parse(readFileSync(blob(manifests[0].digest), 'utf8'));
    mkdirSync(at('built'));
    for (const { digest } of layers) await run(['tar', '-C', at('built'), '-xf', blob(digest)]);
    makeImage(at('made'));
    expect(await listOf(at('built'))).toEqual(await listOf(at('made')));
    const version = ['setpriv', '--reuid', '65532', '--regid', '65532', '--clear-groups', 'vl3', '--version'];
    const inside = 'mount --rbind /dev "$0/dev" && mount --rbind /proc "$0/proc" && exec chroot "$0" "$@"';
    const clean = ['env', '-i', 'PATH=/usr/local/bin:/usr/sbin:/usr/bin'];
    expect(await run(['unshare', '--mount', ...clean, 'sh', '-c', inside, at('built'), ...version])).toBe(
      `${VERSION}\n`,
    );
  },
  MINUTES,
);
