// What a runtime asks of the plugin: its environment and the configuration on its standard input, as typed values (CNI
// specification 1.1, section 2). Whatever is wrong is a CniError.

import { CNI_CODE, CniError } from './cni-error.ts';
import { isObject, type JsonObject, optional, parseJson } from './json.ts';
import { asVersion, type CniVersion, FIRST_VERSION, isAtLeast, UNNAMED_VERSION } from './version.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** The plugin's entry in a conflist: what people set, and what the runtime adds. */
export interface Configuration {
  readonly version: CniVersion;
  /** The network's name in the conflist, which is none of vl3's. */
  readonly name: string;
  /** The agent's. */
  readonly socket: string;
  /** What the agent keeps for namespaces, see namespace-defaults.ts. */
  readonly defaultsFile: string;
  /** Asked for where a runtime passes no annotations, as vl3.io/networks has it. */
  readonly networks: string | undefined;
  readonly waitSeconds: number;
  /** Whether STATUS is that of the agent. */
  readonly agentRequired: boolean;
  /** Whether the result lists addresses and routes, or interfaces only. */
  readonly reportAddresses: boolean;
  readonly prevResult: JsonObject | undefined;
  /** Undefined: the runtime passed none, and nothing is known about the pod. */
  readonly annotations: JsonObject | undefined;
}

/** One attachment to one conflist's network, as the runtime names it. */
export interface ContainerAttachment {
  readonly containerId: string;
  readonly ifName: string;
}

/** Of the pod, as Kubernetes' runtimes pass it in CNI_ARGS; absent: not a pod. */
export interface PodName {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export type Call =
  | { readonly command: 'VERSION'; readonly version: string | undefined }
  | { readonly command: 'STATUS'; readonly configuration: Configuration }
  | {
      readonly command: 'GC';
      readonly configuration: Configuration;
      readonly valid: readonly ContainerAttachment[];
    }
  | {
      readonly command: 'ADD' | 'CHECK';
      readonly configuration: Configuration;
      readonly container: ContainerAttachment;
      readonly netns: string;
      readonly pod: PodName | undefined;
    }
  | {
      readonly command: 'DEL';
      readonly configuration: Configuration;
      readonly container: ContainerAttachment;
    };

const DEFAULT_SOCKET = '/run/vl3/agent.sock';
const DEFAULT_WAIT_SECONDS = 20;
const ANNOTATIONS_CAPABILITY = 'io.kubernetes.cri.pod-annotations';

/** Throws CniError. `versionOf` is told the configuration's version as soon as it is known, for the error's. */
export const readCall = (env: Environment, input: string, versionOf: (version: string) => void): Call => {
  const command = env['CNI_COMMAND'] ?? '';
  if (command === 'VERSION') return { command, version: requestedVersion(input) };
  if (!Object.hasOwn(FIRST_VERSION, command)) {
    throw new CniError(
      CNI_CODE.badEnvironment,
      `CNI_COMMAND is "${command.slice(0, 64)}": use ADD, DEL, CHECK, GC, STATUS or VERSION`,
    );
  }
  const object = parseJson(input);
  if (!isObject(object))
    throw new CniError(CNI_CODE.badConfiguration, 'the network configuration is not a JSON object');
  const configuration = readConfiguration(object, versionOf);
  const known = command as keyof typeof FIRST_VERSION;
  if (!isAtLeast(configuration.version, FIRST_VERSION[known])) {
    throw new CniError(
      CNI_CODE.incompatibleVersion,
      `${known} came with CNI ${FIRST_VERSION[known]}, and this configuration is of ${configuration.version}`,
    );
  }
  switch (known) {
    case 'STATUS':
      return { command: known, configuration };
    case 'GC':
      return { command: known, configuration, valid: validAttachments(object) };
    case 'DEL':
      return { command: known, configuration, container: containerOf(env) };
    default: {
      const netns = env['CNI_NETNS'] ?? '';
      if (!netns.startsWith('/') || netns.length > 4096 || netns.includes('\0')) throw missing('CNI_NETNS');
      return { command: known, configuration, container: containerOf(env), netns, pod: podOf(env) };
    }
  }
};

const requestedVersion = (input: string): string | undefined => {
  if (input.trim() === '') return undefined;
  const object = parseJson(input);
  return isObject(object) ? optional.text(object, 'cniVersion') : undefined;
};

const readConfiguration = (object: JsonObject, versionOf: (version: string) => void): Configuration => {
  const text = optional.text(object, 'cniVersion') ?? UNNAMED_VERSION;
  const version = asVersion(text);
  if (version === undefined) {
    throw new CniError(
      CNI_CODE.incompatibleVersion,
      `this configuration is of CNI version "${text.slice(0, 32)}": use 0.3.0, 0.3.1, 0.4.0, 1.0.0 or 1.1.0`,
    );
  }
  versionOf(version);
  const name = optional.text(object, 'name') ?? '';
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$/.test(name))
    throw new CniError(CNI_CODE.badConfiguration, 'the network configuration has no "name" that is one');
  const socket = optional.text(object, 'socket') ?? DEFAULT_SOCKET;
  const runDirectory = socket.slice(0, socket.lastIndexOf('/'));
  const runtime = optional.object(object, 'runtimeConfig') ?? {};
  return {
    version,
    name,
    socket,
    defaultsFile: optional.text(object, 'namespaceDefaults') ?? `${runDirectory}/namespaces.json`,
    networks: optional.text(object, 'networks'),
    waitSeconds: optional.number(object, 'waitSeconds', 0, 600) ?? DEFAULT_WAIT_SECONDS,
    agentRequired: optional.flag(object, 'agentRequired') ?? true,
    reportAddresses: optional.flag(object, 'reportAddresses') ?? true,
    prevResult: optional.object(object, 'prevResult'),
    // A pod without any is passed as null by runtimes that know the capability.
    annotations: Object.hasOwn(runtime, ANNOTATIONS_CAPABILITY)
      ? (optional.object(runtime, ANNOTATIONS_CAPABILITY) ?? {})
      : undefined,
  };
};

