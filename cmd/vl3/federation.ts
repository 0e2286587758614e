// vl3 federation: which other domains' workloads may come to networks of this one, and the other way round.

import { type Command, Option } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import type { FederationConstraints, Partner } from '../../src/api/generated/vl3/v1/federation_pb.js';
import type { FederationClient } from '../../src/registry/client.ts';
import { type AdminOptions, adminOption, withAdminOptions } from './admin.ts';
import { collect, parseDuration } from './arguments.ts';
import type { CommandGroup, Context } from './context.ts';
import { formatAge, print, printTable } from './output.ts';
import { iso, milliseconds } from './timestamp.ts';

/** The registry speaks to the partner's meanwhile. */
const CALL_TIMEOUT_MS = 45_000;

interface AcceptOptions extends AdminOptions {
  readonly as?: string;
  readonly invitationFile?: string;
}

/** What one is at most, and line breaks. */
const MAX_INVITATION_BYTES = 64 * 1024;

const invitationOf = async (argument: string | undefined, file: string | undefined): Promise<string> => {
  if ((argument === undefined) === (file === undefined))
    throw new Vl3Error('invalid-argument', 'give either the invitation or --invitation-file, and not both');
  if (argument !== undefined || file === undefined) return argument ?? '';
  const { readFile } = await import('node:fs/promises');
  const bytes = await readFile(file).catch((error: unknown) => {
    throw new Vl3Error('invalid-argument', `--invitation-file: ${file} cannot be read`, { cause: error });
  });
  if (bytes.length > MAX_INVITATION_BYTES)
    throw new Vl3Error('invalid-argument', `--invitation-file: ${file} is too long to hold an invitation`);
  return bytes.toString('utf8');
};

const withFederation = async <T>(file: string, use: (client: FederationClient) => Promise<T>): Promise<T> => {
  const { connectFederation } = await import('../../src/registry/client.ts');
  await using connection = await connectFederation(file, { callTimeoutMs: CALL_TIMEOUT_MS });
  return await use(connection.client);
};

/** As the schema numbers them, which is not loaded for a line of help. */
const STATES: { readonly [state: number]: string } = {
  1: 'pending',
  2: 'active',
  3: 'revoked by the partner',
};
const isPending = ({ state }: Partner): boolean => STATES[state] === 'pending';

const stateOf = ({ state, isBundleExpired }: Partner): string => {
  const text = STATES[state] ?? 'unknown';
  return text === 'active' && isBundleExpired ? 'bundle too old' : text;
};

const constraintsJson = (constraints: FederationConstraints | undefined) =>
  constraints && {
    networks: constraints.networks,
    names: constraints.names,
    prefixes: constraints.prefixes,
  };

const toJson = (partner: Partner) => ({
  trustDomain: partner.trustDomain,
  state: stateOf(partner),
  since: iso(partner.since),
  admits: constraintsJson(partner.admits),
  accepted: constraintsJson(partner.accepted),
  invitation: constraintsJson(partner.invitation),
  invitationExpiresAt: iso(partner.invitationExpiresAt),
  registries: partner.registries,
  bundle: {
    url: partner.bundleLocation?.url ?? '',
    profile: partner.bundleLocation?.profile ?? '',
    spiffeId: partner.bundleLocation?.spiffeId ?? '',
    sequence: partner.bundleSequence,
    confirmedAt: iso(partner.bundleConfirmedAt),
    expired: partner.isBundleExpired,
    problem: partner.bundleProblem,
  },
  caFingerprints: partner.caFingerprints,
  nodes: partner.nodes,
});

const brief = (constraints: FederationConstraints | undefined): string => {
  if (constraints === undefined) return '-';
  const { networks, names, prefixes } = constraints;
  return [
    networks.join(', '),
    ...(prefixes.length > 0 ? [`from ${prefixes.join(', ')}`] : []),
    ...(names.length > 0 ? [`named ${names.join(', ')}`] : []),
  ].join(' ');
};

