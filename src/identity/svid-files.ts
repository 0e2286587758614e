// An SVID in three files of one directory, as spiffe-helper writes them, one after another: looked at again and again, and
// taken only when nothing has changed between two looks, so that a set which is being written is no set. Links are followed, since
// volumes of Kubernetes are made of them.

import type { BigIntStats } from 'node:fs';
import { lstat, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Vl3Error } from '../../native-free/error.ts';
import { pause } from '../agent/backoff.ts';
import type { OfferFeed, OfferTaker } from './identity-source.ts';
import { parseKey } from './key.ts';
import { fromWholePem } from './pem.ts';
import { readPrivateFile } from './private-file.ts';
import type { Offer } from './svid.ts';

export interface SvidFileNames {
  readonly certificate: string;
  readonly key: string;
  readonly bundle: string;
}

/** As spiffe-helper's examples have it. */
export const SVID_FILE_NAMES: SvidFileNames = {
  certificate: 'svid.pem',
  key: 'svid_key.pem',
  bundle: 'svid_bundle.pem',
};

const LOOK_MS = 1000;

export interface SvidFilesOptions {
  readonly directory: string;
  readonly names?: SvidFileNames;
  /** Between two looks, which have to agree. */
  readonly lookMs?: number;
}

export class SvidFiles implements OfferFeed {
  readonly place: string;
  readonly #paths: SvidFileNames;
  readonly #lookMs: number;

  constructor({ directory, names = SVID_FILE_NAMES, lookMs = LOOK_MS }: SvidFilesOptions) {
    this.place = `the SVID in ${directory}`;
    const at = (name: string): string => join(directory, name);
    this.#paths = { certificate: at(names.certificate), key: at(names.key), bundle: at(names.bundle) };
    this.#lookMs = lookMs;
  }

  async run(taker: OfferTaker, signal: AbortSignal): Promise<void> {
    let seen: string | undefined;
    let told: string | undefined;
    while (!signal.aborted) {
      const now = await this.#look().catch((error: unknown) => failureOf(error));
      if (now instanceof Vl3Error) {
        if (now.message !== told) taker.failed(now);
        told = now.message;
        seen = undefined;
      } else if (now !== seen) seen = now;
      else if (now !== told && (await this.#offer(taker, now))) told = now;
      await pause(this.#lookMs, signal);
    }
  }

  /** False: it changed while it was read. */
  async #offer(taker: OfferTaker, seen: string): Promise<boolean> {
    let offer: Offer | Vl3Error;
    try {
      offer = await this.#read();
    } catch (error) {
      offer = failureOf(error);
    }
    if ((await this.#look().catch(() => undefined)) !== seen) return false;
    if (offer instanceof Vl3Error) taker.failed(offer);
    else taker.offered(offer);
    return true;
  }

  /** What the files are now, so that any write to one of them shows. Throws Vl3Error when they are not there, or not guarded. */
  async #look(): Promise<string> {
    const marks: string[] = [];
    for (const path of Object.values(this.#paths)) {
      marks.push(markOf(await statOf(path)));
      await mustBeGuarded(path);
    }
    return marks.join(' ');
  }

  async #read(): Promise<Offer> {
    const { certificate, key, bundle } = this.#paths;
    const open = { mayOthersRead: true, mayBeLink: true };
    const texts = {
      certificate: await readText(certificate, 'the certificate', open),
      key: await readText(key, 'the key', { mayBeLink: true, mayGroupRead: true }),
      bundle: await readText(bundle, 'the bundle', open),
    };
    return {
      svids: [
        {
          certificateChain: fromWholePem(texts.certificate, certificate),
          privateKey: parseKey(texts.key, key),
          authorities: fromWholePem(texts.bundle, bundle),
        },
      ],
      federated: [],
    };
  }
}

/**
 * Whoever may write to the directory may put another file into its place: the one it is in, and the one a link leads to. Of a
 * sticky one, as volumes of Kubernetes are, nobody takes away what is not his.
 */
const mustBeGuarded = async (path: string): Promise<void> => {
  for (const entry of new Set([path, await realpath(path)])) {
    const directory = dirname(entry);
    const { mode } = await stat(directory);
    if ((mode & 0o022) === 0) continue;
    if ((mode & 0o1000) !== 0 && [0, process.geteuid?.()].includes((await lstat(entry)).uid)) continue;
    throw new Vl3Error(
      'failed-precondition',
      `other users may write to the directory ${directory}: run chmod go-w ${directory}, and see whether it holds what it should`,
    );
  }
};

const statOf = async (path: string): Promise<BigIntStats> => {
  try {
    return await stat(path, { bigint: true });
  } catch (cause) {
    throw missing(path, cause);
  }
};

const markOf = ({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string =>
  [dev, ino, size, mtimeNs, ctimeNs].join(':');

const readText = async (
  path: string,
  what: string,
  options: Parameters<typeof readPrivateFile>[2],
): Promise<string> => {
  const bytes = await readPrivateFile(path, what, options);
  if (bytes === undefined) throw missing(path);
  return Buffer.from(bytes).toString('latin1');
};

const missing = (path: string, cause?: unknown): Vl3Error => {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'ENOENT';
  return new Vl3Error(
    'unavailable',
    code === 'ENOENT'
      ? `there is no ${path} (yet): does what writes it run, and under that name?`
      : `${path} cannot be looked at (${code}): see who may`,
    { cause },
  );
};

const failureOf = (error: unknown): Vl3Error => {
  if (error instanceof Vl3Error) return error;
  return new Vl3Error('failed-precondition', error instanceof Error ? error.message : String(error), {
    cause: error,
  });
};
