// vl3 agent: the per-node agent, and removing everything it made.

import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import { formatHostPort } from '../../native-free/host-port.ts';
import type { CredentialOptions } from '../../src/agent/enrolment-credential.ts';
import type { OwnIdentityOptions } from '../../src/agent/own-identity.ts';
import { type AgentSettings, agentSettings } from '../../src/config/agent-settings.ts';
import { ORIGINS, type Resolved } from '../../src/config/resolve.ts';
import { pairsOf } from '../../src/datapath/worker-pairs.ts';
import { DEFAULT_REGISTRY_PORT } from '../../src/identity/registry-address.ts';
import type { CommandGroup, Context } from './context.ts';
import { createLogger } from './log.ts';
import { openMetrics } from './metrics.ts';
import { type OutputFormat, outputOption, print } from './output.ts';
import { addConfigCommand, readSettings, refuseSettings, withSettings } from './settings.ts';

const DEFAULT_UDP_PORT = 51820;

/** How strong the place is where a setting was made; -1: it was not. */
const rankOf = ({ effective }: Resolved<AgentSettings>, key: keyof AgentSettings): number => {
  const set = effective.find((one) => one.key === key);
  return set === undefined ? -1 : ORIGINS.indexOf(set.origin);
};

/** What no field can tell by itself. */
const mustAgree = (settings: Resolved<AgentSettings>, context: Context): void => {
  const exclusive = [
    ['token', 'token-file', 'kubernetes-token-file', 'identity'] as const,
    ['domain', 'domain-file'] as const,
  ];
  for (const keys of exclusive) {
    const set = keys.filter((key) => rankOf(settings, key) >= 0);
    const [one, another] = set.filter((key) => rankOf(settings, key) === strongest(settings, set));
    if (one !== undefined && another !== undefined)
      refuseSettings(context, `both ${one} and ${another} are set: leave one of them out`);
  }
  const { domain, 'domain-file': domainFile, 'kubernetes-token-file': tokenFile } = settings.values;
  if (tokenFile !== undefined && domain === undefined && domainFile === undefined)
    refuseSettings(
      context,
      'kubernetes-token-file is set, and neither domain nor domain-file, which say where the registry is: set one of them',
    );
  const { identity, 'identity-files': files, registry, 'trust-domain': trustDomain } = settings.values;
  if (identity !== undefined && registry.length === 0)
    refuseSettings(context, 'identity is set, and registry is not, which says where the registry is: set it');
  if (identity === undefined && (registry.length > 0 || trustDomain !== undefined || files !== undefined))
    refuseSettings(
      context,
      'registry, trust-domain and identity-files are for a node with an identity of its own: set identity, or leave them out',
    );
  if (files !== undefined && identity?.kind !== 'files')
    refuseSettings(context, 'identity-files is set, and identity is no directory: leave it out');
  if (settings.values.kubernetes === 'off' && settings.values.kubeconfig !== undefined)
    refuseSettings(
      context,
      'kubeconfig is set, and kubernetes is off: set it to on, or leave kubeconfig out',
    );
};

const strongest = (settings: Resolved<AgentSettings>, keys: readonly (keyof AgentSettings)[]): number =>
  Math.max(...keys.map((key) => rankOf(settings, key)));

/** An identity that the registry does not give. */
const ownIdentityOf = (settings: Resolved<AgentSettings>): OwnIdentityOptions | undefined => {
  const { values } = settings;
  const { identity, 'identity-files': names, registry, 'trust-domain': trustDomain } = values;
  const others = strongest(settings, ['token', 'token-file', 'kubernetes-token-file']);
  if (identity === undefined || others > rankOf(settings, 'identity')) return undefined;
  const place = identity.kind === 'files' && names !== undefined ? { ...identity, names } : identity;
  const registries = registry.map((one) => formatHostPort({ port: DEFAULT_REGISTRY_PORT, ...one }));
  return { place, registries, trustDomain };
};

/** How the node enrols: by whichever was set in the strongest place. */
const credentialOf = (settings: Resolved<AgentSettings>): CredentialOptions => {
  const { domain, 'domain-file': domainFile, 'kubernetes-token-file': tokenFile } = settings.values;
  const byToken = strongest(settings, ['token', 'token-file']);
  if (tokenFile === undefined || byToken > rankOf(settings, 'kubernetes-token-file')) {
    const token = readToken(settings);
    return token === undefined ? {} : { token };
  }
  const isByFile = domain === undefined || rankOf(settings, 'domain-file') > rankOf(settings, 'domain');
  const where = isByFile ? domainFile !== undefined && { domainFile } : { domain };
  return { cluster: { tokenFile, ...where } };
};

