// vl3 registry operator: a credential for somebody who is to look and to change nothing.

import { type Command, Option } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import { adminOption } from './admin.ts';
import { parseDuration } from './arguments.ts';
import type { Context } from './context.ts';

export const addOperatorCommand = (registry: Command, context: Context): void => {
  registry
    .command('operator')
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
With it \`list\`, \`show\`, \`status\`, \`admission test\` and \`admission log\` work, and nothing that changes anything. It cannot be taken
back before it ends.

Examples:
  vl3 registry operator alice --file ./alice.json
  vl3 registry operator dashboard --file ./dashboard.json --ttl 7d
  VL3_ADMIN=./alice.json vl3 network list`,
    )
    .action(async (name: string, { file, ttl, admin }: { file: string; ttl: number; admin: string }) => {
      const { readAdminCredential, writeIdentity } = await import('../../src/identity/identity-file.ts');
      const { createIdentity } = await import('../../src/identity/identity.ts');
      const { generateKey } = await import('../../src/identity/key.ts');
      const { createCertificateRequest } = await import('../../src/identity/certificate-request.ts');
      const { connectCredentials } = await import('../../src/registry/client.ts');
      const { access } = await import('node:fs/promises');
      const isThere = await access(file).then(
        () => true,
        () => false,
      );
      if (isThere) throw new Vl3Error('already-exists', `${file} exists: name another file, or remove it`);
      const { registries, trustBundle } = await readAdminCredential(admin);
      const privateKey = await generateKey();
      await using connection = await connectCredentials(admin);
      const { certificateChain } = await connection.client.issueOperator({
        name,
        certificateRequest: await createCertificateRequest(privateKey),
        ttl: { seconds: BigInt(ttl), nanos: 0 },
      });
      const parts = {
        kind: 'operator',
        name,
        registries,
        trustBundle,
        privateKey,
        certificateChain,
      } as const;
      const identity = createIdentity(parts, Date.now());
      await writeIdentity(file, identity);
      context.out(`${file}: looks as ${name} until ${new Date(identity.notAfter).toISOString()}`);
    });
};
