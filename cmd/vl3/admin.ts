// What the admin's commands share: the credential option and a connection to the registry.

import { type Command, Option } from 'commander';
import type { VerifyGrant } from '../../native-free/admission/grant.ts';
import type { AdminClient, AdmissionClient } from '../../src/registry/client.ts';
import type { Context } from './context.ts';
import { type OutputFormat, outputOption } from './output.ts';

const DEFAULT_REGISTRY_STATE = '/var/lib/vl3/registry';

export const adminOption = (context: Context): Option =>
  new Option('--admin <file>', "the admin's credential (environment: VL3_ADMIN)").default(
    context.env['VL3_ADMIN'] || `${DEFAULT_REGISTRY_STATE}/admin.json`,
  );

/** What `withAdminOptions` adds. */
export interface AdminOptions {
  admin: string;
  output: OutputFormat;
}

export const withAdminOptions = (command: Command, context: Context): Command =>
  command.addOption(adminOption(context)).addOption(outputOption());

/** Connects with the credential in `file`, runs `use`, and closes the connection whatever happens. */
export const withAdmin = async <T>(file: string, use: (client: AdminClient) => Promise<T>): Promise<T> => {
  const { connectAdmin } = await import('../../src/registry/client.ts');
  await using connection = await connectAdmin(file);
  return await use(connection.client);
};

/** As withAdmin, for the rules of admission; `verify` says what the credential's domain has signed. */
export const withAdmission = async <T>(
  file: string,
  use: (admission: { readonly client: AdmissionClient; readonly verify: VerifyGrant }) => Promise<T>,
): Promise<T> => {
  const { connectAdmission } = await import('../../src/registry/client.ts');
  await using connection = await connectAdmission(file);
  return await use(connection);
};
