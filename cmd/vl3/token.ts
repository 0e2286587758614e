// vl3 token: one-time join tokens for nodes.

import { type Command, Option } from 'commander';
import type { Token } from '../../src/api/generated/vl3/v1/admin_pb.js';
import { type AdminOptions, adminOption, withAdmin, withAdminOptions } from './admin.ts';
import { parseDuration } from './arguments.ts';
import { registerToken, tellSigner } from './ca-client.ts';
import type { CommandGroup, Context } from './context.ts';
import { formatAge, print, printTable } from './output.ts';
import { iso, milliseconds } from './timestamp.ts';

const stateOf = (token: Token, now: number): string => {
  if (token.revokedAt !== undefined) return 'revoked';
  if (token.usedAt !== undefined) return `used by ${token.usedBy}`;
  return milliseconds(token.expiresAt) < now ? 'expired' : `valid until ${iso(token.expiresAt)}`;
};

export const tokenCommands: CommandGroup = (program: Command, context: Context): void => {
  const token = program.command('token').description('join tokens, with which nodes enrol');

  withAdminOptions(token.command('create'), context)
    .description('make a join token and print it; it is shown only now')
    .option('--node <name>', 'only a node of this name may use it')
    .addOption(
      new Option('--ttl <duration>', 'how long it may be used, at most 7d')
        .argParser(parseDuration)
        .default(3600, '1h'),
    )
    .addHelpText(
      'after',
      '\nExamples:\n  vl3 token create --node edge-1\n  vl3 agent run --token "$(vl3 token create --ttl 15m)"',
    )
    .action(async (options: AdminOptions & { node?: string; ttl: number }) => {
      const { node = '', ttl } = options;
      const proven = await registerToken(options.admin, node, ttl);
      const answer = await withAdmin(options.admin, (client) =>
        client.createToken({
          ...{ node, ttl: { seconds: BigInt(ttl), nanos: 0 } },
          secretHash: proven?.secretHash ?? '',
        }),
      );
      const made = {
        id: answer.token?.id ?? '',
        node: answer.token?.node ?? '',
        expiresAt: iso(answer.token?.expiresAt),
        joinToken: proven?.joinToken ?? answer.joinToken,
      };
      await print(context, options.output, made, () => context.out(made.joinToken));
    });

  withAdminOptions(token.command('list'), context)
    .description('list the tokens (never their secrets)')
    .addHelpText('after', '\nExamples:\n  vl3 token list\n  vl3 token list -o json')
    .action(async (options: AdminOptions) => {
      const { tokens } = await withAdmin(options.admin, (client) => client.listTokens({}));
      const now = Date.now();
      const all = tokens.map((one) => ({
        id: one.id,
        node: one.node,
        createdAt: iso(one.createdAt),
        expiresAt: iso(one.expiresAt),
        usedAt: iso(one.usedAt),
        usedBy: one.usedBy,
        revokedAt: iso(one.revokedAt),
      }));
      await print(context, options.output, all, () =>
        printTable(
          context,
          ['ID', 'FOR NODE', 'CREATED', 'STATE'],
          tokens.map((one) => [
            one.id,
            one.node || 'any',
            formatAge(milliseconds(one.createdAt), now),
            stateOf(one, now),
          ]),
        ),
      );
    });

  token
    .command('revoke')
    .description('make a token unusable')
    .argument('<id>', "the token's id")
    .addOption(adminOption(context))
    .addHelpText('after', '\nExamples:\n  vl3 token revoke 790539839ea6902e')
    .action(async (id: string, options: Pick<AdminOptions, 'admin'>) => {
      await tellSigner(options.admin, (signer) => signer.withdrawToken({ id }));
      await withAdmin(options.admin, (client) => client.revokeToken({ id }));
    });
};
