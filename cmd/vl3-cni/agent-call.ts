// One call of the agent's local API: HTTP/1 over its unix socket, written by hand on a bare socket. Node's own client takes
// longer to load than the call takes.

import { CNI_CODE, CniError } from '../../native-free/cni/cni-error.ts';

const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

const gone = (socket: string, reason: string): CniError =>
  new CniError(
    CNI_CODE.tryAgainLater,
    `vl3's agent on this node cannot be reached (${socket}: ${reason}): this is tried again; see that the agent runs`,
  );

/** The answer's body. Throws CniError. */
export const askAgent = async <T>(
  socket: string,
  path: string,
  body: unknown,
  timeoutMs: number,
): Promise<T> => {
  const sent = body === undefined ? '' : JSON.stringify(body);
  const head = [
    `${body === undefined ? 'GET' : 'POST'} ${path} HTTP/1.1`,
    'Host: agent',
    'Connection: close',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(sent)}`,
  ];
  const answer = await exchange(socket, `${head.join('\r\n')}\r\n\r\n${sent}`, timeoutMs);
  const end = answer.indexOf('\r\n\r\n');
  const [, status] = /^HTTP\/1\.1 (\d{3}) /.exec(answer) ?? [];
  if (end === -1 || status === undefined) throw gone(socket, 'it ended before it answered');
  const text = answer.slice(end + 4);
  if (status === '200') return parse<T>(text, socket);
  throw refusal(parse(text, socket), path);
};

const parse = <T>(text: string, socket: string): T => {
  try {
    return JSON.parse(text);
  } catch {
    throw gone(socket, 'its answer was cut short');
  }
};

const exchange = (path: string, request: string, timeoutMs: number): Promise<string> =>
  new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    // Only now: loading it takes longer than all that a pod costs that asks for nothing.
    const socket = process.getBuiltinModule('node:net').connect(path);
    const timer = setTimeout(() => fail(`no answer within ${timeoutMs / 1000} s`), timeoutMs);
    const fail = (reason: string): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(gone(path, reason));
    };
    socket.once('connect', () => socket.write(request));
    socket.on('data', (chunk) => {
      size += chunk.length;
      if (size > MAX_ANSWER_BYTES) return fail('its answer is too long');
      chunks.push(chunk);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message));
    socket.once('end', () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(Buffer.concat(chunks).toString('utf8'));
    });
  });

/** What may be different in a moment. */
const PASSING = new Set(['unavailable', 'aborted', 'resource-exhausted']);

const refusal = ({ code, message }: { code: string; message: string }, path: string): CniError => {
  if (code === 'not-found' && message.includes(path))
    return new CniError(
      CNI_CODE.tryAgainLater,
      "vl3's agent on this node is of an earlier version than vl3-cni: upgrade it",
    );
  if (PASSING.has(code)) return new CniError(CNI_CODE.tryAgainLater, message);
  return new CniError(code === 'internal' ? CNI_CODE.internal : CNI_CODE.refused, message);
};
