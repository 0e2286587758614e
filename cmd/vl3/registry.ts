// vl3 registry: the domain's registry process.

import { once } from 'node:events';
import type { Command } from 'commander';
import type { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import { registrySettings } from '../../src/config/registry-settings.ts';
import type { Resolved } from '../../src/config/resolve.ts';
import type { IdentityPlace } from '../../src/identity/identity-place.ts';
import { DEFAULT_REGISTRY_PORT } from '../../src/identity/registry-address.ts';
import type { OwnDomainOptions } from '../../src/registry/own-domain.ts';
import type { RegistryOptions } from '../../src/registry/server.ts';
import { adminOption, withAdmin } from './admin.ts';
import type { CommandGroup, Context } from './context.ts';
import { createLogger } from './log.ts';
import { openMetrics } from './metrics.ts';
import { type OutputFormat, outputOption, print, printTable } from './output.ts';
import { addBackupCommand } from './registry-backup.ts';
import { addBundleCommand } from './registry-bundle.ts';
import { addDomainCommand } from './registry-domain.ts';
import { addRestoreCommand } from './registry-restore.ts';
import { addSettleCommand } from './registry-settle.ts';
import { addConfigCommand, readSettings, refuseSettings, withSettings } from './settings.ts';
import { iso } from './timestamp.ts';

export const registryCommands: CommandGroup = (program: Command, context: Context): void => {
  const registry = program.command('registry').description("the domain's registry: networks, nodes, leases");

  withSettings(registry.command('run', { isDefault: true }), registrySettings)
    .description('run the registry; the first start creates the CA and the admin credential')
    .addHelpText(
      'after',
      '\nThe admin credential is <state-dir>/admin.json.\n\nExamples:\n  vl3 registry run --trust-domain aws-prod.example --advertise registry.aws-prod.example:7443\n  vl3 registry run --config ./registry.yaml',
    )
    .action(async (_options: unknown, command: Command) => {
      const { values } = readSettings(command, registrySettings, context);
      const ownIdentity = ownIdentityOf(values, context);
      const listen = { port: DEFAULT_REGISTRY_PORT, ...values.listen };
      const advertise = values.advertise.map((one) => ({ port: listen.port, ...one }));
      const { 'kubernetes-clusters': clustersFile, 'publish-domain': publishDomain } = values;
      const { startRegistry } = await import('../../src/registry/server.ts');
      const logger = createLogger('registry', values['log-level']);
      await using metrics = await openMetrics(values['metrics-listen']);
      await using running = await startRegistry(
        {
          stateDirectory: values['state-dir'],
          trustDomain: values['trust-domain'],
          listen,
          advertise,
          reservedRanges: values['reserved-range'],
          outageBudgetMs: values['outage-budget'] * 1000,
          ...(await bundleOptions(values)),
          ...(ownIdentity !== undefined && { ownIdentity }),
          ...(clustersFile !== undefined && { clustersFile }),
          ...(values.signer !== undefined && { signerFile: values.signer }),
          ...(publishDomain !== undefined && { publishDomain }),
        },
        { logger, signal: context.signal },
      );
      if (metrics !== undefined) {
        const { observeRegistry } = await import('../../src/metrics/registry-metrics.ts');
        metrics.observe(observeRegistry(running.observed));
        logger.info({ port: metrics.port }, 'metrics are served');
      }
      if (!context.signal.aborted) await once(context.signal, 'abort');
      logger.info('stopping');
    });

  addConfigCommand(registry, registrySettings, context, mustAgree);
  addDomainCommand(registry, context);
  addBundleCommand(registry, context);
  addBackupCommand(registry, context);
  addRestoreCommand(registry, context);
  addSettleCommand(registry, context);

  registry
    .command('status')
    .description('show what the registry holds and whom it refused since it started')
    .addOption(adminOption(context))
    .addOption(outputOption())
    .addHelpText('after', '\nExamples:\n  vl3 registry status\n  vl3 registry status -o json')
    .action(async (options: { admin: string; output: OutputFormat }) => {
      const answer = await withAdmin(options.admin, (client) => client.getStatus({}));
      const { trustDomain, version, signer, storeId, networks, nodes, nodesAlive, attachments, watchers } =
        answer;
      const revision = Number(answer.revision);
      const refusals = Object.entries(answer.refusedEnrolments).map(([reason, count]): [string, number] => [
        reason,
        Number(count),
      ]);
      const refusedEnrolments = Object.fromEntries(refusals);
      const counts = { networks, nodes, nodesAlive, attachments, watchers, refusedEnrolments };
      const outageBudgetSeconds = Number(answer.outageBudgetMs) / 1000;
      const recovery = answer.recovery && {
        reason: answer.recovery.reason,
        awaited: answer.recovery.awaited,
        adopted: answer.recovery.adopted,
        conflicts: answer.recovery.conflicts,
      };
      const identities = answer.identities.map(({ spiffeId, place, notAfter, problem }) => ({
        spiffeId,
        place,
        notAfter: iso(notAfter),
        problem,
      }));
      const shown = {
        trustDomain,
        version,
        signer: signer || 'in-process',
        ...(identities.length > 0 && { identities }),
        storeId,
        revision,
        outageBudgetSeconds,
        ...counts,
      };
      await print(context, options.output, { ...shown, ...(recovery && { recovery }) }, () => {
        context.out(`registry of ${trustDomain}, vl3 ${version}, store ${storeId} at revision ${revision}`);
        context.out(SIGNERS[signer] ?? SIGNERS['in-process'] ?? '');
        for (const { spiffeId, place, notAfter, problem } of identities)
          context.out(
            problem === '' ? `${spiffeId} from ${place}, good until ${notAfter}` : `problem: ${problem}`,
          );
        context.out(
          `networks ${networks}  nodes ${nodes} (${nodesAlive} alive)  attachments ${attachments}  watches ${watchers}`,
        );
        if (recovery !== undefined) printRecovery(context, recovery);
        if (refusals.length === 0) return;
        context.out('');
        printTable(
          context,
          ['ENROLMENTS REFUSED', 'TIMES'],
          refusals.map(([reason, count]) => [reason, String(count)]),
        );
      });
    });
};

/** Where the domain's bundle is served, and how partners' are asked for. */
const bundleOptions = async (
  values: z.output<typeof registrySettings.schema>,
): Promise<Pick<RegistryOptions, 'publicBundle' | 'bundleUrl' | 'partnerLinks'>> => {
  const { 'bundle-listen': listen, 'bundle-url': bundleUrl, 'partner-web-ca': caFile } = values;
  const { 'bundle-certificate': certificateFile, 'bundle-key': keyFile } = values;
  if ((certificateFile === undefined) !== (keyFile === undefined))
    throw new Vl3Error(
      'invalid-argument',
      'bundle-certificate and bundle-key go together: give both, or neither',
    );
  if (certificateFile !== undefined && listen === undefined)
    throw new Vl3Error('invalid-argument', 'bundle-certificate is for bundle-listen: say where to listen');
  const ca = caFile === undefined ? undefined : await readCas(caFile);
  const given = values['given-bundle'];
  return {
    ...(listen !== undefined && {
      publicBundle: {
        listen,
        ...(certificateFile !== undefined && keyFile !== undefined && { certificateFile, keyFile }),
      },
    }),
    ...(bundleUrl !== undefined && { bundleUrl }),
    partnerLinks: { given: new Set(given), ...(ca !== undefined && { ca }) },
  };
};

const readCas = async (file: string): Promise<string> => {
  const { readFile } = await import('node:fs/promises');
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Vl3Error('failed-precondition', `partner-web-ca cannot be read: ${why}`, { cause });
  }
};

