// vl3 ca init, admin, registry: what is made where the CA's key is, by whoever may read it, without asking anybody.

import { type Command, Option } from 'commander';
import type { CertificateAuthority } from '../../src/identity/ca.ts';
import { parseDuration } from './arguments.ts';
import type { Context } from './context.ts';
import { type OutputFormat, outputOption, print } from './output.ts';

const DEFAULT_STATE = '/var/lib/vl3/ca';

interface Place {
  trustDomain: string;
  stateDir: string;
}

const withPlace = (command: Command): Command =>
  command
    .requiredOption('--trust-domain <name>', "the domain's name")
    .addOption(new Option('--state-dir <directory>', "the CA's state directory").default(DEFAULT_STATE));

const addressOption = (flag: string, what: string): Option =>
  new Option(flag, `${what}; may be repeated`).argParser((text: string, before: unknown): string[] => [
    ...(Array.isArray(before) ? before.map(String) : []),
    text,
  ]);

const openCa = async (
  { trustDomain, stateDir }: Place,
  mayCreate: boolean,
): Promise<CertificateAuthority> => {
  const { CertificateAuthority } = await import('../../src/identity/ca.ts');
  const { caDirectory } = await import('../../src/ca/server.ts');
  const { makePrivateDirectory } = await import('../../src/identity/private-file.ts');
  const { hasCa } = await import('../../src/identity/ca-directory.ts');
  const { Vl3Error } = await import('../../native-free/error.ts');
  const directory = caDirectory(stateDir);
  if (mayCreate) await makePrivateDirectory(stateDir);
  else if (!(await hasCa(directory)))
    throw new Vl3Error('not-found', `there is no CA in ${directory}: make it with \`vl3 ca init\``);
  return await CertificateAuthority.open({ directory, trustDomain, mayCreate, leases: true });
};

const addressesOf = async (texts: readonly string[]): Promise<string[]> => {
  const { parseRegistryAddress } = await import('../../src/identity/registry-address.ts');
  const { formatHostPort } = await import('../../native-free/host-port.ts');
  return texts.map((text) => formatHostPort(parseRegistryAddress(text)));
};

