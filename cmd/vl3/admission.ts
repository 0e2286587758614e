// vl3 admission: who may attach to which network. The log of decisions is admission-log.ts.

import { createHash } from 'node:crypto';
import type { Command } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import type { AdmissionRule, TestAdmissionResponse } from '../../src/api/generated/vl3/v1/admission_pb.js';
import { type AdminOptions, adminOption, withAdminOptions, withAdmission } from './admin.ts';
import { addAdmissionLog } from './admission-log.ts';
import { collectLabel } from './arguments.ts';
import { tellSigner } from './ca-client.ts';
import { type CommandGroup, type Context, EXIT } from './context.ts';
import { type OutputFormat, print, printTable } from './output.ts';
import { iso } from './timestamp.ts';

/** As native-free/admission/rule.ts has it, which is not loaded for a line of help. */
const HOME_RULE = 'home';

interface SelectorOptions extends AdminOptions {
  network: string;
  from?: string;
  cluster?: string;
  node?: string;
  namespace?: string;
  serviceAccount?: string;
  label?: Record<string, string>;
}

interface CreateOptions extends SelectorOptions {
  workload?: string;
  dryRun?: boolean;
}

interface TestOptions extends SelectorOptions {
  name?: string;
}

const withSelectors = (command: Command): Command =>
  command
    .requiredOption('--network <name>', 'the network')
    .option('--from <trust domain>', "whose nodes (default: the home domain's)")
    .option('--cluster <name>', 'the Kubernetes cluster by whose word the node enrolled')
    .option('--node <name>', 'the node')
    .option('--namespace <name>', "the pod's namespace, as its node says")
    .option('--service-account <name>', "the pod's service account, as its node says")
    .option('--label <key=value>', "a label, as the workload's node says; may be repeated", collectLabel);

const selectors = ({ network, from, cluster, node, namespace, serviceAccount, label }: SelectorOptions) => ({
  network,
  trustDomain: from ?? '',
  cluster: cluster ?? '',
  node: node ?? '',
  namespace: namespace ?? '',
  serviceAccount: serviceAccount ?? '',
  labels: label ?? {},
});

/** The same selectors get the same name, so that a command given twice is one rule. */
const nameFor = (rule: object): string =>
  `rule-${createHash('sha256').update(JSON.stringify(rule)).digest('hex').slice(0, 8)}`;

const toJson = (rule: AdmissionRule): Record<string, unknown> => ({
  network: rule.network,
  name: rule.name,
  trustDomain: rule.trustDomain,
  cluster: rule.cluster,
  node: rule.node,
  namespace: rule.namespace,
  serviceAccount: rule.serviceAccount,
  labels: rule.labels,
  workload: rule.workload,
  dryRun: rule.isDryRun,
  createdAt: iso(rule.createdAt),
});

export const admits = (rule: AdmissionRule): string => {
  const parts = [
    ['cluster', rule.cluster],
    ['node', rule.node],
    ['namespace', rule.namespace],
    ['service account', rule.serviceAccount],
    ...Object.entries(rule.labels).map(([key, value]) => ['label', `${key}=${value}`]),
    ['', rule.workload],
  ].filter(([, value]) => value !== '');
  return parts.length === 0 ? 'everyone' : parts.map((part) => part.join(' ').trim()).join(', ');
};

const printRules = (context: Context, format: OutputFormat, rules: readonly AdmissionRule[]): Promise<void> =>
  print(context, format, rules.map(toJson), () =>
    printTable(
      context,
      ['NETWORK', 'NAME', 'FROM', 'ADMITS', 'DRY RUN'],
      rules.map((rule) => [
        rule.network,
        rule.name,
        rule.trustDomain,
        admits(rule),
        rule.isDryRun ? 'yes' : '-',
      ]),
    ),
  );

const printTest = (
  context: Context,
  network: string,
  answer: TestAdmissionResponse,
  isForeign: boolean,
): void => {
  if (answer.obstacle !== '') context.out(`not admitted to ${network}: ${answer.obstacle}`);
  else if (!answer.isAdmitted) context.out(`not admitted to ${network}: no rule admits it`);
  else {
    const how = answer.isWholeNode ? ', with everything of the node' : '';
    context.out(`admitted to ${network} by rule ${answer.rule}${how}`);
  }
  context.out('');
  printTable(
    context,
    ['RULE', 'SAYS'],
    answer.verdicts.map((one) => [
      one.rule,
      one.admits ? (one.isDryRun ? 'would admit (dry run)' : 'admits') : one.whyNot,
    ]),
  );
  context.out('');
  context.out(
    isForeign
      ? `Trust domain and node are proven when a workload attaches. Namespace, service account, workload and labels are the assertion of ${answer.trustDomain}: whoever runs its nodes can say what they like. Its clusters are not known here.`
      : 'Trust domain, cluster and node are proven when a workload attaches. Namespace, service account, workload and labels are the word of its node.',
  );
};

