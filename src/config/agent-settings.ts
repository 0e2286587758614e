// Every setting of `vl3 agent`. Adding one here makes its key in the file, its environment variable and its flag.

import { z } from 'zod';
import { WORKER_PAIRS } from '../datapath/worker-pairs.ts';
import { SVID_FILE_NAMES } from '../identity/svid-files.ts';
import { LOG_LEVELS, METRICS_DESCRIPTION } from './common.ts';
import {
  advertised,
  choice,
  directory,
  domainAddress,
  duration,
  host,
  hostWithPort,
  identityPlace,
  integer,
  label,
  listOf,
  namePrefix,
  reservedRange,
  svidFileNames,
  text,
  trustDomain,
} from './fields.ts';
import { type ProgramSettings, setting } from './setting.ts';

const schema = z.strictObject({
  'state-dir': setting(directory().prefault('/var/lib/vl3/agent'), {
    placeholder: '<directory>',
    isPath: true,
    description: 'what survives restarts: identity, keys, addresses',
  }),
  'run-dir': setting(directory().prefault('/run/vl3'), {
    placeholder: '<directory>',
    isPath: true,
    description: 'where its socket is',
  }),
  'netns-prefix': setting(namePrefix().prefault('vl3-'), {
    placeholder: '<prefix>',
    description: "prefix of its networks' namespaces, for several agents on one machine",
  }),
  'log-level': setting(choice(LOG_LEVELS).prefault('info'), {
    placeholder: '<level>',
    description: `least severe level that is logged: ${LOG_LEVELS.join(', ')}`,
  }),
  token: setting(text().optional(), {
    placeholder: '<token>',
    description: 'join token, needed once',
    environment: 'VL3_TOKEN',
    isSecret: true,
  }),
  'token-file': setting(text().optional(), {
    placeholder: '<file>',
    description: 'file that holds the join token',
    environment: 'VL3_TOKEN_FILE',
  }),
  'kubernetes-token-file': setting(text().optional(), {
    placeholder: '<file>',
    isPath: true,
    description:
      "service-account token for the registry, which the kubelet mounts and renews: enrols this node by its cluster's word, without a join token",
  }),
  domain: setting(domainAddress().optional(), {
    placeholder: '<address>',
    description:
      'where the registry is and how it is known, as `vl3 registry domain` prints it; for kubernetes-token-file',
  }),
  'domain-file': setting(text().optional(), {
    placeholder: '<file>',
    isPath: true,
    description: 'file that holds it, or will: the registry writes it for its own cluster',
  }),
  identity: setting(identityPlace().optional(), {
    placeholder: '<socket|directory>',
    description:
      'SVIDs of your own, e.g. from SPIRE: the socket of the Workload API (unix:///run/spire/agent.sock) or a directory of files, watched for rotation; this node is spiffe://<domain>/node/<name>',
    otherwise: 'the registry gives SVIDs, to who enrols',
  }),
  'identity-files': setting(svidFileNames().optional(), {
    placeholder: '<certificate,key,bundle>',
    description: 'names of the three files in that directory',
    otherwise: Object.values(SVID_FILE_NAMES).join(','),
  }),
  registry: setting(listOf(host()).prefault([]), {
    placeholder: '<host[:port]>',
    description: 'where a registry is, for a node with an identity of its own',
  }),
  'trust-domain': setting(trustDomain().optional(), {
    placeholder: '<name>',
    description: 'the domain that its own identity has to be of',
    otherwise: 'the one it is of',
  }),
  name: setting(label().optional(), {
    placeholder: '<node>',
    description: "the node's name",
    otherwise: 'the host name, or what its cluster says',
  }),
  port: setting(integer(1, 65_535).optional(), {
    placeholder: '<port>',
    description: 'UDP port',
    otherwise: 'the one used before, else 51820',
    // Kubernetes sets VL3_AGENT_PORT in pods beside a service "vl3-agent".
    environment: 'VL3_AGENT_UDP_PORT',
  }),
  'worker-pairs': setting(choice(WORKER_PAIRS).prefault('auto'), {
    placeholder: '<number>',
    description:
      'threads that move packets, two in each pair: auto is one pair for each two processors, 4 at most, and half a pair, one thread for both directions, on fewer than four (auto, half, 1, 2, 4, 8)',
  }),
  'sparse-first': setting(choice(['on', 'off']).prefault('on'), {
    placeholder: '<on|off>',
    description:
      'whether packets of flows that send little (lookups, pings, small calls) are marked as low-latency data (DSCP AF22) and received first',
  }),
  advertise: setting(listOf(advertised({ loopback: false })).prefault([]), {
    placeholder: '<host[:port]>',
    description: 'address that peers reach this node by, e.g. behind 1:1 NAT',
  }),
  network: setting(listOf(label()).prefault([]), {
    placeholder: '<name>',
    description: 'join this network at once, attached or not',
  }),
  'reserved-range': setting(listOf(reservedRange()).prefault([]), {
    placeholder: '<prefix>',
    description:
      "range that no route in a workload shows and that no network's pool may overlap, e.g. the cluster's services",
  }),
  'address-rest': setting(duration().prefault('60s'), {
    placeholder: '<duration>',
    description: 'how long an address that was given back rests while there is another to be had',
  }),
  'prefix-rest': setting(duration().prefault('10m'), {
    placeholder: '<duration>',
    description: 'how long a prefix that was leased for want of addresses is empty before it is given back',
  }),
  kubernetes: setting(choice(['off', 'on']).prefault('off'), {
    placeholder: '<how>',
    description: 'watch the pods of this node, and put them on the networks that they ask for (off, on)',
  }),
  kubeconfig: setting(text().optional(), {
    placeholder: '<file>',
    isPath: true,
    description: 'how the API server of the cluster is reached',
    otherwise: "by the service account of the agent's pod",
  }),
  'node-name': setting(text(253).optional(), {
    placeholder: '<node>',
    description: 'what Kubernetes calls this node',
    otherwise: "the agent's name",
    // As pods are usually told it, by the downward API.
    environment: 'NODE_NAME',
  }),
  'container-runtime-endpoint': setting(text().optional(), {
    placeholder: '<socket>',
    description: "the container runtime's socket (CRI), which tells where pods are",
    otherwise: 'where containerd, CRI-O and k3s listen',
  }),
  'metrics-listen': setting(hostWithPort().optional(), METRICS_DESCRIPTION),
  'metrics-peers': setting(choice(['summary', 'each']).prefault('summary'), {
    placeholder: '<how>',
    description:
      'handshake ages in the metrics: a summary for each network, or each peer as well (summary, each)',
  }),
});

export const agentSettings: ProgramSettings<typeof schema> = {
  program: 'agent',
  environmentPrefix: 'VL3_AGENT_',
  file: '/etc/vl3/agent.yaml',
  schema,
};

export type AgentSettings = z.output<typeof schema>;