const validAttachments = (object: JsonObject): ContainerAttachment[] => {
  const list = optional.objects(object, 'cni.dev/valid-attachments');
  // Without a list everything would be invalid; nothing says that it is.
  if (list === undefined)
    throw new CniError(
      CNI_CODE.badConfiguration,
      'GC needs "cni.dev/valid-attachments" in its configuration',
    );
  return list.map((one) => ({
    containerId: optional.text(one, 'containerID') ?? '',
    ifName: optional.text(one, 'ifname') ?? '',
  }));
};

const missing = (variable: string): CniError =>
  new CniError(CNI_CODE.badEnvironment, `${variable} is missing or is not what CNI means by it`);

const containerOf = (env: Environment): ContainerAttachment => {
  const containerId = env['CNI_CONTAINERID'] ?? '';
  const ifName = env['CNI_IFNAME'] ?? '';
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$/.test(containerId)) throw missing('CNI_CONTAINERID');
  if (!/^[^/:\s]{1,15}$/.test(ifName) || ifName === '.' || ifName === '..') throw missing('CNI_IFNAME');
  return { containerId, ifName };
};

/** What is malformed says nothing about a pod: these are arguments of other plugins as well. */
const podOf = (env: Environment): PodName | undefined => {
  const pairs = new Map(
    (env['CNI_ARGS'] ?? '').split(';').map((pair): [string, string] => {
      const at = pair.indexOf('=');
      return [pair.slice(0, Math.max(at, 0)), pair.slice(at + 1)];
    }),
  );
  const name = pairs.get('K8S_POD_NAME') ?? '';
  const namespace = pairs.get('K8S_POD_NAMESPACE') ?? '';
  if (!DNS_NAME.test(name) || !DNS_LABEL.test(namespace)) return undefined;
  return { namespace, name, uid: (pairs.get('K8S_POD_UID') ?? '').slice(0, 64) };
};

const DNS_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const DNS_LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
