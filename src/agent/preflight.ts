// Whether the agent can work here, found out before anything is made: a token is used up by enrolling, and what is
// half-made stays. Looks only. Not here: what the settings say (src/config).

import { closeSync, existsSync, openSync } from 'node:fs';
import { release } from 'node:os';
import { delimiter, join } from 'node:path';
import { Vl3Error } from '../../native-free/error.ts';
import { closeUdp, openUdp } from '../datapath/udp.ts';
import { parseRegistryAddress } from '../identity/registry-address.ts';
import { checkWritableDirectory } from '../writable-directory.ts';
import { notEnrolled } from './enrolment.ts';
import { type CredentialOptions, credentialOf } from './enrolment-credential.ts';
import type { OwnIdentityOptions } from './own-identity.ts';
import { checkPrivilege } from './privilege.ts';

export interface PreflightOptions extends CredentialOptions {
  readonly stateDirectory: string;
  readonly runDirectory: string;
  readonly ownIdentity?: OwnIdentityOptions;
  /** Undefined: the one used before, else `defaultPort`. */
  readonly port?: number;
  readonly defaultPort: number;
}

/** Older ones were never tried, and lack UDP receive offload at least (5.0). */
const LEAST_KERNEL = [5, 4] as const;

/** Throws Vl3Error that names the setting or the thing missing, and the remedy. Changes nothing. */
export const preflight = (options: PreflightOptions): void => {
  checkKernel();
  checkPrivilege();
  checkTools();
  checkTun();
  checkWritableDirectory(options.stateDirectory, '--state-dir');
  checkWritableDirectory(options.runDirectory, '--run-dir');
  checkEnrolled(options);
  checkPort(options);
};

export const checkKernel = (version = release()): void => {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const [leastMajor, leastMinor] = LEAST_KERNEL;
  if (major > leastMajor || (major === leastMajor && minor >= leastMinor)) return;
  throw new Vl3Error(
    'failed-precondition',
    `this kernel is Linux ${version}: the agent needs ${LEAST_KERNEL.join('.')} or newer: upgrade it`,
  );
};

const PACKAGES = { ip: 'iproute2', nft: 'nftables', nsenter: 'util-linux' };

export const checkTools = (path = process.env['PATH'] ?? ''): void => {
  const directories = [...path.split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  for (const [tool, name] of Object.entries(PACKAGES)) {
    if (directories.some((directory) => directory !== '' && existsSync(join(directory, tool)))) continue;
    throw new Vl3Error('failed-precondition', `"${tool}" is not installed: install the package ${name}`);
  }
};

const checkTun = (): void => {
  try {
    closeSync(openSync('/dev/net/tun', 'r+'));
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    const isMissing = ['ENOENT', 'ENXIO', 'ENODEV', 'ENOTDIR'].includes(code);
    throw new Vl3Error(
      'failed-precondition',
      isMissing
        ? 'there is no /dev/net/tun: load the kernel module (modprobe tun), or give the container that device'
        : `cannot open /dev/net/tun (${code}): allow this container or service that device`,
      { cause },
    );
  }
};

const checkEnrolled = (options: PreflightOptions): void => {
  if (options.ownIdentity !== undefined) {
    for (const registry of options.ownIdentity.registries) parseRegistryAddress(registry);
    return;
  }
  if (existsSync(join(options.stateDirectory, 'identity.json'))) return;
  const credential = credentialOf(options);
  if (credential === undefined) throw notEnrolled();
  credential.check();
};

const checkPort = ({ stateDirectory, port, defaultPort }: PreflightOptions): void => {
  // Which port was used before only the state can tell, and that is another agent's while it runs.
  if (existsSync(join(stateDirectory, 'agent.db'))) return;
  closeUdp(openUdp({ port: port ?? defaultPort, allowOffloads: false }));
};
