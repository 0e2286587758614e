// vl3 registry bundle: the domain's CAs as a SPIFFE bundle, for partners and everything else that speaks SPIFFE; and whether
// another domain's bundle is one that vl3 would take.

import { type Command, Option } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import type { SpiffeBundle } from '../../native-free/federation/bundle-rules.ts';
import { adminOption } from './admin.ts';
import type { Context } from './context.ts';
import { type OutputFormat, outputOption, print, printTable } from './output.ts';

const HELP = `
It is no secret, and is read from the admin credential; the registry is not asked.

With --check it is another domain's bundle that is read, from a file or from its bundle endpoint, as strictly as federation reads
it. An endpoint of the profile https_spiffe is known by a bundle that you have already (--known), one of https_web by the usual
CAs or those of --ca-file.

Examples:
  vl3 registry bundle > aws-prod.example.json
  vl3 registry bundle --check ./partner.json --trust-domain partner.example
  vl3 registry bundle --check https://spire.partner.example/bundle.json --trust-domain partner.example
  vl3 registry bundle --check https://spire.partner.example:8443/ --trust-domain partner.example --profile https_spiffe --spiffe-id spiffe://partner.example/spire/server --known ./partner.json`;

interface Options {
  admin: string;
  output: OutputFormat;
  check?: string;
  trustDomain?: string;
  profile: string;
  spiffeId?: string;
  known?: string;
  caFile?: string;
}

export const addBundleCommand = (registry: Command, context: Context): void => {
  registry
    .command('bundle')
    .description("print the domain's SPIFFE bundle (its CAs, as JSON), or check another domain's")
    .addOption(adminOption(context))
    .option('--check <file|url>', "check this bundle of another domain's instead")
    .option('--trust-domain <name>', 'whose bundle it is to be; bundles do not say it themselves')
    .addOption(
      new Option('--profile <name>', 'how the server at a URL is known')
        .choices(['https_web', 'https_spiffe'])
        .default('https_web'),
    )
    .option('--spiffe-id <id>', 'of the server, for https_spiffe (default: the registry of the trust domain)')
    .option('--known <file>', 'a bundle of the domain that you have: it must not go back behind that')
    .option('--ca-file <file>', 'CAs in PEM, for https_web, instead of the usual ones')
    .addOption(outputOption())
    .addHelpText('after', HELP)
    .action(async (options: Options, command: Command) => {
      if (options.check !== undefined) return await check(options.check, options, command, context);
      const { readAdminCredential } = await import('../../src/identity/identity-file.ts');
      const { encodeSpiffeBundle } = await import('../../src/identity/spiffe-bundle.ts');
      const { trustBundle } = await readAdminCredential(options.admin);
      context.out(encodeSpiffeBundle(trustBundle).trimEnd());
    });
};

const check = async (place: string, options: Options, command: Command, context: Context): Promise<void> => {
  const { trustDomain, known: knownFile } = options;
  if (trustDomain === undefined)
    command.error('error: --check needs --trust-domain: a bundle does not say whose it is');
  const { judgeBundle } = await import('../../native-free/federation/bundle-rules.ts');
  const { decodeSpiffeBundle } = await import('../../src/identity/spiffe-bundle.ts');
  const now = Date.now();
  const known =
    knownFile === undefined ? undefined : decodeSpiffeBundle(await readText(knownFile), trustDomain);
  const bundle = place.includes('://')
    ? await fetched(place, trustDomain, known, options, context)
    : decodeSpiffeBundle(await readText(place), trustDomain);
  const held = known && { bundle: known, confirmedAt: now };
  const verdict = judgeBundle(held, bundle, 'endpoint', now);
  if (verdict.kind === 'refused')
    throw new Vl3Error(
      'failed-precondition',
      `the bundle of ${trustDomain} would not be taken: ${verdict.message}`,
    );
  const certificates = bundle.certificates.map(({ fingerprint, notBefore, notAfter }) => ({
    fingerprint,
    notBefore: new Date(notBefore).toISOString(),
    notAfter: new Date(notAfter).toISOString(),
  }));
  const { refreshHint, jwtKeyIds, ignored } = bundle;
  const sequence = bundle.sequence?.toString();
  const shown = {
    trustDomain,
    sequence,
    refreshHint,
    certificates,
    jwtKeyIds,
    ignored,
    verdict: verdict.kind,
  };
  await print(context, options.output, shown, () => {
    const numbered = sequence === undefined ? 'without a sequence number' : `sequence ${sequence}`;
    const hint = refreshHint === undefined ? '' : `, to be asked for every ${refreshHint} s`;
    context.out(`a good bundle of ${trustDomain}, ${numbered}${hint}`);
    if (known !== undefined)
      context.out(verdict.kind === 'confirmed' ? 'it is the known one' : 'it would replace the known one');
    if (jwtKeyIds.length + ignored > 0)
      context.out(
        `not used: ${jwtKeyIds.length} keys for JWT-SVIDs, ${ignored} entries that are not known here`,
      );
    context.out('');
    const rows = certificates.map((one) => [one.fingerprint, one.notBefore, one.notAfter]);
    if (rows.length > 0) printTable(context, ['CA (SHA-256)', 'FROM', 'UNTIL'], rows);
    else context.out('it has no CA: the domain takes back all that it ever signed');
  });
};

const fetched = async (
  url: string,
  trustDomain: string,
  known: SpiffeBundle | undefined,
  { profile, spiffeId, caFile }: Options,
  { signal }: Context,
): Promise<SpiffeBundle> => {
  const { bundleEndpoint } = await import('../../native-free/federation/endpoint.ts');
  const { fetchBundle } = await import('../../src/federation/bundle-call.ts');
  const { trustBundleOf } = await import('../../src/identity/spiffe-bundle.ts');
  const endpoint = bundleEndpoint(trustDomain, { url, profile, ...(spiffeId !== undefined && { spiffeId }) });
  if (profile === 'https_spiffe' && known === undefined) {
    throw new Vl3Error(
      'invalid-argument',
      `a server of the profile https_spiffe is known by a bundle of ${trustDomain}: give one that you have with --known`,
    );
  }
  const ca = caFile === undefined ? undefined : await readText(caFile);
  return await fetchBundle({
    endpoint,
    trustDomain,
    signal,
    ...(known !== undefined && { known: trustBundleOf(known) }),
    ...(ca !== undefined && { ca }),
  });
};

/** More than this is no bundle, and no file of CAs that anybody wrote by hand. */
const MAX_FILE_BYTES = 1024 * 1024;

const readText = async (path: string): Promise<string> => {
  const { open } = await import('node:fs/promises');
  try {
    await using file = await open(path);
    const bytes = new Uint8Array(MAX_FILE_BYTES + 1);
    let length = 0;
    for (let read = -1; read !== 0 && length < bytes.length; length += read)
      ({ bytesRead: read } = await file.read(bytes, length, bytes.length - length));
    if (length > MAX_FILE_BYTES) throw new Error('it is longer than 1 MiB');
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Vl3Error('not-found', `cannot read ${path}: ${why}`, { cause });
  }
};
