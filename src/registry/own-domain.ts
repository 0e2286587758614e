// A registry without a CA of its own: it serves by the SVID that it was given, verifies callers by the bundle that came with
// it, and signs grants by the domain's admission identity from the same issuer. Its store belongs to the trust domain, whose
// CAs come and go.

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { startClock } from '../../native-free/registry/clock-rules.ts';
import { bindCa, knowsCa } from '../../native-free/registry/domain-rules.ts';
import { keys, one } from '../../native-free/registry/keys.ts';
import type { OwnEnrolment } from '../../native-free/registry/own-identity-rules.ts';
import { writeAdminReference } from '../identity/admin-reference.ts';
import { type IdentityPlace, openIdentitySource } from '../identity/identity-place.ts';
import type { IdentitySource } from '../identity/identity-source.ts';
import { keepSvids, readKeptSvid } from '../identity/kept-svid.ts';
import { OwnSigner } from '../identity/own-signer.ts';
import { makePrivateDirectory } from '../identity/private-file.ts';
import type { Transactor } from './transactor.ts';

export interface OwnDomainOptions {
  /** Where the SVID of `spiffe://<trust domain>/registry` is. */
  readonly place: IdentityPlace;
  /** Where that of `spiffe://<trust domain>/admission` is. */
  readonly admissionPlace: IdentityPlace;
  readonly enrolment: OwnEnrolment;
}

interface Options extends OwnDomainOptions {
  readonly stateDirectory: string;
  readonly trustDomain: string;
}

interface Dependencies {
  readonly transactor: Transactor;
  readonly logger: Logger;
  /** Unix ms. */
  readonly now: () => number;
  readonly opened: AsyncDisposableStack;
  readonly signal: AbortSignal | undefined;
}

export interface OwnDomain {
  readonly signer: OwnSigner;
  /** Of the registry's SVID; other domains' bundles come with it. */
  readonly source: IdentitySource;
  /** For an admin on this machine whose SVID is of the same Workload API. */
  writeAdminFile(path: string, registries: readonly string[]): Promise<void>;
}

/** Who starts a registry sees within this time what is wrong with its identity. */
const PATIENCE_MS = 60_000;
/** So long one that has an SVID from before waits for what there is now, which may be of other CAs. */
const KEPT_PATIENCE_MS = 5_000;

export const openOwnDomain = async (options: Options, deps: Dependencies): Promise<OwnDomain> => {
  const { place, admissionPlace, trustDomain, stateDirectory } = options;
  const { transactor, logger, now, opened } = deps;
  const stopped = deps.signal === undefined ? [] : [deps.signal];
  const signal = AbortSignal.any([AbortSignal.timeout(PATIENCE_MS), ...stopped]);
  await makePrivateDirectory(stateDirectory);
  /** With an SVID, if need be with the one that was kept: the issuer's agent may be away for as long as that lasts. */
  const sourceOf = async (kind: 'registry' | 'admission', where: IdentityPlace) => {
    const file = join(stateDirectory, `${kind}-svid.json`);
    const of = logger.child({ identity: kind });
    const wanted = { kind, trustDomain };
    const monotonic = () => performance.now();
    const source = opened.use(openIdentitySource(where, wanted, { logger: of, now, monotonic }));
    const kept = await readKeptSvid(file, wanted, now()).catch((error: unknown) => {
      of.warn({ err: error }, 'the SVID that was kept does not hold');
      return undefined;
    });
    if (kept !== undefined) {
      await source
        .first(AbortSignal.any([AbortSignal.timeout(KEPT_PATIENCE_MS), signal]))
        .catch(() => undefined);
      source.goOnWith(kept);
    }
    await source.first(signal);
    await keepSvids(source, file, of);
    return source;
  };
  const [registry, admission] = await Promise.all([
    sourceOf('registry', place),
    sourceOf('admission', admissionPlace),
  ]);
  const signer = await OwnSigner.open({ directory: stateDirectory }, { registry, admission, now }, signal);
  await bindStore(trustDomain, transactor);
  return {
    signer,
    source: registry,
    writeAdminFile: async (path, registries) => {
      if (place.kind === 'workload-api') await writeAdminReference(path, { trustDomain, registries, place });
    },
  };
};

/**
 * An empty store has lost its memory, as far as anybody can tell: nodes have SVIDs, and prefixes, whether it knows them or
 * not. Of a new domain an admin says so (`vl3 registry settle`).
 */
const bindStore = async (trustDomain: string, transactor: Transactor): Promise<void> => {
  const { answer: memory } = await transactor.run(knowsCa);
  const mark = createHash('sha256').update(`vl3 domain of another issuer: ${trustDomain}`).digest('hex');
  if (memory === 'known') {
    const known = (await transactor.read([one(keys.domain)])).domain()?.value.caFingerprint;
    if (known !== mark)
      throw new Vl3Error(
        'failed-precondition',
        `the store is of a domain with a CA of its own, or of another than ${trustDomain}: choose another --state-dir, or leave --identity out`,
      );
    await transactor.run(startClock);
    return;
  }
  await transactor.run(bindCa(mark, true));
};