export const addCredentialCommands = (ca: Command, context: Context): void => {
  withPlace(ca.command('init'))
    .description('make the CA of a domain on this machine, or show the one that is there')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
A registry's own CA is put apart by moving its ca/ here, while the registry is stopped; rotate it then, since its key was there. Keep a
copy of ca/ offline: without it a lost key means that every node enrols anew, under a new CA.

Examples:
  vl3 ca init --trust-domain aws-prod.example
  vl3 ca init --trust-domain aws-prod.example --state-dir /srv/vl3-ca`,
    )
    .action(async ({ output, ...place }: Place & { output: OutputFormat }) => {
      const { hasCa } = await import('../../src/identity/ca-directory.ts');
      const { caDirectory } = await import('../../src/ca/server.ts');
      const { fingerprint } = await import('../../src/identity/certificate.ts');
      const isMade = !(await hasCa(caDirectory(place.stateDir)));
      const { trustBundle } = await openCa(place, true);
      const prints = trustBundle.certificates.map((der) => Buffer.from(fingerprint(der)).toString('hex'));
      const shown = {
        trustDomain: place.trustDomain,
        directory: caDirectory(place.stateDir),
        isMade,
        fingerprints: prints,
      };
      await print(context, output, shown, () => {
        context.out(`the CA of ${place.trustDomain} ${isMade ? 'was made' : 'is there'}: ${shown.directory}`);
        for (const one of prints) context.out(one);
      });
    });

  withPlace(ca.command('admin'))
    .description("make an admin's credential where the CA's key is")
    .argument('<name>', 'who it is for: a DNS label')
    .requiredOption('--file <path>', 'where to write it; it holds the key and is readable by you alone')
    .addOption(addressOption('--registry <host:port>', 'where the registry is').makeOptionMandatory())
    .addOption(addressOption('--signer <host:port>', 'where this CA is').makeOptionMandatory())
    .addHelpText(
      'after',
      '\nIt is good for a year, and ends before only with the CA that signed it.\n\nExamples:\n  vl3 ca admin alice --trust-domain aws-prod.example --file ./admin.json --registry registry.aws-prod.example:7443 --signer ca.aws-prod.example:7444',
    )
    .action(
      async (
        name: string,
        { file, registry, signer, ...place }: Place & { file: string; registry: string[]; signer: string[] },
      ) => {
        const { createAdminCredential } = await import('../../src/identity/admin-credential.ts');
        const { writeIdentity } = await import('../../src/identity/identity-file.ts');
        const authority = await openCa(place, false);
        const admin = await createAdminCredential(authority, name, await addressesOf(registry));
        await writeIdentity(file, { ...admin, signers: await addressesOf(signer) });
        context.out(`${file} is the credential of admin "${name}"`);
      },
    );

  withPlace(ca.command('operator'))
    .description(
      "make a credential, where the CA's key is, for somebody who may look at everything and change nothing",
    )
    .argument('<name>', 'who it is for: a DNS label')
    .requiredOption('--file <path>', 'where to write it; it holds the key and is readable by you alone')
    .addOption(addressOption('--registry <host:port>', 'where the registry is').makeOptionMandatory())
    .addOption(
      new Option('--ttl <duration>', 'how long it lasts, at most 365d')
        .argParser(parseDuration)
        .default(2_592_000, '30d'),
    )
    .addHelpText(
      'after',
      '\nWhere the CA is in the registry, that makes them: `vl3 operator create`. Either ends by `vl3 operator revoke`, too.\nOf a name that was revoked just now make one in a few minutes, or take another name: certificates begin five minutes early.\n\nExamples:\n  vl3 ca operator dashboard --trust-domain aws-prod.example --file ./dashboard.json --registry registry.aws-prod.example:7443',
    )
    .action(
      async (
        name: string,
        { file, registry, ttl, ...place }: Place & { file: string; registry: string[]; ttl: number },
      ) => {
        const { createOperatorCredential } = await import('../../src/identity/admin-credential.ts');
        const { writeIdentity } = await import('../../src/identity/identity-file.ts');
        const authority = await openCa(place, false);
        const lasts = Math.min(ttl, 365 * 86_400) * 1000;
        await writeIdentity(
          file,
          await createOperatorCredential(authority, name, await addressesOf(registry), lasts),
        );
        context.out(`${file} is the credential of operator "${name}"`);
      },
    );

  withPlace(ca.command('registry'))
    .description("make a registry's credential for this CA")
    .requiredOption(
      '--file <path>',
      'where to write it; bring it to the registry (--signer), and leave no copy',
    )
    .addOption(addressOption('--signer <host:port>', 'where this CA is').makeOptionMandatory())
    .addOption(
      addressOption('--host <name>', "a name or address of the registry's, for its server certificate"),
    )
    .addHelpText(
      'after',
      '\nThe registry renews it by itself. It lasts a week at first: bring it there within that.\n\nExamples:\n  vl3 ca registry --trust-domain aws-prod.example --file ./registry.json --signer ca.aws-prod.example:7444 --host registry.aws-prod.example',
    )
    .action(
      async ({
        file,
        signer,
        host = [],
        ...place
      }: Place & { file: string; signer: string[]; host?: string[] }) => {
        const { createRegistryCredential, writeRegistryCredential } = await import(
          '../../src/ca/registry-credential.ts'
        );
        const authority = await openCa(place, false);
        const hosts = [...new Set([...host, 'localhost'])];
        const signers = await addressesOf(signer);
        await writeRegistryCredential(file, await createRegistryCredential(authority, { signers, hosts }));
        context.out(`${file} is the credential of a registry of ${place.trustDomain}`);
      },
    );
};
