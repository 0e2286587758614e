// A TCP port of the loopback for a program that has to be told one.

import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

const LOWEST = 10_000;
const ATTEMPTS = 100;

/** From here on the kernel gives ports to whoever asks for any, and to every connection. */
const firstEphemeral = (): number =>
  Number.parseInt(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'latin1'), 10);

const isFree = async (port: number): Promise<boolean> => {
  const server = createServer();
  server.listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
};

/** One that nothing listens on, and that nobody gets by chance until the program listens there. */
export const unusedPort = async (): Promise<number> => {
  const end = firstEphemeral();
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = randomInt(LOWEST, Math.max(end, LOWEST + 1000));
    if (await isFree(port)) return port;
  }
  throw new Error(`no port between ${LOWEST} and ${end} is free`);
};
