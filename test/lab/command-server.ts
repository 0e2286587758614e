// vl3's commands by one process, for a lab that gives many: `node command-server.ts SOCKET`. A connection is a command line, as
// JSON; the answer is what the process that it stands for would have printed, and its exit code.

import { createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { run } from '../../cmd/vl3/program.ts';
import type { Result } from './host.ts';

const carryOut = async (args: readonly string[]): Promise<Result> => {
  const result = { code: 0, stdout: '', stderr: '' };
  await run(args, {
    env: process.env,
    signal: new AbortController().signal,
    out: (line) => {
      result.stdout += `${line}\n`;
    },
    err: (line) => {
      result.stderr += `${line}\n`;
    },
    exit: (code) => {
      result.code = code;
    },
  });
  return result;
};

const answer = async (connection: Socket): Promise<void> => {
  connection.on('error', () => connection.destroy());
  connection.end(JSON.stringify(await carryOut(JSON.parse(await text(connection)))));
};

createServer({ allowHalfOpen: true }, (connection) => void answer(connection)).listen(process.argv[2], () =>
  process.stdout.write('listening\n'),
);