const printPartners = (context: Context, partners: readonly Partner[], now: number): void => {
  printTable(
    context,
    ['DOMAIN', 'STATE', 'MAY COME HERE TO', 'WE MAY COME THERE TO', 'NODES HERE', 'BUNDLE'],
    partners.map((one) => [
      one.trustDomain,
      stateOf(one),
      isPending(one) ? `invited to ${brief(one.invitation)}` : brief(one.admits),
      brief(one.accepted),
      String(one.nodes),
      one.bundleConfirmedAt === undefined
        ? '-'
        : `confirmed ${formatAge(milliseconds(one.bundleConfirmedAt), now)}`,
    ]),
  );
  for (const one of partners) {
    for (const print of one.caFingerprints) context.out(`CA of ${one.trustDomain}: SHA-256 ${print}`);
    if (one.bundleProblem !== '') context.out(`bundle of ${one.trustDomain}: ${one.bundleProblem}`);
    if (!isPending(one) && one.invitationExpiresAt !== undefined)
      context.out(
        `${one.trustDomain} is invited anew, to ${brief(one.invitation)}, until ${iso(one.invitationExpiresAt)}`,
      );
  }
};

const printOwn = (
  context: Context,
  {
    trustDomain,
    caFingerprints,
  }: { readonly trustDomain: string; readonly caFingerprints: readonly string[] },
): void => {
  for (const one of caFingerprints) context.out(`CA of ${trustDomain} (this domain): SHA-256 ${one}`);
};

const asGuard = (
  text: string,
  wanted: string | undefined,
  parse: (pasted: string) => { readonly trustDomain: string },
): void => {
  if (wanted === undefined) return;
  const { trustDomain } = parse(text);
  if (trustDomain !== wanted)
    throw new Vl3Error(
      'failed-precondition',
      `the invitation is of ${trustDomain}, not of ${wanted}: nothing was accepted`,
    );
};

