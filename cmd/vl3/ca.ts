// vl3 ca: the domain's CA. Its life cycle wherever it is, and running it on a machine of its own.

import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import { caSettings } from '../../src/config/ca-settings.ts';
import { type AdminOptions, adminOption, withAdmin, withAdminOptions } from './admin.ts';
import { registerNetwork, withCa } from './ca-client.ts';
import { addCredentialCommands } from './ca-credentials.ts';
import { printCa } from './ca-table.ts';
import type { CommandGroup, Context } from './context.ts';
import { createLogger } from './log.ts';
import { addConfigCommand, readSettings, withSettings } from './settings.ts';
import { milliseconds } from './timestamp.ts';

const ROTATE_HELP = `
Three steps, so that nobody is cut off; each waits for the time that an SVID lasts (a sixth more than the outage budget):
  prepare   makes the next CA and adds it to the bundle, which nodes learn within seconds
  sign      the next CA signs from now on; nodes renew their SVIDs within minutes; the key of the one before is destroyed
  retire    takes the one before out of the bundle
After "sign" copies of an admin's credential and of the registry's have to be made anew before "retire" (admin.json of a registry
that holds the CA, and a running registry's credential, are renewed by themselves), and join tokens that are open, too. A CA apart
is reached from then on by credentials that were made after "prepare": the others do not know who answers there.

Even with --now "sign" comes ten seconds after "prepare": so long the registry, and nodes that reach it, may take to hear of the next
CA, and whoever has not is cut off. Where the key was stolen, do not wait: prepare, "sign --now", let nodes renew (vl3 node list), then "retire --now". Whoever has not
renewed by then enrols anew. Until then the thief is the domain: see SECURITY.md.

Examples:
  vl3 ca rotate prepare
  vl3 ca rotate sign
  vl3 ca rotate retire --now`;