export const admissionCommands: CommandGroup = (program: Command, context: Context): void => {
  const admission = program.command('admission').description('who may attach to which network');

  withAdminOptions(withSelectors(admission.command('create')), context)
    .description('make a rule that admits workloads to a network')
    .argument('[name]', 'a DNS label (default: one that follows from the rule)')
    .option(
      '--workload <condition>',
      'a condition in CEL over namespace, serviceAccount, workload, labels, node, cluster, trustDomain',
    )
    .option('--dry-run', 'admit nobody; the log says what it would have admitted')
    .addHelpText(
      'after',
      `
What is not given fits all. Rules only admit: a workload is attached when one of them fits. A network begins with the rule
"${HOME_RULE}", which admits everyone of the home domain: make the narrower rules first, then delete it.
A condition that looks at a label which is not there does not hold. Workloads of another domain (--from) are let in by their
addresses, never by their node's prefix, and the domain has to be federated with (\`vl3 federation invite\`).

Examples:
  vl3 admission create --network red --namespace billing
  vl3 admission create ledger --network red --workload 'namespace == "billing" && labels.app == "ledger"'
  vl3 admission create edge --network red --workload 'node.startsWith("edge-") && labels.tier in ["gold", "silver"]' --dry-run
  vl3 admission create --network red --from partner.example --workload 'namespace == "billing" && labels.app == "ledger"'
  vl3 admission create ${HOME_RULE} --network red`,
    )
    .action(async (name: string | undefined, options: CreateOptions) => {
      const wanted = {
        ...selectors(options),
        workload: options.workload ?? '',
        isDryRun: options.dryRun ?? false,
      };
      const made = { name: name ?? nameFor(wanted), ...wanted };
      const { rule, warnings } = await withAdmission(options.admin, ({ client }) =>
        client.createAdmissionRule({ rule: made }),
      );
      // As it was written here, not as the registry says.
      await tellSigner(options.admin, (signer) => signer.registerRule({ rule: made }));
      await printRules(context, options.output, rule === undefined ? [] : [rule]);
      for (const warning of warnings) context.err(`warning: ${warning}`);
    });

  withAdminOptions(admission.command('list'), context)
    .description('list the rules')
    .option('--network <name>', 'of this network only')
    .addHelpText('after', '\nExamples:\n  vl3 admission list\n  vl3 admission list --network red -o json')
    .action(async (options: AdminOptions & { network?: string }) => {
      const { rules } = await withAdmission(options.admin, ({ client }) =>
        client.listAdmissionRules({ network: options.network ?? '' }),
      );
      await printRules(context, options.output, rules);
    });

  withAdminOptions(admission.command('show'), context)
    .description('show a rule')
    .argument('<name>')
    .requiredOption('--network <name>', 'the network')
    .addHelpText('after', '\nExamples:\n  vl3 admission show ledger --network red -o yaml')
    .action(async (name: string, options: AdminOptions & { network: string }) => {
      const { network } = options;
      const { rules } = await withAdmission(options.admin, ({ client }) =>
        client.listAdmissionRules({ network }),
      );
      const shown = rules.find((rule) => rule.name === name);
      if (shown === undefined)
        throw new Vl3Error(
          'not-found',
          `network "${network}" has no rule "${name}": see \`vl3 admission list\``,
        );
      await print(context, options.output, toJson(shown), () => {
        for (const [key, value] of Object.entries(toJson(shown)))
          context.out(`${key}: ${typeof value === 'object' ? JSON.stringify(value) : String(value) || '-'}`);
      });
    });

  admission
    .command('delete')
    .description('delete a rule; what it admitted and no other rule does is detached')
    .argument('<name>')
    .requiredOption('--network <name>', 'the network')
    .addOption(adminOption(context))
    .addHelpText(
      'after',
      `\nWhat is detached waits, and is attached again as soon as a rule admits it.\n\nExamples:\n  vl3 admission delete ledger --network red\n  vl3 admission delete ${HOME_RULE} --network red`,
    )
    .action(async (name: string, { admin, network }: { admin: string; network: string }) => {
      await tellSigner(admin, (signer) => signer.withdrawRule({ network, name }));
      await withAdmission(admin, ({ client }) => client.deleteAdmissionRule({ network, name }));
    });

  withAdminOptions(withSelectors(admission.command('test')), context)
    .description('whether a workload would be admitted to a network, and by which rule')
    .option('--name <workload>', "the workload's name, as its node says")
    .addHelpText(
      'after',
      `
Of a node that is enrolled here the cluster is known and need not be given. Changes nothing.
Exit codes: ${EXIT.ok} it would be admitted, ${EXIT.refused} it would not.

Examples:
  vl3 admission test --network red --node edge-1 --namespace billing --label app=ledger
  vl3 admission test --network red --from partner.example --namespace billing -o json`,
    )
    .action(async (options: TestOptions) => {
      const asked = { ...selectors(options), workload: options.name ?? '' };
      const answer = await withAdmission(options.admin, ({ client }) => client.testAdmission(asked));
      const { isAdmitted, rule, isWholeNode, trustDomain, cluster } = answer;
      const verdicts = answer.verdicts.map((one) => ({
        rule: one.rule,
        admits: one.admits,
        dryRun: one.isDryRun,
        whyNot: one.whyNot,
      }));
      const proven = { trustDomain, cluster, node: asked.node };
      const { namespace, serviceAccount, workload, labels } = asked;
      const asserted = { namespace, serviceAccount, workload, labels };
      await print(
        context,
        options.output,
        {
          network: options.network,
          admitted: isAdmitted,
          rule,
          wholeNode: isWholeNode,
          proven,
          asserted,
          verdicts,
          ...(answer.obstacle !== '' && { obstacle: answer.obstacle }),
        },
        () =>
          printTest(
            context,
            options.network,
            answer,
            options.from !== undefined && trustDomain === options.from,
          ),
      );
      if (!isAdmitted) context.exit(EXIT.refused);
    });

  addAdmissionLog(admission, context);
};
