// The last SVID that a source gave, in a file of its own (0600), so that a start need not wait for the source. It is checked
// as any that is offered: one that has ended, or is of somebody else than is wanted, is none.

import type { Logger } from 'pino';
import { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import type { IdentitySource } from './identity-source.ts';
import { formatKey, parseKey } from './key.ts';
import { fromPem, toPem } from './pem.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';
import { chooseSvid, type Svid, type Wanted } from './svid.ts';

const WHAT = 'the SVID that was kept';

const schema = z.strictObject({
  version: z.literal(1),
  /** PEM: the domain's CAs, the chain (leaf first), the key. */
  certificateAuthorities: z.string().max(131_072),
  certificateChain: z.string().max(65_536),
  privateKey: z.string().max(16_384),
});

/** Undefined where there is none. Throws Vl3Error with why one that is there does not hold at `now` (unix ms). */
export const readKeptSvid = async (path: string, wanted: Wanted, now: number): Promise<Svid | undefined> => {
  const bytes = await readPrivateFile(path, WHAT);
  if (bytes === undefined) return undefined;
  const content = parse(bytes, path);
  const offered = {
    certificateChain: fromPem(content.certificateChain, path),
    privateKey: parseKey(content.privateKey, path),
    authorities: fromPem(content.certificateAuthorities, path),
  };
  return chooseSvid({ svids: [offered], federated: [] }, wanted, now);
};

const parse = (bytes: Uint8Array, path: string): z.infer<typeof schema> => {
  try {
    return schema.parse(JSON.parse(Buffer.from(bytes).toString()));
  } catch {
    // Without the cause, which may quote the key.
    throw new Vl3Error('failed-precondition', `${WHAT} ${path} is damaged`);
  }
};

/** Writes what the source has and whatever it gives from then on; resolves once the first is written. */
export const keepSvids = async (source: IdentitySource, path: string, logger: Logger): Promise<void> => {
  let kept: Svid | undefined;
  const keep = async (): Promise<void> => {
    const { svid } = source;
    if (svid === undefined || svid === kept) return;
    kept = svid;
    const content: z.infer<typeof schema> = {
      version: 1,
      certificateAuthorities: toPem(svid.trustBundle.certificates),
      certificateChain: toPem(svid.certificateChain),
      privateKey: formatKey(svid.privateKey),
    };
    try {
      await writePrivateFile(path, Buffer.from(`${JSON.stringify(content, null, 2)}\n`), WHAT);
    } catch (error) {
      logger.error({ err: error }, 'the SVID is not kept: a restart will wait for the next');
    }
  };
  // One after the other, so that the last is what stays.
  let last = keep();
  source.onChange(() => {
    last = last.then(keep);
  });
  await last;
};
