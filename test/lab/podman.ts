// A real container runtime on a host of the lab: podman with its CNI backend. Everything of it is below the run's scratch
// directory; what it insists on keeping elsewhere is in a mount namespace of its own, which goes with its process.

import { execFileSync } from 'node:child_process';
import { copyFileSync, globSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { removeCgroup } from './cgroup.ts';
import type { Daemon } from './daemon.ts';
import type { Host } from './host.ts';
import type { Lab } from './lab.ts';

export class Podman {
  /** For CNI configuration and plugins. */
  readonly netDirectory: string;
  readonly binDirectory: string;
  /** In /run/netns, and not of its containers. */
  readonly #others: ReadonlySet<string>;
  readonly #host: Host;
  readonly #directory: string;
  readonly #cgroup: string;

  constructor(lab: Lab, host: Host) {
    this.#others = new Set(readdirSync('/run/netns'));
    this.#host = host;
    this.#cgroup = `${lab.name}-${host.name}`;
    this.#directory = join(lab.scratch, `podman-${host.name}`);
    this.netDirectory = join(this.#directory, 'net.d');
    this.binDirectory = join(this.#directory, 'bin');
    for (const name of [
      'net.d',
      'bin',
      'tmp',
      'rootfs/bin',
      'rootfs/proc',
      'rootfs/sys',
      'rootfs/dev',
      'rootfs/etc',
    ])
      mkdirSync(join(this.#directory, name), { recursive: true });
    this.#makeRootfs();
    this.#configure();
  }

  /** Runs a command in a container of this name, as a process that ends when the container has been removed. */
  start(name: string, command: readonly string[]): Daemon {
    return this.#host.start(this.#command(name, command), { env: this.#env });
  }

  async run(name: string, command: readonly string[]) {
    return await this.#host.tryRun(this.#command(name, command), { env: this.#env });
  }

  /** What is left of containers in the runtime's directories. */
  leftovers(): string[] {
    const addresses = globSync(join(this.#directory, 'ipam/*/10.89.*'));
    const cgroups = globSync(`/sys/fs/cgroup/{*/,}${this.#cgroup}/libpod-*/`).filter(
      (path) => !path.includes('conmon'),
    );
    return [...addresses, ...cgroups, ...this.#namespaces];
  }

  /** Removes what it has outside of the scratch directory. Blocks. */
  close(): void {
    // A test that failed may have left some.
    removeCgroup(this.#cgroup, () => {
      for (const name of this.#namespaces) execFileSync('ip', ['netns', 'delete', name]);
    });
  }

  get #namespaces(): string[] {
    return readdirSync('/run/netns').filter((name) => name.startsWith('netns-') && !this.#others.has(name));
  }

  get #env(): Record<string, string> {
    return { CONTAINERS_CONF: join(this.#directory, 'containers.conf') };
  }

  #makeRootfs(): void {
    const bin = join(this.#directory, 'rootfs/bin');
    copyFileSync('/bin/busybox', join(bin, 'busybox'));
    for (const name of ['sh', 'ip', 'ping', 'sleep', 'cat']) symlinkSync('busybox', join(bin, name));
  }

  #configure(): void {
    const lines = [
      [
        'engine',
        'lock_type = "file"',
        'events_logger = "none"',
        'cgroup_manager = "cgroupfs"',
        'runtime = "runc"',
      ],
      [
        'network',
        'network_backend = "cni"',
        'default_network = "lab"',
        `network_config_dir = "${this.netDirectory}"`,
        `cni_plugin_dirs = ["${this.binDirectory}", "/usr/lib/cni"]`,
      ],
    ].map(([section, ...rest]) => [`[${section}]`, ...rest].join('\n'));
    writeFileSync(join(this.#directory, 'containers.conf'), `${lines.join('\n')}\n`);
    const ipam = {
      type: 'host-local',
      dataDir: join(this.#directory, 'ipam'),
      ranges: [[{ subnet: '10.89.0.0/24' }]],
      routes: [{ dst: '0.0.0.0/0' }],
    };
    const bridge = { type: 'bridge', bridge: 'cnilab0', isGateway: true, ipMasq: false, ipam };
    const list = { cniVersion: '1.0.0', name: 'lab', plugins: [bridge] };
    writeFileSync(join(this.netDirectory, '10-lab.conflist'), JSON.stringify(list, null, 2));
  }

  #command(name: string, command: readonly string[]): string[] {
    const place = ['--root', 'root', '--runroot', 'run', '--tmpdir', 'tmp'].map((word, i) =>
      i % 2 === 0 ? word : join(this.#directory, word),
    );
    const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024', '--log-driver', 'none'];
    const podman = [
      ...['podman', ...place, '--storage-driver', 'vfs', 'run', '--rm', '--name', name, '--network', 'lab'],
      ...[...limits, '--cgroup-parent', `/${this.#cgroup}`],
      ...['--rootfs', join(this.#directory, 'rootfs'), ...command],
    ];
    // libcni's cache is in /var/lib; namespaces in /run/netns are to be seen by the agent, as on a node.
    const script = 'mount --make-private / && mount -t tmpfs none /var/lib && exec "$@"';
    return [
      'unshare',
      '--mount',
      '--propagation',
      'unchanged',
      'sh',
      '-c',
      script,
      basename(name),
      ...podman,
    ];
  }
}
