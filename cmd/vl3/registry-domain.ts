// vl3 registry domain: where the domain is found and how it is known, for nodes that enrol without a join token.

import type { Command } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import { adminOption } from './admin.ts';
import type { Context } from './context.ts';
import { type OutputFormat, outputOption, print } from './output.ts';

export const addDomainCommand = (registry: Command, context: Context): void => {
  registry
    .command('domain')
    .description(
      "print the domain's address: where its registry is, and the fingerprint of its CA; it is no secret",
    )
    .addOption(adminOption(context))
    .addOption(outputOption())
    .addHelpText(
      'after',
      '\nNodes of other Kubernetes clusters enrol with it (vl3 agent run --kubernetes-token-file … --domain …). It is\nread from the admin credential; the registry is not asked.\n\nExamples:\n  vl3 registry domain',
    )
    .action(async ({ admin, output }: { admin: string; output: OutputFormat }) => {
      const { readAdminCredential } = await import('../../src/identity/identity-file.ts');
      const { fingerprint } = await import('../../src/identity/certificate.ts');
      const { formatDomainAddress } = await import('../../src/identity/domain-address.ts');
      const { registries, trustBundle } = await readAdminCredential(admin);
      const { trustDomain, certificates } = trustBundle;
      const [ca] = certificates;
      if (ca === undefined) throw new Vl3Error('failed-precondition', `${admin} names no CA: restore it`);
      const caFingerprint = fingerprint(ca);
      const address = formatDomainAddress({ registries, trustDomain, caFingerprint });
      const shown = {
        trustDomain,
        registries,
        caFingerprint: Buffer.from(caFingerprint).toString('hex'),
        address,
      };
      await print(context, output, shown, () => context.out(address));
    });
};