/** The join token, or what is in its file, whichever was set in the stronger place. */
const readToken = (settings: Resolved<AgentSettings>): string | undefined => {
  const { values } = settings;
  const file = values['token-file'];
  if (file === undefined || rankOf(settings, 'token') > rankOf(settings, 'token-file')) return values.token;
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (cause) {
    // A token is used up by enrolling: afterwards its file may go, though the configuration names it.
    if (existsSync(join(values['state-dir'], 'identity.json'))) return undefined;
    throw new Vl3Error('invalid-argument', `cannot read the token file ${file}: check --token-file`, {
      cause,
    });
  }
};

const kubernetesOf = (values: AgentSettings) => ({
  kubeconfig: values.kubeconfig,
  nodeName: values['node-name'],
  runtimeEndpoint: values['container-runtime-endpoint'],
});

export const agentCommands: CommandGroup = (program: Command, context: Context): void => {
  const agent = program.command('agent').description("this node's agent");

  withSettings(agent.command('run', { isDefault: true }), agentSettings)
    .description('run the agent; networks and attachments outlive it')
    .addHelpText(
      'after',
      '\nExamples:\n  vl3 agent run --token-file /root/join-token\n  vl3 agent run --advertise 203.0.113.7 --network red\n  vl3 agent run --kubernetes on --kubeconfig /etc/vl3/kubeconfig\n  vl3 agent run --config ./agent.yaml',
    )
    .action(async (_options: unknown, command: Command) => {
      const settings = readSettings(command, agentSettings, context);
      const { values } = settings;
      mustAgree(settings, context);
      const ownIdentity = ownIdentityOf(settings);
      const credential = ownIdentity === undefined ? credentialOf(settings) : {};
      const { startAgent } = await import('../../src/agent/agent.ts');
      await using metrics = await openMetrics(values['metrics-listen']);
      const logger = createLogger('agent', values['log-level']);
      await using running = await startAgent(
        {
          stateDirectory: values['state-dir'],
          runDirectory: values['run-dir'],
          netnsPrefix: values['netns-prefix'],
          networks: values.network,
          advertise: values.advertise.map(({ host, ...port }) => ({ address: host, ...port })),
          defaultPort: DEFAULT_UDP_PORT,
          workerPairs: pairsOf(values['worker-pairs']),
          sparseFirst: values['sparse-first'] === 'on',
          reservedRanges: values['reserved-range'],
          rests: {
            addressMs: values['address-rest'] * 1000,
            prefixMs: values['prefix-rest'] * 1000,
          },
          ...(values.kubernetes === 'off' ? {} : { kubernetes: kubernetesOf(values) }),
          ...credential,
          ...(ownIdentity !== undefined && { ownIdentity }),
          ...(values.name === undefined ? {} : { name: values.name }),
          ...(values.port === undefined ? {} : { port: values.port }),
        },
        { logger, signal: context.signal },
      );
      if (metrics !== undefined) {
        const { observeAgent } = await import('../../src/metrics/agent-metrics.ts');
        metrics.observe(observeAgent(running.observed, { eachPeer: values['metrics-peers'] === 'each' }));
        logger.info({ port: metrics.port }, 'metrics are served');
      }
      if (!context.signal.aborted) await Promise.race([once(context.signal, 'abort'), running.failed]);
      logger.info('stopping; networks and attachments stay');
    });

  withSettings(agent.command('clean'), agentSettings, ['state-dir', 'run-dir', 'netns-prefix', 'log-level'])
    .description('remove everything the agent made on this node: interfaces, namespaces, identity and state')
    .addOption(outputOption())
    .addHelpText(
      'after',
      '\nThe agent must be stopped. Pods lose their vl3 interfaces.\n\nExamples:\n  vl3 agent clean',
    )
    .action(async (options: { output: OutputFormat }, command: Command) => {
      const { values } = readSettings(command, agentSettings, context);
      const { cleanNode } = await import('../../src/agent/clean.ts');
      const removed = await cleanNode(
        {
          stateDirectory: values['state-dir'],
          runDirectory: values['run-dir'],
          netnsPrefix: values['netns-prefix'],
        },
        createLogger('agent', values['log-level']),
      );
      await print(context, options.output, { removed }, () => {
        for (const one of removed) context.out(`removed ${one}`);
        if (removed.length === 0) context.out('nothing to remove');
      });
    });

  addConfigCommand(agent, agentSettings, context, mustAgree);
};