type RegistrySettings = z.output<typeof registrySettings.schema>;

/** Refuses settings that do not go together; undefined: the registry is the CA. */
const ownIdentityOf = (values: RegistrySettings, context: Context): OwnDomainOptions | undefined => {
  const { identity, 'identity-files': names, 'own-enrolment': enrolment } = values;
  const admission =
    values['admission-identity'] ?? (identity?.kind === 'workload-api' ? identity : undefined);
  if (values['given-bundle'].length > 0 && identity?.kind !== 'workload-api')
    refuseSettings(
      context,
      'given-bundle is for bundles that the Workload API gives: set identity to its socket, or leave given-bundle out, and the endpoints of partners are asked',
    );
  if (identity === undefined) {
    if (admission !== undefined || names !== undefined)
      refuseSettings(
        context,
        'admission-identity and identity-files are for a registry without a CA of its own: set identity, or leave them out',
      );
    return undefined;
  }
  if (admission === undefined)
    return refuseSettings(
      context,
      'identity is a directory, and holds one SVID: set admission-identity to where that of the admission identity is',
    );
  for (const key of ['signer', 'kubernetes-clusters', 'publish-domain'] as const)
    if (values[key] !== undefined)
      refuseSettings(
        context,
        `${key} is for a domain with a CA of its own, and identity is set: leave one of them out`,
      );
  const named = (place: IdentityPlace): IdentityPlace =>
    place.kind === 'files' && names !== undefined ? { ...place, names } : place;
  return { place: named(identity), admissionPlace: named(admission), enrolment };
};

