// Which signer a registry has, its own CA or one apart, and whether the store knows it: a store and a CA that do not belong
// together, and a memory that was lost, are found here, before anything is served.

import { join } from 'node:path';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { startClock } from '../../native-free/registry/clock-rules.ts';
import { bindCa, knowsCa } from '../../native-free/registry/domain-rules.ts';
import { keys, one } from '../../native-free/registry/keys.ts';
import type { LeaseTerms } from '../../native-free/registry/lease-terms.ts';
import { beginRestored, recoveryOf } from '../../native-free/registry/recovery-rules.ts';
import { RemoteSigner } from '../ca/remote-signer.ts';
import { CertificateAuthority } from '../identity/ca.ts';
import { hasCa } from '../identity/ca-directory.ts';
import { fingerprint } from '../identity/certificate.ts';
import type { Signer } from '../identity/signer.ts';
import { caOf } from './registry-addresses.ts';
import type { Store } from './store.ts';
import type { Transactor } from './transactor.ts';

export interface DomainOptions {
  readonly stateDirectory: string;
  readonly trustDomain: string;
  /** The signer is apart, and this is how it is reached. */
  readonly signerFile?: string;
  /** How often it is asked for what the domain says of itself. Default: every 3 s. */
  readonly signerPollMs?: number;
}

/**
 * The CA of the store, and the store of the CA. A store in which nothing was ever written, beside a CA, has lost its
 * memory; that a first start was cut off between the two is told by the clock, which is written first.
 */
export const openDomain = async (
  options: DomainOptions,
  opened: AsyncDisposableStack,
  deps: DomainDependencies,
): Promise<{ readonly signer: Signer; readonly ca: CertificateAuthority | undefined }> => {
  const { transactor } = deps;
  const { answer: memory } = await transactor.run(knowsCa);
  const isApart = options.signerFile !== undefined;
  const { signer, ca, isOlder } = isApart
    ? await openRemote(options, opened, memory, deps)
    : await openOwnCa(options, memory, deps);
  await bindTo(signer, transactor, isOlder);
  return { signer, ca };
};

export const recoverMemory = async (store: Store, transactor: Transactor, logger: Logger): Promise<void> => {
  if (store.origin.kind === 'restored') await transactor.run(beginRestored(store.identity));
  const recovery = recoveryOf(await transactor.read([one(keys.domain)]));
  if (recovery !== undefined) {
    logger.warn(
      { reason: recovery.reason },
      'the registry lost its memory and recovers what nodes hold: no prefix is issued until they have spoken (`vl3 registry status`) or `vl3 registry settle`',
    );
  }
};

interface DomainDependencies {
  readonly terms: LeaseTerms;
  readonly store: Store;
  readonly transactor: Transactor;
  readonly logger: Logger;
  readonly now: () => number;
}
interface OpenedSigner {
  readonly signer: Signer;
  readonly ca: CertificateAuthority | undefined;
  /** Than the store. */
  readonly isOlder: boolean;
}
type Memory = 'known' | 'unknown' | 'fresh';

const openOwnCa = async (
  { stateDirectory, trustDomain }: DomainOptions,
  memory: Memory,
  { terms, transactor, now }: DomainDependencies,
): Promise<OpenedSigner> => {
  const directory = join(stateDirectory, 'ca');
  const isOlder = memory === 'fresh' && (await hasCa(directory));
  if (!isOlder) await transactor.run(startClock);
  const mayCreate = memory !== 'known' && !isOlder;
  const ca = await CertificateAuthority.open(
    { mayCreate, directory, trustDomain, svidValidityMs: terms.termMs },
    { now },
  );
  return { signer: ca, ca, isOlder };
};

const openRemote = async (
  { stateDirectory, trustDomain, signerFile = '', signerPollMs }: DomainOptions,
  opened: AsyncDisposableStack,
  memory: Memory,
  { transactor, logger, now }: DomainDependencies,
): Promise<OpenedSigner> => {
  const directory = join(stateDirectory, 'ca');
  if (await hasCa(directory))
    throw new Vl3Error(
      'failed-precondition',
      `with --signer no CA key may lie beside the registry: move ${directory} to where \`vl3 ca run\` runs, or start without --signer`,
    );
  const signer = opened.use(
    await RemoteSigner.open(
      { file: signerFile, trustDomain, ...(signerPollMs !== undefined && { pollMs: signerPollMs }) },
      { logger, now },
    ),
  );
  const isOlder = memory === 'fresh' && signer.hasNodes;
  if (!isOlder) await transactor.run(startClock);
  return { signer, ca: undefined, isOlder };
};

/** Writes down whose the store is. */
export const bindTo = async (signer: Signer, transactor: Transactor, isOlder = false): Promise<void> => {
  const others = signer.trustBundle.certificates.slice(1).map(printOf);
  await transactor.run(bindCa(printOf(caOf(signer)), isOlder, others));
};

const printOf = (der: Uint8Array): string => Buffer.from(fingerprint(der)).toString('hex');
