// containerd on a host of the lab, driven as a kubelet would: sandboxes with the cluster's own CNI plugin, and no containers in
// them. Everything of it is below the run's scratch directory but /run/netns, which is the node's, and an empty directory where
// its shims insist on having their sockets, over which it mounts one of its own.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { removeCgroup } from './cgroup.ts';
import { hasImage, removePodSandbox, runPodSandbox, runtimeVersion, stopPodSandbox } from './cri-client.ts';
import type { Daemon } from './daemon.ts';
import { eventually } from './eventually.ts';
import type { Host } from './host.ts';
import type { Lab } from './lab.ts';

const PAUSE = 'lab.example/pause:1';
const SHIMS = '/run/containerd';
const PATIENCE = { timeout: 60_000, interval: 100 };

export interface SandboxOf {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
}

export class Containerd {
  readonly socket: string;
  readonly netDirectory: string;
  readonly binDirectory: string;
  readonly #lab: Lab;
  readonly #host: Host;
  readonly #directory: string;
  /** In /run/netns, and not of its pods. */
  readonly #others: ReadonlySet<string>;
  #daemon: Daemon | undefined;
  #attempts = 0;

  private constructor(lab: Lab, host: Host) {
    this.#lab = lab;
    this.#host = host;
    this.#directory = join(lab.scratch, `containerd-${host.name}`);
    this.socket = join(this.#directory, 'containerd.sock');
    this.netDirectory = join(this.#directory, 'net.d');
    this.binDirectory = join(this.#directory, 'bin');
    this.#others = new Set(readdirSync('/run/netns'));
  }

  static async start(lab: Lab, host: Host): Promise<Containerd> {
    const made = new Containerd(lab, host);
    for (const name of ['net.d', 'bin', 'logs']) mkdirSync(join(made.#directory, name), { recursive: true });
    for (const name of ['bridge', 'host-local', 'loopback'])
      copyFileSync(join('/usr/lib/cni', name), join(made.binDirectory, name));
    made.#configure();
    made.#launch();
    await eventually(async () => void (await runtimeVersion(made.socket)), PATIENCE);
    const image = made.#makeImage();
    await host.run([
      'ctr',
      '--address',
      made.socket,
      '--namespace',
      'k8s.io',
      'images',
      'import',
      ...['--snapshotter', 'native'],
      image,
    ]);
    await eventually(async () => {
      if (!(await hasImage(made.socket, PAUSE))) throw new Error(`the runtime has no ${PAUSE}`);
    }, PATIENCE);
    return made;
  }

  /** The sandbox's id, once the runtime has it running. Rejects with what the runtime says. */
  async run(pod: SandboxOf, annotations: Readonly<Record<string, string>> = {}): Promise<string> {
    this.#attempts += 1;
    return await runPodSandbox(this.socket, {
      ...pod,
      annotations,
      attempt: this.#attempts,
      logDirectory: join(this.#directory, 'logs'),
      cgroupParent: `/${this.#cgroup}`,
    });
  }

  /** Stops it and removes it, as a kubelet does in the end. */
  async stop(id: string): Promise<void> {
    await stopPodSandbox(this.socket, id);
    await removePodSandbox(this.socket, id);
  }

  /** Its pods' namespaces. */
  namespaces(): string[] {
    return readdirSync('/run/netns').filter((name) => name.startsWith('cni-') && !this.#others.has(name));
  }

  /** Ends it and all that it runs. */
  async close(): Promise<void> {
    await this.#daemon?.stop('SIGTERM', 20_000);
    removeCgroup(this.#cgroup, () => {
      for (const name of this.namespaces()) execFileSync('ip', ['netns', 'delete', name]);
    });
    try {
      rmdirSync(SHIMS);
    } catch {
      // It was not made, or is somebody's.
    }
  }

  get #cgroup(): string {
    return `${this.#lab.name}-${this.#host.name}`;
  }

  #launch(): void {
    const alone = `mount --make-private / && mkdir -p ${SHIMS} && mount -t tmpfs none ${SHIMS} && mount -t tmpfs none /var/lib && exec "$@"`;
    this.#daemon = this.#host.start([
      ...['unshare', '--mount', '--propagation', 'unchanged', 'sh', '-c', alone, 'sh'],
      ...['containerd', '--config', join(this.#directory, 'config.toml')],
    ]);
  }

  #configure(): void {
    const at = (name: string): string => JSON.stringify(join(this.#directory, name));
    const cri = 'plugins."io.containerd.grpc.v1.cri"';
    const lines = [
      'version = 2',
      `root = ${at('root')}`,
      `state = ${at('state')}`,
      'disabled_plugins = ["io.containerd.internal.v1.opt"]',
      '[grpc]',
      `address = ${JSON.stringify(this.socket)}`,
      `[${cri}]`,
      `sandbox_image = "${PAUSE}"`,
      'restrict_oom_score_adj = true',
      'disable_apparmor = true',
      `[${cri}.containerd]`,
      'snapshotter = "native"',
      `[${cri}.containerd.runtimes.runc]`,
      'runtime_type = "io.containerd.runc.v2"',
      `[${cri}.cni]`,
      `bin_dir = ${at('bin')}`,
      `conf_dir = ${at('net.d')}`,
    ];
    writeFileSync(join(this.#directory, 'config.toml'), `${lines.join('\n')}\n`);
    const ipam = {
      type: 'host-local',
      dataDir: join(this.#directory, 'ipam'),
      ranges: [[{ subnet: '10.88.0.0/24' }]],
      routes: [{ dst: '0.0.0.0/0' }],
    };
    const bridge = { type: 'bridge', bridge: 'cnilab1', isGateway: true, ipMasq: false, ipam };
    const list = { cniVersion: '1.0.0', name: 'cluster', plugins: [bridge] };
    writeFileSync(join(this.netDirectory, '10-cluster.conflist'), JSON.stringify(list, null, 2));
  }

  /** An image of one layer, in which busybox waits. */
  #makeImage(): string {
    const at = (name: string): string => join(this.#directory, name);
    mkdirSync(at('layer'), { recursive: true });
    copyFileSync('/bin/busybox', at('layer/busybox'));
    execFileSync('tar', ['-C', at('layer'), '-cf', at('layer.tar'), 'busybox']);
    const digest = createHash('sha256')
      .update(readFileSync(at('layer.tar')))
      .digest('hex');
    const config = {
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: { Entrypoint: ['/busybox', 'sleep', '1000000'] },
      rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
    };
    writeFileSync(at('config.json'), JSON.stringify(config));
    const manifest = [{ Config: 'config.json', RepoTags: [PAUSE], Layers: ['layer.tar'] }];
    writeFileSync(at('manifest.json'), JSON.stringify(manifest));
    execFileSync('tar', [
      '-C',
      this.#directory,
      '-cf',
      at('pause.tar'),
      'manifest.json',
      'config.json',
      'layer.tar',
    ]);
    return at('pause.tar');
  }
}
