// An agent in a container, as the chart's DaemonSet describes it: started by a real runtime with the command, the environment,
// the mounts and the privileges that are written there. Of what a kubelet adds only accounts and ConfigMaps, where a test
// asks for them.

import { readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { V1Container, V1DaemonSet, V1EnvVar, V1VolumeMount } from '@kubernetes/client-node';
import { removeCgroup } from './cgroup.ts';
import type { Lab } from './lab.ts';
import { MARK } from './ledger.ts';
import { processesMarked } from './processes.ts';
import { type Program, vl3 } from './program.ts';

export interface AgentContainerOptions {
  readonly lab: Lab;
  readonly node: string;
  /** The image's directory. */
  readonly image: string;
  /** The container "agent" of it is run. */
  readonly daemonSet: V1DaemonSet;
  /** What a kubelet gives a pod of an account: the directory of its token, and where the API server is. */
  readonly account?: { readonly directory: string; readonly host: string; readonly port: number };
  /** What a kubelet puts into volumes of the pod's other tokens and of ConfigMaps: directories, by volume. */
  readonly projected?: Readonly<Record<string, string>>;
}

/** Where a pod finds its account. */
const ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

export class AgentContainer {
  readonly #options: AgentContainerOptions;
  readonly #container: V1Container;
  readonly #directory: string;
  #starts = 0;

  constructor(options: AgentContainerOptions) {
    const container = options.daemonSet.spec?.template.spec?.containers.find(({ name }) => name === 'agent');
    if (container === undefined) throw new Error('the DaemonSet has no container "agent"');
    this.#options = options;
    this.#container = container;
    this.#directory = join(options.lab.scratch, `runtime-${options.node}`);
  }

  /** `vl3 agent run …` in a container; all else as people run it on the node. */
  get program(): Program {
    return (...args) =>
      args[0] === 'agent' && args[1] === 'run' ? this.#start(args.slice(2)) : vl3(...args);
  }

  /** Of the agent: the container's first process. */
  get pid(): number {
    return this.#pid('pid');
  }

  /** Kills every process in the container, and what looks after it: nothing of it is left to hold a namespace. */
  async kill(): Promise<void> {
    const mounts = mountNamespace(this.pid);
    const inside = (): number[] =>
      processesMarked(`${MARK}=${this.#options.lab.name}`).filter((pid) => mountNamespace(pid) === mounts);
    process.kill(this.#pid('conmon'), 'SIGKILL');
    for (let left = inside(); left.length > 0; left = inside()) {
      for (const pid of left) process.kill(pid, 'SIGKILL');
      await sleep(10);
    }
  }

  /** Removes what it has outside of the run's directory, once the run is over. Blocks. */
  close(): void {
    removeCgroup(this.#cgroup);
  }

  get #cgroup(): string {
    return `${this.#options.lab.name}-${this.#options.node}`;
  }

  #pid(of: string): number {
    return Number(readFileSync(join(this.#directory, `${this.#starts}.${of}`), 'utf8'));
  }

  #start(args: readonly string[]): string[] {
    const { lab, node, image, daemonSet, account } = this.#options;
    const { command = [], args: words = [], securityContext, env = [] } = this.#container;
    const spec = daemonSet.spec?.template.spec;
    const [script = '', ...rest] = words;
    this.#starts += 1;
    const flags = [
      ...['--network', spec?.hostNetwork ? 'host' : 'none', ...(spec?.hostPID ? ['--pid', 'host'] : [])],
      ...(securityContext?.privileged ? ['--privileged'] : []),
      ...(securityContext?.readOnlyRootFilesystem ? ['--read-only'] : []),
      ...['--user', `${spec?.securityContext?.runAsUser}:${spec?.securityContext?.runAsGroup}`],
      ...new Set((this.#container.volumeMounts ?? []).map((mount) => this.#mount(mount))),
      ...env.flatMap((one) => ['--env', `${one.name}=${this.#value(one)}`]),
      ...(account === undefined
        ? []
        : [
            `--volume=${account.directory}:${ACCOUNT}:ro`,
            ...['--env', `KUBERNETES_SERVICE_HOST=${account.host}`],
            ...['--env', `KUBERNETES_SERVICE_PORT=${account.port}`],
          ]),
      ...['--env', `${MARK}=${lab.name}`, '--env', 'PATH=/usr/local/bin:/usr/sbin:/usr/bin'],
    ];
    const place = ['root', 'runroot', 'tmpdir'].flatMap((name) => [`--${name}`, join(this.#directory, name)]);
    const pids = ['pid', 'conmon'].map((of) => join(this.#directory, `${this.#starts}.${of}`));
    const podman = [
      ...['podman', ...place, '--storage-driver', 'vfs', '--cgroup-manager', 'cgroupfs', '--runtime', 'runc'],
      ...[
        '--events-backend',
        'none',
        'run',
        '--rm',
        '--name',
        `${node}-${this.#starts}`,
        '--log-driver',
        'none',
      ],
      ...['--pidfile', pids[0] ?? '', '--conmon-pidfile', pids[1] ?? '', '--ulimit', 'nofile=1024:1024'],
      ...['--ulimit', 'nproc=1024:1024', '--cgroup-parent', `/${this.#cgroup}`, ...flags, '--rootfs', image],
      // What a test says on the command line goes to the program.
      ...[...command, `${script} "$@"`, ...rest, 'sh', ...args],
    ];
    // Podman's own mounts are no business of this machine's; those below /run/netns are, as on a node.
    const alone = `mkdir -p ${this.#directory} && mount --make-private / && mount -t tmpfs none /var/lib && exec "$@"`;
    return ['unshare', '--mount', '--propagation', 'unchanged', 'sh', '-c', alone, 'sh', ...podman];
  }

  /** Of the node's directories only /run/netns is the machine's; the others are below the run's scratch directory. */
  #mount({ name, mountPath, mountPropagation, readOnly }: V1VolumeMount): string {
    const volume = this.#options.daemonSet.spec?.template.spec?.volumes?.find((one) => one.name === name);
    if (volume?.emptyDir !== undefined) return `--tmpfs=${mountPath}`;
    if (volume?.secret !== undefined) return `--tmpfs=${mountPath}:ro`;
    if ((volume?.projected ?? volume?.configMap) !== undefined) {
      const directory = this.#options.projected?.[name];
      return directory === undefined ? `--tmpfs=${mountPath}:ro` : `--volume=${directory}:${mountPath}:ro`;
    }
    const propagation = mountPropagation === 'Bidirectional' ? 'rshared' : 'rprivate';
    const options = [propagation, ...(readOnly ? ['ro'] : [])].join(',');
    const path = volume?.hostPath?.path ?? '';
    const { scratch } = this.#options.lab;
    if (path === '/run/netns') return `--volume=${path}:${mountPath}:${options}`;
    return `--volume=${scratch}:${scratch}:${options}`;
  }

  #value({ name, value, valueFrom }: V1EnvVar): string {
    if (valueFrom?.fieldRef?.fieldPath === 'spec.nodeName') return `${this.#options.node}.test.example`;
    if (value === undefined) throw new Error(`nothing tells what ${name} is`);
    return value.replaceAll('$(NODE_NAME)', `${this.#options.node}.test.example`);
  }
}

const mountNamespace = (pid: number): string | undefined => {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`);
  } catch {
    return undefined;
  }
};