const mustAgree = async (settings: Resolved<RegistrySettings>, context: Context): Promise<void> => {
  ownIdentityOf(settings.values, context);
  await mustHaveClusters(settings, context);
};

/** What is in the file of clusters is the configuration's, too. */
const mustHaveClusters = async ({ values }: Resolved<RegistrySettings>, context: Context): Promise<void> => {
  const { 'kubernetes-clusters': file, 'trust-domain': trustDomain } = values;
  if (file === undefined) return;
  const { readClusters } = await import('../../src/registry/clusters.ts');
  try {
    readClusters(file, trustDomain);
  } catch (error) {
    if (!(error instanceof Vl3Error)) throw error;
    refuseSettings(context, error.message);
  }
};

/** Said in either case, since it decides what is lost with this machine. */
const SIGNERS: Readonly<Record<string, string>> = {
  apart: 'the signer is apart: no key of the CA is here, and what it signs it decides itself',
  given:
    'SVIDs are of another issuer: no key of a CA is here, and whoever takes this over grants what it likes',
  'in-process':
    "the CA's key is in this process: whoever takes it over is the domain (`vl3 ca run` keeps it elsewhere)",
};

interface Recovery {
  readonly reason: string;
  readonly awaited: readonly string[];
  readonly adopted: readonly string[];
  readonly conflicts: readonly string[];
}

const REASONS: Readonly<Record<string, string>> = {
  empty: 'its store is new, and its domain may not be',
  restored: 'it was restored from a backup',
  'went-back': 'nodes have seen more of its store than it holds',
};

const printRecovery = (context: Context, { reason, awaited, adopted, conflicts }: Recovery): void => {
  context.out('');
  context.out(`recovering, since ${REASONS[reason] ?? reason}: no prefix is issued`);
  const hasHeardAll = awaited.length === 0;
  const rest =
    reason === 'empty'
      ? '`vl3 registry settle` ends it'
      : `it ends ${hasHeardAll ? 'in about a minute' : 'when they have said what they hold'}, or by \`vl3 registry settle\``;
  const waits = hasHeardAll ? 'every known node has said what it holds' : `waits for ${awaited.join(', ')}`;
  context.out(`${waits}; ${rest}`);
  if (adopted.length > 0) context.out(`taken from their certificates: ${adopted.join(', ')}`);
  for (const conflict of conflicts) context.out(`conflict: ${conflict}`);
};
