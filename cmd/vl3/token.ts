// vl3 token: one-time join tokens for nodes.

import { type Timestamp, timestampMs } from '@bufbuild/protobuf/wkt';
import type { Command } from 'commander';
import { adminOption, withAdmin } from './admin.ts';
import { parseDuration } from './arguments.ts';
import type { CommandGroup, Context } from './context.ts';
import { formatAge, type OutputFormat, outputOption, printJson, printTable } from './output.ts';

interface CommonOptions {
  admin: string;
  output: OutputFormat;
}

const milliseconds = (time: Timestamp | undefined): number => (time === undefined ? 0 : timestampMs(time));

const iso = (time: Timestamp | undefined): string =>
  time === undefined ? '' : new Date(timestampMs(time)).toISOString();

export const tokenCommands: CommandGroup = (program: Command, context: Context): void => {
  const token = program.command('token').description('join tokens, with which nodes enrol');

  token
    .command('create')
    .description('make a join token and print it; it is shown only now')
    .option('--node <name>', 'only a node of this name may use it')
    .option('--ttl <duration>', 'how long it may be used, at most 7d', parseDuration, 3600)
    .addOption(adminOption(context))
    .addOption(outputOption())
    .addHelpText(
      'after',
      '\nExamples:\n  vl3 token create --node edge-1\n  vl3 agent run --token "$(vl3 token create --ttl 15m)"',
    )
    .action(async (options: CommonOptions & { node?: string; ttl: number }) => {
      const answer = await withAdmin(options.admin, (client) =>
        client.createToken({ node: options.node ?? '', ttl: { seconds: BigInt(options.ttl), nanos: 0 } }),
      );
      if (options.output === 'table') return context.out(answer.joinToken);
      printJson(context, {
        id: answer.token?.id ?? '',
        node: answer.token?.node ?? '',
        expiresAt: iso(answer.token?.expiresAt),
        joinToken: answer.joinToken,
      });
    });

  token
    .command('list')
    .description('list the tokens (never their secrets)')
    .addOption(adminOption(context))
    .addOption(outputOption())
    .addHelpText('after', '\nExamples:\n  vl3 token list\n  vl3 token list -o json')
    .action(async (options: CommonOptions) => {
      const { tokens } = await withAdmin(options.admin, (client) => client.listTokens({}));
      const now = Date.now();
      if (options.output === 'json') {
        const rows = tokens.map((one) => ({
          id: one.id,
          node: one.node,
          createdAt: iso(one.createdAt),
          expiresAt: iso(one.expiresAt),
          usedAt: iso(one.usedAt),
          usedBy: one.usedBy,
        }));
        return printJson(context, rows);
      }
      printTable(
        context,
        ['ID', 'FOR NODE', 'CREATED', 'STATE'],
        tokens.map((one) => {
          const state =
            one.usedAt !== undefined
              ? `used by ${one.usedBy}`
              : milliseconds(one.expiresAt) < now
                ? 'expired'
                : `valid until ${iso(one.expiresAt)}`;
          return [one.id, one.node || 'any', formatAge(milliseconds(one.createdAt), now), state];
        }),
      );
    });

  token
    .command('revoke')
    .description('make a token unusable')
    .argument('<id>', "the token's id")
    .addOption(adminOption(context))
    .addHelpText('after', '\nExamples:\n  vl3 token revoke 4fd1c2')
    .action(async (id: string, options: CommonOptions) => {
      await withAdmin(options.admin, (client) => client.revokeToken({ id }));
    });
};
