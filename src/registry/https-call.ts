// One call to a Kubernetes API server, or whoever publishes a cluster's keys, without Kubernetes' client and its 90 MB: over TLS
// to who is known by a CA, bounded in size and time, without redirects.

import { readFileSync } from 'node:fs';
import { type RequestOptions, request } from 'node:https';
import { Vl3Error } from '../../native-free/error.ts';

/** Less than keys are left alone for (cluster-keys.ts), and than an agent waits. */
const TIMEOUT_MS = 5_000;
export const MAX_ANSWER_BYTES = 256 * 1024;

export interface HttpsCall {
  readonly url: string;
  /** PEM; undefined: the usual CAs. */
  readonly caFile?: string | undefined;
  /** A bearer token, read for each call since it is renewed. */
  readonly tokenFile?: string | undefined;
  readonly method?: 'GET' | 'PATCH';
  readonly body?: { readonly type: string; readonly text: string };
  readonly signal?: AbortSignal;
}

/** The body of a 200. Throws Vl3Error('unavailable') with the reason, or what `signal` aborts with. */
export const callHttps = async (call: HttpsCall): Promise<string> => {
  const { url, method = 'GET', body, signal } = call;
  signal?.throwIfAborted();
  const fail = (why: string, cause?: unknown): Vl3Error =>
    new Vl3Error('unavailable', `${method} ${url}: ${why}`, { cause });
  const over = AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS), ...(signal === undefined ? [] : [signal])]);
  try {
    return await send(url, { ...optionsOf(call), method, signal: over }, body?.text);
  } catch (cause) {
    signal?.throwIfAborted();
    throw fail(
      over.aborted ? 'no answer in time' : cause instanceof Error ? cause.message : String(cause),
      cause,
    );
  }
};

const optionsOf = ({ caFile, tokenFile, body }: HttpsCall): RequestOptions => {
  const bearer = tokenFile === undefined ? undefined : readFileSync(tokenFile, 'utf8').trim();
  return {
    ...(caFile !== undefined && { ca: readFileSync(caFile) }),
    // No connection is kept: calls are minutes apart.
    agent: false,
    minVersion: 'TLSv1.2',
    headers: {
      // API servers give keys as what they are, or not at all.
      accept: 'application/jwk-set+json, application/json',
      ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }),
      ...(body !== undefined && {
        'content-type': body.type,
        'content-length': Buffer.byteLength(body.text),
      }),
    },
  };
};

const send = (url: string, options: RequestOptions, body: string | undefined): Promise<string> =>
  new Promise((resolve, reject) => {
    const sent = request(url, options, (response) => {
      const chunks: Buffer[] = [];
      let length = 0;
      response.on('data', (chunk: Buffer) => {
        length += chunk.length;
        if (length > MAX_ANSWER_BYTES)
          response.destroy(new Error(`the answer is longer than ${MAX_ANSWER_BYTES} bytes`));
        else chunks.push(chunk);
      });
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(`the answer is ${response.statusCode}: ${text.slice(0, 200)}`));
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
