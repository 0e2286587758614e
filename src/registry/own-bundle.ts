// This domain's SPIFFE bundle, as it is given to whoever asks: on the registry's own port, where the server is known by its SVID
// (profile https_spiffe), so that a federation needs no further port and no setting.

import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { Logger } from 'pino';
import { readStatement } from '../../native-free/ca/statement.ts';
import { bundleOfStatement } from '../identity/domain-statement.ts';
import type { Signer } from '../identity/signer.ts';
import { encodeSpiffeBundle, REFRESH_HINT_S } from '../identity/spiffe-bundle.ts';

export const BUNDLE_PATH = '/bundle.json';

export class OwnBundle {
  readonly #signer: Signer;
  readonly #logger: Logger;
  #text = '';
  /** What the text was made of. */
  #of: readonly unknown[] = [];

  private constructor(signer: Signer, logger: Logger) {
    this.#signer = signer;
    this.#logger = logger;
  }

  /** Follows the signer until `signal` aborts. */
  static async open(signer: Signer, logger: Logger, signal: AbortSignal): Promise<OwnBundle> {
    const bundle = new OwnBundle(signer, logger);
    await bundle.#read();
    signer.onChange(() => bundle.#refresh(), signal);
    return bundle;
  }

  /** The document. What the domain signed is renewed long before it ends, and whoever asks next has that. */
  get text(): string {
    this.#refresh();
    return this.#text;
  }

  /** Answers a request for it; false: it asks for something else. */
  answer(
    request: IncomingMessage | Http2ServerRequest,
    response: ServerResponse | Http2ServerResponse,
  ): boolean {
    const [path] = (request.url ?? '').split('?');
    if (path !== BUNDLE_PATH) return false;
    // Nothing that is sent is read.
    request.on('error', () => {});
    request.resume();
    const end = (status: number, headers: Readonly<Record<string, string | number>>, body = ''): true => {
      response.statusCode = status;
      for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
      response.end(body);
      return true;
    };
    if (request.method !== 'GET') return end(405, { allow: 'GET' });
    const { text } = this;
    const etag = `"${createHash('sha256').update(text).digest('base64url')}"`;
    const headers = { etag, 'cache-control': `public, max-age=${REFRESH_HINT_S}` };
    if (request.headers['if-none-match'] === etag) return end(304, headers);
    const length = Buffer.byteLength(text);
    return end(200, { ...headers, 'content-type': 'application/json', 'content-length': length }, text);
  }

  #refresh(): void {
    this.#read().catch((error: unknown) =>
      this.#logger.error({ err: error }, "the domain's bundle could not be made"),
    );
  }

  /** Its sequence is that of what the domain says of itself: it grows also when a CA is taken out. */
  async #read(): Promise<void> {
    const [{ sequence }, signed] = await Promise.all([
      this.#signer.statement(),
      this.#signer.ownAuthorities(),
    ]);
    const said = signed && readStatement(signed.record);
    // What was signed and what stands beside it are of the same moment.
    const trustBundle = said === undefined ? this.#signer.trustBundle : bundleOfStatement(said);
    const of = [signed?.signature.join() ?? trustBundle, sequence];
    if (of.every((one, i) => one === this.#of[i])) return;
    this.#text = encodeSpiffeBundle(trustBundle, { sequence: BigInt(said?.sequence ?? sequence), signed });
    this.#of = of;
  }
}