export const federationCommands: CommandGroup = (program: Command, context: Context): void => {
  const federation = program
    .command('federation')
    .description('other domains: whose workloads may come here, and where this one may go');

  withAdminOptions(federation.command('invite'), context)
    .description(
      'invite a partner to networks of this domain; prints the invitation, which is shown only now',
    )
    .argument('<domain>', "the partner's trust domain")
    .requiredOption('--network <name>', 'a network it may come to; may be repeated', collect)
    .option('--prefix <prefix>', 'its nodes lease from this only; may be repeated', collect)
    .option(
      '--name <name>',
      'its workloads may be called this, or something below it; may be repeated',
      collect,
    )
    .addOption(
      new Option('--expires <duration>', 'until when it can be accepted, at most 30d')
        .argParser(parseDuration)
        .default(86_400, '24h'),
    )
    .addHelpText(
      'after',
      `
The invitation is one line, works once, and tells the partner's registry where this one is and how it is known. It admits
nobody yet: make a rule for that (\`vl3 admission create --from <domain>\`). Without --prefix the partner leases from the
networks' pools, a quarter of each at most; with it, name one in each of a network's pools; without --name its workloads have no names here. Inviting a partner anew changes
what it may bring as soon as it accepts that; an invitation that was made before counts no more.
Compare the fingerprints with the partner's admin over another way if you can.

Examples:
  vl3 federation invite partner.example --network red
  vl3 federation invite partner.example --network red --network green --expires 1h
  vl3 federation invite partner.example --network red --prefix 10.60.128.0/20 --prefix fd00:60:0:8000::/49 --name partner`,
    )
    .action(
      async (
        trustDomain: string,
        options: AdminOptions & { network: string[]; prefix?: string[]; name?: string[]; expires: number },
      ) => {
        const { network: networks, prefix: prefixes = [], name: names = [] } = options;
        const { makeInvitation } = await import('./ca-client.ts');
        const made = await makeInvitation(
          options.admin,
          { trustDomain, networks, prefixes, names },
          options.expires,
        );
        const answer = await withFederation(options.admin, (client) =>
          client.invitePartner({
            trustDomain,
            constraints: { networks, prefixes, names },
            ttl: { seconds: BigInt(options.expires), nanos: 0 },
            ...(made !== undefined && { secretHash: made.secretHash, handle: made.handle }),
          }),
        );
        const { partner, caFingerprints, registries, bundleLocation } = answer;
        const { url = '', profile = '', spiffeId = '' } = bundleLocation ?? {};
        const invitation = made?.format({ registries, url, profile, spiffeId }) ?? answer.invitation;
        const shown = {
          trustDomain,
          invitation,
          expiresAt: iso(partner?.invitationExpiresAt),
          caFingerprints,
        };
        await print(context, options.output, shown, () => {
          context.out(invitation);
          context.err(`for the admin of ${trustDomain}: vl3 federation accept <the line above>`);
          for (const one of caFingerprints) context.err(`CA of ${answer.trustDomain}: SHA-256 ${one}`);
        });
      },
    );

  withAdminOptions(federation.command('accept'), context)
    .description('accept an invitation: workloads of this domain may ask for the networks that it names')
    .argument('[invitation]', 'the line that `vl3 federation invite` printed at the other domain')
    .option(
      '--invitation-file <file>',
      'the file that holds it, or /dev/stdin: others on this machine may see arguments',
    )
    .option('--as <domain>', 'only if it is the invitation of this domain')
    .addHelpText(
      'after',
      `
This domain's registry speaks to the inviting one, which it knows by the fingerprint in the invitation. Nobody of the other
domain may come here by that: invite it too if it should. Accepting the same invitation again changes nothing.

Examples:
  vl3 federation accept vl3f1.AAFu…
  vl3 federation accept vl3f1.AAFu… --as home.example
  vl3 federation accept --invitation-file /dev/stdin`,
    )
    .action(async (argument: string | undefined, options: AcceptOptions) => {
      const { parseInvitation } = await import('../../native-free/federation/invitation.ts');
      const invitation = await invitationOf(argument, options.invitationFile);
      asGuard(invitation, options.as, parseInvitation);
      const { acceptBySigner } = await import('./ca-client.ts');
      const accepted = await acceptBySigner(options.admin, invitation);
      const answer = await withFederation(options.admin, (client) => client.acceptInvitation(accepted));
      const { partner } = answer;
      await print(context, options.output, partner && toJson(partner), () => {
        if (partner === undefined) return;
        context.out(
          `federated with ${partner.trustDomain}: its networks ${brief(partner.accepted)} can be asked for`,
        );
        for (const one of partner.caFingerprints) context.out(`CA of ${partner.trustDomain}: SHA-256 ${one}`);
        printOwn(context, answer);
      });
    });

  withAdminOptions(federation.command('list'), context)
    .description('list the domains that are invited or federated with, and the fingerprints of their CAs')
    .addHelpText('after', '\nExamples:\n  vl3 federation list\n  vl3 federation list -o json')
    .action(async (options: AdminOptions) => {
      const answer = await withFederation(options.admin, (client) => client.listPartners({}));
      await print(context, options.output, answer.partners.map(toJson), () => {
        printPartners(context, answer.partners, Date.now());
        printOwn(context, answer);
      });
    });

  federation
    .command('revoke')
    .description("end a federation or an invitation: all that the partner's nodes have here goes at once")
    .argument('<domain>', "the partner's trust domain")
    .addOption(adminOption(context))
    .addHelpText(
      'after',
      `
Its bundle, memberships, prefixes, names and grants go, and so do this domain's ways to its networks. The partner's side shows
that it was revoked, and is told nothing else. Rules that admit it stay, and admit nobody while there is no federation.

Examples:
  vl3 federation revoke partner.example`,
    )
    .action(async (trustDomain: string, { admin }: Pick<AdminOptions, 'admin'>) => {
      const { tellSigner } = await import('./ca-client.ts');
      // First whoever signs: a registry may keep it to itself.
      const told = await tellSigner(admin, (signer) => signer.withdrawPartner({ trustDomain }));
      const { nodes } = await withFederation(admin, (client) => client.revokePartner({ trustDomain })).catch(
        (error: unknown) => {
          if (told === undefined || !(error instanceof Vl3Error)) throw error;
          throw new Vl3Error(
            error.code,
            `the signer has ended the federation with ${trustDomain}, and nodes that hear of it believe nothing of it any more; the registry was not told: ${error.message}`,
            { cause: error },
          );
        },
      );
      context.out(
        nodes.length === 0
          ? `the federation with ${trustDomain} has ended; it had no node here`
          : `the federation with ${trustDomain} has ended; off the networks: ${nodes.join(', ')}`,
      );
    });
};
