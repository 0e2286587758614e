// One agent at a time for each prefix of namespaces: two would open the same TUNs, and each get some of the packets. An
// abstract socket is the lock: it goes with the process, however that ends.

import { createServer } from 'node:net';
import { Vl3Error } from '../../native-free/error.ts';

/** Throws Vl3Error('failed-precondition') while another process of this network namespace holds the prefix. */
export const lockPrefix = async (prefix: string): Promise<AsyncDisposable> => {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      const isTaken = 'code' in cause && cause.code === 'EADDRINUSE';
      const sentence = isTaken
        ? `an agent is running with --netns-prefix ${prefix}: stop it first, or give another prefix`
        : `cannot take --netns-prefix ${prefix} for this process: ${cause.message}`;
      reject(new Vl3Error('failed-precondition', sentence, { cause }));
    });
    server.listen(`\0vl3 agent ${prefix}`, resolve);
  });
  server.unref();
  return {
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
};

/** Pods' interfaces lead to namespaces of the prefix they were made under: under another they would lead nowhere. */
export const mustKeepPrefix = (before: string | undefined, prefix: string): void => {
  if (before === undefined || before === prefix) return;
  throw new Vl3Error(
    'failed-precondition',
    `this node's networks were made with --netns-prefix ${before}: give that one, or run "vl3 agent clean --netns-prefix ${before}" and enrol anew`,
  );
};
