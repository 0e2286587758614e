// A node of a Kubernetes cluster in the lab, as kind makes them of containers: a host's network namespace, processes and a view
// of the file system of its own, in which containerd, kubelet and kube-proxy find every directory where they expect it, empty.
// It goes with its first process; of the machine it holds a cgroup only.

import { execFileSync } from 'node:child_process';
import { copyFileSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { removeCgroup } from '../cgroup.ts';
import type { Daemon } from '../daemon.ts';
import { eventually } from '../eventually.ts';
import type { Host, Result } from '../host.ts';
import type { Lab } from '../lab.ts';
import { programOf } from './programs.ts';

export const PAUSE = 'registry.k8s.io/pause:3.10';
const PATIENCE = { timeout: 120_000, interval: 300 };

export interface KindNodeOptions {
  readonly lab: Lab;
  readonly host: Host;
  /** What Kubernetes calls it. */
  readonly name: string;
  readonly address: string;
  /** Of its pods, as three numbers: "10.244.1". */
  readonly podRange: string;
  /** How its programs reach the API server. */
  readonly kubeconfig: string;
  readonly proxyKubeconfig: string;
  readonly clusterDns: string;
  readonly clusterRange: string;
  /** Whether it takes only what tolerates a control plane. */
  readonly isTainted: boolean;
  /** Images in archives. */
  readonly images: readonly string[];
}

/**
 * What it makes of the machine it is on: no file of the machine's is written, and of its settings the kubelet finds what it would
 * set. `$1`: a directory for it.
 */
const SCRIPT = `
  mount --make-rprivate /
  mkdir -p "$1/run" "$1/etc" "$1/work"
  mount -t tmpfs tmpfs "$1/run"
  mkdir -p "$1/run/vl3-lab" "$1/run/netns" "$1/run/lock"
  mount --rbind /run/vl3-lab "$1/run/vl3-lab"
  mount --rbind "$1/run" /run
  mount -t tmpfs tmpfs /var/lib
  mount -t tmpfs tmpfs /var/log
  mount -t tmpfs tmpfs /opt
  mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/work" overlay /etc
  mkdir -p -m 777 /var/lib/local-path
  mkdir -p /var/lib/kubelet /var/lib/containerd /opt/cni/bin /etc/cni/net.d /var/log/pods
  cp /usr/lib/cni/bridge /usr/lib/cni/host-local /usr/lib/cni/loopback /usr/lib/cni/portmap /opt/cni/bin/
  cp "$1/10-kindnet.conflist" /etc/cni/net.d/
  set_here() { mkdir -p "$1/set"; printf '%s\\n' "$3" >"$1/set/\${2##*/}"; mount --bind "$1/set/\${2##*/}" "/proc/sys/$2"; }
  set_here "$1" vm/overcommit_memory 1; set_here "$1" vm/panic_on_oom 0
  set_here "$1" kernel/panic 10; set_here "$1" kernel/panic_on_oops 1
  set_here "$1" kernel/keys/root_maxkeys 1000000; set_here "$1" kernel/keys/root_maxbytes 25000000
  mount --make-rshared /
  echo ready
  while :; do sleep 1000 & wait $!; done`;

export class KindNode {
  readonly name: string;
  readonly address: string;
  readonly host: Host;
  readonly #options: KindNodeOptions;
  readonly #directory: string;
  #machine: Daemon | undefined;
  #init = 0;

  constructor(options: KindNodeOptions) {
    this.#options = options;
    this.name = options.name;
    this.address = options.address;
    this.host = options.host;
    this.#directory = join(options.lab.scratch, `kind-${options.name}`);
  }

  /** Resolves once its kubelet runs. */
  async start(): Promise<void> {
    mkdirSync(this.#directory, { recursive: true });
    this.#configure();
    const { host } = this;
    await host.set({ 'ipv4/ip_forward': 1 });
    this.#machine = host.start([
      ...['unshare', '--mount', '--pid', '--fork', '--mount-proc', '--kill-child'],
      ...['sh', '-ec', SCRIPT, 'sh', this.#directory],
    ]);
    await this.#machine.printed(/^ready$/m);
    this.#init = Number(execFileSync('pgrep', ['-P', String(this.#machine.pid)], { encoding: 'utf8' }));
    this.#launch('containerd', '--config', join(this.#directory, 'containerd.toml'));
    await eventually(async () => void (await this.run('ctr', 'version')), PATIENCE);
    for (const image of this.#options.images) await this.load(image);
    this.#launch(
      programOf('kubelet'),
      ...['--config', join(this.#directory, 'kubelet.yaml'), '--kubeconfig', this.#options.kubeconfig],
      ...['--hostname-override', this.name, '--node-ip', this.address],
    );
    this.#launch(programOf('kube-proxy'), '--config', join(this.#directory, 'proxy.yaml'));
  }

  /** Makes an image of an archive known to its runtime. */
  async load(archive: string): Promise<void> {
    await this.run('ctr', '--namespace', 'k8s.io', 'images', 'import', archive);
  }

  /** Runs a command among its processes, in its file system. */
  async run(...command: string[]): Promise<string> {
    return await this.host.run(this.#inside(command), { timeoutMs: 120_000 });
  }

  async tryRun(...command: string[]): Promise<Result> {
    return await this.host.tryRun(this.#inside(command), { timeoutMs: 120_000 });
  }

  /** A path of its file system, seen from the machine. */
  path(inside: string): string {
    return `/proc/${this.#init}/root${inside}`;
  }

  /** What its programs have said last. */
  logs(): string {
    return globSync(join(this.#options.lab.scratch, `${this.host.name}-*.log`))
      .map((path) => `--- ${path}\n${readFileSync(path, 'utf8').slice(-3000)}`)
      .join('\n');
  }

  /** Kills all that runs on it, and what it has of the machine goes. Blocks. */
  close(): void {
    if (this.#init > 0) {
      try {
        process.kill(this.#init, 'SIGKILL');
      } catch {
        // It has ended.
      }
    }
    removeCgroup(this.#cgroup);
  }

  get #cgroup(): string {
    return `${this.#options.lab.name}-${this.name}`;
  }

  #inside(command: readonly string[]): string[] {
    return ['nsenter', '--target', String(this.#init), '--mount', '--pid', '--', ...command];
  }

  #launch(...command: string[]): void {
    this.host.start(this.#inside(command));
  }

  #configure(): void {
    const at = (name: string): string => join(this.#directory, name);
    const { proxyKubeconfig, clusterDns, clusterRange, podRange } = this.#options;
    const cri = 'plugins."io.containerd.grpc.v1.cri"';
    writeFileSync(
      at('containerd.toml'),
      [
        'version = 2',
        'disabled_plugins = ["io.containerd.internal.v1.opt"]',
        `[${cri}]`,
        `sandbox_image = "${PAUSE}"`,
        'restrict_oom_score_adj = true',
        'disable_apparmor = true',
        `[${cri}.containerd.runtimes.runc]`,
        'runtime_type = "io.containerd.runc.v2"',
        '',
      ].join('\n'),
    );
    const ipam = {
      type: 'host-local',
      ranges: [[{ subnet: `${podRange}.0/24` }]],
      routes: [{ dst: '0.0.0.0/0' }],
    };
    const bridge = {
      type: 'bridge',
      bridge: 'pods0',
      isGateway: true,
      hairpinMode: true,
      ipMasq: false,
      ipam,
    };
    const list = {
      cniVersion: '0.3.1',
      name: 'kindnet',
      plugins: [bridge, { type: 'portmap', capabilities: { portMappings: true } }],
    };
    writeFileSync(at('10-kindnet.conflist'), JSON.stringify(list, null, 2));
    for (const path of globSync(
      '/sys/fs/cgroup/{cpu,cpuacct,cpuset,memory,devices,freezer,blkio,pids,systemd}',
    ))
      this.#makeCgroup(path);
    const kubelet = {
      apiVersion: 'kubelet.config.k8s.io/v1beta1',
      kind: 'KubeletConfiguration',
      authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
      authorization: { mode: 'AlwaysAllow' },
      cgroupDriver: 'cgroupfs',
      cgroupRoot: `/${this.#cgroup}`,
      failCgroupV1: false,
      failSwapOn: false,
      evictionHard: { 'nodefs.available': '0%', 'imagefs.available': '0%', 'memory.available': '10Mi' },
      localStorageCapacityIsolation: false,
      clusterDNS: [clusterDns],
      clusterDomain: 'cluster.local',
      registerWithTaints: this.#options.isTainted
        ? [{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }]
        : [],
      containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
      resolvConf: at('resolv.conf'),
      // What is mounted of ConfigMaps and Secrets is looked at this often; by itself each minute.
      syncFrequency: '10s',
    };
    writeFileSync(at('kubelet.yaml'), JSON.stringify(kubelet));
    writeFileSync(at('resolv.conf'), `nameserver ${clusterDns}\n`);
    const proxy = {
      apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
      kind: 'KubeProxyConfiguration',
      clientConnection: { kubeconfig: proxyKubeconfig },
      mode: 'nftables',
      clusterCIDR: clusterRange,
      hostnameOverride: this.name,
      nodePortAddresses: ['primary'],
      conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    };
    writeFileSync(at('proxy.yaml'), JSON.stringify(proxy));
  }

  /** Those of processors and memory have to say of which they are before anything runs in them. */
  #makeCgroup(hierarchy: string): void {
    const path = join(hierarchy, this.#cgroup);
    mkdirSync(path, { recursive: true });
    for (const name of ['cpuset.cpus', 'cpuset.mems']) {
      try {
        if (readFileSync(join(path, name), 'utf8').trim() === '')
          copyFileSync(join(hierarchy, name), join(path, name));
      } catch {
        // Another hierarchy.
      }
    }
  }
}
