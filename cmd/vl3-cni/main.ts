// vl3-cni's edge to the process. Runtimes start it for every pod: it imports nothing but Node's own, loads the network
// only when the agent is asked, and reads and writes without streams.

import { readFileSync, readSync, statSync, writeSync } from 'node:fs';
import { CNI_CODE, CniError } from '../../native-free/cni/cni-error.ts';
import { MAX_INPUT_BYTES } from '../../native-free/cni/json.ts';
import { askAgent } from './agent-call.ts';
import { runPlugin, type World } from './plugin.ts';

const [STDIN, STDOUT, STDERR] = [0, 1, 2];

const codeOf = (error: unknown): unknown =>
  error instanceof Error && 'code' in error ? error.code : undefined;

const sleep = (ms: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
};

/** Runs `call` until it does not say any more that it would block: whoever is at the other end is on their way. */
const patiently = <T>(call: () => T): T => {
  for (;;) {
    try {
      return call();
    } catch (error) {
      if (codeOf(error) !== 'EAGAIN') throw error;
      sleep(1);
    }
  }
};

const readInput = (): string => {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for (;;) {
      const chunk = new Uint8Array(65_536);
      const length = patiently(() => readSync(STDIN, chunk));
      if (length === 0) break;
      size += length;
      if (size > MAX_INPUT_BYTES) break;
      chunks.push(chunk.subarray(0, length));
    }
  } catch (error) {
    // A standard input that is closed is an empty one.
    if (codeOf(error) !== 'EOF' && codeOf(error) !== 'EBADF')
      throw new CniError(CNI_CODE.io, `the network configuration cannot be read: ${String(codeOf(error))}`);
  }
  if (size > MAX_INPUT_BYTES)
    throw new CniError(
      CNI_CODE.notDecoded,
      `the network configuration is longer than ${MAX_INPUT_BYTES} bytes`,
    );
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch {
    throw new CniError(CNI_CODE.notDecoded, 'the network configuration is not UTF-8');
  }
};

const write = (descriptor: number, text: string): void => {
  let rest: Uint8Array = Buffer.from(text);
  while (rest.length > 0) rest = rest.subarray(patiently(() => writeSync(descriptor, rest)));
};

const world: World = {
  env: process.env,
  input: readInput,
  readFile: (path) => {
    try {
      return statSync(path).isFile() ? readFileSync(path, 'utf8') : undefined;
    } catch {
      return undefined;
    }
  },
  ask: askAgent,
  warn: (line) => write(STDERR, `${line}\n`),
};

if (process.env['CNI_COMMAND'] === undefined) {
  write(
    STDERR,
    'vl3-cni is a CNI plugin, run by container runtimes. To put it on a node: vl3 cni install --help\n',
  );
  process.exitCode = 1;
} else {
  void runPlugin(world).then(({ code, output }) => {
    if (output !== '') write(STDOUT, `${output}\n`);
    process.exitCode = code;
  });
}
