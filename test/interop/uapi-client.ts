// Speaks to a device's control socket as no tool does: byte for byte what a test wants to say, and what came back.

import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from './suite-scene.ts';

export interface Connection {
  readonly socket: Socket;
  readonly received: () => string;
}

/** A connection to the control socket at `path`, and what came back. */
export const open = async (path: string): Promise<Connection> => {
  for (;;) {
    const socket = connect(path);
    let text = '';
    socket.setEncoding('latin1');
    socket.on('data', (more: string) => {
      text += more;
    });
    const refusal = await new Promise<Error | undefined>((resolve) => {
      socket.once('connect', () => resolve(undefined));
      socket.on('error', resolve);
    });
    if (refusal === undefined) return { socket, received: () => text };
    // So many wait to be taken that one more has to try again.
    if (!('code' in refusal && refusal.code === 'EAGAIN')) throw refusal;
    await sleep(10);
  }
};

/** Sends a request and returns its answer. `isLast`: it says at once that it has nothing more to ask. */
export const ask = async (path: string, request: string, isLast = false): Promise<string> => {
  const { socket, received } = await open(path);
  if (isLast) socket.end(request);
  else socket.write(request);
  const answer = await until(
    async () => received(),
    (text) => (!isLast && text.endsWith('\n\n')) || socket.closed,
  );
  socket.destroy();
  return answer;
};

/** What a device answers to get=1, in its order: lines of key=value. */
export const get = async (path: string): Promise<string[]> =>
  (await ask(path, 'get=1\n\n')).trim().split('\n');
