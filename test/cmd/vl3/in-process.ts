// The command line in the test's own process: what it says, and the code it ends with.

import { run } from '../../../cmd/vl3/program.ts';

export const inProcess = async (args: readonly string[], env: Record<string, string> = {}) => {
  const ran = { code: 0, out: '', err: '' };
  await run([...args], {
    env,
    signal: new AbortController().signal,
    out: (line) => {
      ran.out += `${line}\n`;
    },
    err: (line) => {
      ran.err += `${line}\n`;
    },
    exit: (code) => {
      ran.code = code;
    },
  });
  return ran;
};
