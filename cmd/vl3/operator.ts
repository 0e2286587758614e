// vl3 operator: credentials for those who are to look and to change nothing.

import { access } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import type { Operator, OperatorCredential } from '../../src/api/generated/vl3/v1/credential_pb.js';
import type { CredentialClient } from '../../src/registry/client.ts';
import { type AdminOptions, adminOption, withAdminOptions } from './admin.ts';
import { parseDuration } from './arguments.ts';
import type { CommandGroup, Context } from './context.ts';
import { formatAge, print, printTable } from './output.ts';
import { iso, milliseconds } from './timestamp.ts';

const withCredentials = async <T>(
  file: string,
  use: (client: CredentialClient) => Promise<T>,
): Promise<T> => {
  const { connectCredentials } = await import('../../src/registry/client.ts');
  await using connection = await connectCredentials(file);
  return await use(connection.client);
};

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

const stateOf = ({ revokedAt, expiresAt }: OperatorCredential): string =>
  revokedAt === undefined ? `valid until ${iso(expiresAt)}` : `revoked ${iso(revokedAt)}`;

const create = async (name: string, file: string, ttl: number, admin: string): Promise<number> => {
  const { readAdminCredential, writeIdentity } = await import('../../src/identity/identity-file.ts');
  const { createIdentity } = await import('../../src/identity/identity.ts');
  const { generateKey } = await import('../../src/identity/key.ts');
  const { createCertificateRequest } = await import('../../src/identity/certificate-request.ts');
  if (await isThere(file))
    throw new Vl3Error('already-exists', `${file} exists: name another file, or remove it`);
  const { registries, trustBundle } = await readAdminCredential(admin);
  const privateKey = await generateKey();
  const certificateRequest = await createCertificateRequest(privateKey);
  const { certificateChain } = await withCredentials(admin, (client) =>
    client.issueOperator({ name, certificateRequest, ttl: { seconds: BigInt(ttl), nanos: 0 } }),
  );
  const parts = { kind: 'operator', name, registries, trustBundle, privateKey, certificateChain } as const;
  const identity = createIdentity(parts, Date.now());
  await writeIdentity(file, identity);
  return identity.notAfter;
};

export const operatorCommands: CommandGroup = (program: Command, context: Context): void => {
  const operator = program
    .command('operator')
    .description('credentials of people and programs that look at everything and change nothing');

  operator
    .command('create')
    .description('make a credential for somebody who may look at everything and change nothing')
    .argument('<name>', 'who it is for: a DNS label')
    .requiredOption('--file <path>', 'where to write it; it holds the key and is readable by you alone')
    .addOption(
      new Option('--ttl <duration>', 'how long it lasts, at most 365d')
        .argParser(parseDuration)
        .default(2_592_000, '30d'),
    )
    .addOption(adminOption(context))
    .addHelpText(
      'after',
      `
With it \`list\`, \`show\`, \`status\`, \`admission test\` and \`admission log\` work, and nothing that changes anything. Where the CA is a
machine of its own, \`vl3 ca operator\` makes it there.

Examples:
  vl3 operator create alice --file ./alice.json
  vl3 operator create dashboard --file ./dashboard.json --ttl 7d
  VL3_ADMIN=./alice.json vl3 network list`,
    )
    .action(async (name: string, { file, ttl, admin }: { file: string; ttl: number; admin: string }) => {
      const notAfter = await create(name, file, ttl, admin);
      context.out(`${file}: looks as ${name} until ${new Date(notAfter).toISOString()}`);
    });

  withAdminOptions(operator.command('list'), context)
    .description('list the credentials that have not ended')
    .addHelpText(
      'after',
      '\nOne that was made where the CA is (`vl3 ca operator`), or by another issuer, is listed once it has been used.\n\nExamples:\n  vl3 operator list\n  vl3 operator list -o json',
    )
    .action(async (options: AdminOptions) => {
      const { operators } = await withCredentials(options.admin, (client) => client.listOperators({}));
      await print(context, options.output, operators.map(toJson), () =>
        printTable(
          context,
          ['NAME', 'SERIAL', 'MADE BY', 'SINCE', 'STATE'],
          operators.flatMap((one) => rowsOf(one, Date.now())),
        ),
      );
    });

  operator
    .command('revoke')
    .description('end all credentials of an operator, at once')
    .argument('<name>')
    .addOption(adminOption(context))
    .addHelpText(
      'after',
      `
Whatever was made under the name until now counts no more, also what was made where the CA is and never used. One that is made
afterwards counts. Where identities come from another issuer (--identity) the name is barred for good: take the entry away there, too.

Examples:
  vl3 operator revoke alice`,
    )
    .action(async (name: string, { admin }: Pick<AdminOptions, 'admin'>) => {
      const { revoked } = await withCredentials(admin, (client) => client.revokeOperator({ name }));
      const known = revoked === 0 ? `none of operator "${name}" was known here` : `${revoked} known here`;
      context.out(`revoked: ${known}; nothing that was made under that name until now counts any more`);
    });
};

const toJson = ({ name, revokedAt, credentials }: Operator) => ({
  name,
  revokedAt: iso(revokedAt),
  credentials: credentials.map((one) => ({
    serial: one.serial,
    issuedBy: one.issuedBy,
    notedAt: iso(one.notedAt),
    expiresAt: iso(one.expiresAt),
    revokedAt: iso(one.revokedAt),
  })),
});

/** Of a name that was revoked, and whose credentials were never seen or have ended, one that says so. */
const rowsOf = ({ name, revokedAt, credentials }: Operator, now: number): string[][] =>
  credentials.length === 0
    ? [[name, '', '', formatAge(milliseconds(revokedAt), now), 'revoked']]
    : credentials.map((one) => [
        name,
        one.serial.slice(0, 12),
        one.issuedBy || 'elsewhere',
        formatAge(milliseconds(one.notedAt), now),
        stateOf(one),
      ]);