export const caCommands: CommandGroup = (program: Command, context: Context): void => {
  const ca = program
    .command('ca')
    .description("the domain's CA: rotation, revocation, and a machine of its own");

  withSettings(ca.command('run', { isDefault: true }), caSettings)
    .description('run the CA apart from the registry; `vl3 ca init` makes it')
    .addHelpText(
      'after',
      '\nExamples:\n  vl3 ca run --trust-domain aws-prod.example\n  vl3 ca run --config ./ca.yaml',
    )
    .action(async (_options: unknown, command: Command) => {
      const { values } = readSettings(command, caSettings, context);
      const { startSigner } = await import('../../src/ca/server.ts');
      const logger = createLogger('ca', values['log-level']);
      await using _running = await startSigner(
        {
          stateDirectory: values['state-dir'],
          trustDomain: values['trust-domain'],
          listen: { port: DEFAULT_CA_PORT, ...values.listen },
          outageBudgetMs: values['outage-budget'] * 1000,
        },
        { logger },
      );
      if (!context.signal.aborted) await once(context.signal, 'abort');
      logger.info('stopping');
    });

  addConfigCommand(ca, caSettings, context);
  addCredentialCommands(ca, context);

  withAdminOptions(ca.command('show'), context)
    .description('show the CAs, the next step of a rotation, who was revoked, and where the key is')
    .addHelpText('after', '\nExamples:\n  vl3 ca show\n  vl3 ca show -o json')
    .action(async ({ admin, output }: AdminOptions) => {
      await printCa(context, output, await withCa(admin, (client) => client.getCa({})));
    });

  withAdminOptions(ca.command('rotate'), context)
    .description('one step of replacing the CA without an outage')
    .argument('<step>', 'prepare, sign or retire')
    .option('--now', 'do not wait for what is still in use', false)
    .addHelpText('after', ROTATE_HELP)
    .action(async (step: string, { admin, output, now }: AdminOptions & { now: boolean }) => {
      if (step === 'sign' && now) await waitUntilHeard(admin, context);
      const { ca: state } = await withCa(admin, (client) => client.rotateCa({ step, isUrgent: now }));
      if (state !== undefined) await printCa(context, output, state);
    });

  ca.command('revoke')
    .description('void whatever was issued for a node until now')
    .argument('<node>')
    .addOption(adminOption(context))
    .addHelpText(
      'after',
      `
Nodes that reach the registry hear of it within seconds, and believe nothing that was signed with it, whoever hands it on; others until
its records end. "vl3 node delete" does this, and frees the node's prefixes at the registry. A join token made from now on lets it in again.

Examples:
  vl3 ca revoke edge-1`,
    )
    .action(async (name: string, { admin }: { admin: string }) => {
      await withCa(admin, (client) => client.revokeNode({ name }));
      context.out(`what was issued for ${name} until now is void`);
      await warnOfStranger(admin, name, context);
    });

  ca.command('forget-log')
    .description('let a registry that was restored have the end of its log signed by a signer apart')
    .addOption(adminOption(context))
    .addHelpText(
      'after',
      `
A signer apart signs no end of the log of decisions that comes before one that it signed. After "vl3 registry restore", or when the
registry began with an empty store, that has to be: say so, and keep what was exported before.

Examples:
  vl3 ca forget-log`,
    )
    .action(async ({ admin }: { admin: string }) => {
      await withCa(admin, (client) => client.forgetLog({}));
    });

  ca.command('register-network')
    .description('tell a signer apart of a network that it does not know')
    .argument('<name>')
    .addOption(new Option('--pool-v4 <prefix>', 'its IPv4 pool, as it was created'))
    .addOption(new Option('--pool-v6 <prefix>', 'its IPv6 pool, as it was created'))
    .addOption(adminOption(context))
    .addHelpText(
      'after',
      `
"vl3 network create" does so by itself. This is for networks from before the signer was put apart, and after its ledger was lost. The
pools are given here, since the signer takes no registry's word for them; so are, afterwards, the rules of admission
("vl3 admission create", or "vl3 admission delete home").

Examples:
  vl3 ca register-network red --pool-v4 10.60.0.0/16`,
    )
    .action(
      async (
        name: string,
        { admin, poolV4 = '', poolV6 = '' }: { admin: string; poolV4?: string; poolV6?: string },
        command: Command,
      ) => {
        if (poolV4 === '' && poolV6 === '')
          command.error('error: give the pools of the network: --pool-v4, --pool-v6 or both');
        const { network } = await withAdmin(admin, (client) => client.getNetwork({ name }));
        await registerNetwork(admin, { name, uid: network?.uid ?? '', poolV4, poolV6 });
      },
    );
};

const DEFAULT_CA_PORT = 7444;

/** What is revoked need not be enrolled any more, but a name may be misspelt. */
const warnOfStranger = async (admin: string, name: string, context: Context): Promise<void> => {
  try {
    await withAdmin(admin, (client) => client.getNode({ name }));
  } catch (error) {
    if (error instanceof Vl3Error && error.code === 'not-found')
      context.err(`vl3: warning: no node ${name} is enrolled: is that the name? \`vl3 node list\` has them`);
  }
};

/** Within which the registry, and nodes that reach it, hear of another CA. */
const HEARD_MS = 10_000;

const waitUntilHeard = async (admin: string, context: Context): Promise<void> => {
  const { authorities } = await withCa(admin, (client) => client.getCa({}));
  const next = authorities.find(({ state }) => state === 'next');
  if (next === undefined) return;
  const known = Math.max(0, Date.now() - milliseconds(next.since));
  if (known >= HEARD_MS) return;
  const wait = HEARD_MS - known;
  context.err(
    `vl3: waiting ${Math.ceil(wait / 1000)} s, so that the registry and the nodes hear of the next CA before it signs`,
  );
  await sleep(wait, undefined, { signal: context.signal }).catch(() => {});
  if (context.signal.aborted) throw new Vl3Error('aborted', 'nothing was changed');
};
