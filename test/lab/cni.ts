// A container runtime as far as CNI goes: it starts the plugin as the specification says, by environment, standard input
// and output, for namespaces that it made.

import { resolve } from 'node:path';
import type { Node } from './node.ts';

const MAIN = resolve(import.meta.dirname, '../../cmd/vl3-cni/main.ts');
const ANNOTATIONS = 'io.kubernetes.cri.pod-annotations';

/** What the cluster's own plugin made before. */
export const BEFORE = {
  interfaces: [
    { name: 'veth0a1b', mac: '0a:00:00:00:00:01' },
    { name: 'eth0', mac: '0a:00:00:00:00:02', sandbox: '/run/netns/somewhere' },
  ],
  ips: [{ interface: 1, address: '10.244.0.7/24', gateway: '10.244.0.1' }],
  routes: [{ dst: '0.0.0.0/0', gw: '10.244.0.1' }],
  dns: { nameservers: ['10.96.0.10'] },
};

export interface CniCall {
  container?: string;
  netns?: string;
  ifName?: string;
  /** Of the pod; undefined: the runtime passes none. */
  annotations?: Record<string, string> | null;
  pod?: { namespace: string; name: string; uid?: string };
  /** More of the configuration, or other than usual. */
  config?: Record<string, unknown>;
  /** Instead of the configuration. */
  input?: string;
  env?: Record<string, string>;
}

export interface CniAnswer {
  code: number;
  stderr: string;
  stdout: string;
  // biome-ignore lint/suspicious/noExplicitAny: whatever a plugin prints
  result: any;
}

/** Runs the plugin against a node's agent. */
export async function cni(node: Node, command: string, call: CniCall = {}): Promise<CniAnswer> {
  const { container = 'c0ffee', netns, ifName = 'eth0', annotations, pod, config, input, env } = call;
  const configuration = {
    cniVersion: '1.0.0',
    name: 'cluster',
    type: 'vl3-cni',
    socket: node.socket,
    prevResult: { cniVersion: '1.0.0', ...BEFORE },
    ...(annotations === undefined ? {} : { runtimeConfig: { [ANNOTATIONS]: annotations } }),
    ...config,
  };
  const args =
    pod === undefined
      ? 'IgnoreUnknown=1'
      : `IgnoreUnknown=1;K8S_POD_NAMESPACE=${pod.namespace};K8S_POD_NAME=${pod.name};K8S_POD_UID=${pod.uid ?? 'u'}`;
  const { code, stdout, stderr } = await node.domain.lab.tryRun(
    [process.execPath, '--disable-warning=ExperimentalWarning', MAIN],
    {
      input: input ?? JSON.stringify(configuration),
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: container,
        CNI_IFNAME: ifName,
        CNI_ARGS: args,
        CNI_PATH: '/nonexistent',
        ...(netns === undefined ? {} : { CNI_NETNS: netns }),
        ...env,
      },
    },
  );
  return { code, stdout, stderr, result: stdout === '' ? undefined : JSON.parse(stdout) };
}
