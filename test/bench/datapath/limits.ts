// What no tunnel here can pass: a TUN copy that does nothing else, and the cable between the namespaces.

import { fileURLToPath } from 'node:url';
import type { Lab } from '../../lab/lab.ts';
import type { Running } from './contenders.ts';
import { MTU, type Site, type Sites } from './topology.ts';

const TUN_COPY = fileURLToPath(new URL('./programs/tun-copy.ts', import.meta.url));
const NAME = 'copy0';
const PORT = 51821;
/** A super-packet and its header are to fit into one UDP send. */
const LARGEST = 60_000;

export const startTunCopy = async (_lab: Lab, [a, b]: Sites): Promise<Running> => {
  const start = async (from: Site, to: Site) => {
    const remote = [to.outside.v4, `${PORT}`];
    const daemon = from.host.start([process.execPath, TUN_COPY, NAME, `${PORT}`, ...remote]);
    try {
      await daemon.printed(/ready/);
      await from.host.ip(
        ...from.tunAddresses.map(
          (one) => `address add ${one} dev ${NAME}${one.includes(':') ? ' nodad' : ''}`,
        ),
        `link set ${NAME} mtu ${MTU} gso_max_size ${LARGEST} up`,
        ...to.prefixes.map((prefix) => `route replace ${prefix} dev ${NAME}`),
      );
      return daemon;
    } catch (error) {
      await daemon.stop();
      throw error;
    }
  };
  const daemons = [await start(a, b)];
  const stop = async (): Promise<void> => {
    for (const daemon of daemons) await daemon.stop();
  };
  try {
    daemons.push(await start(b, a));
  } catch (error) {
    await stop();
    throw error;
  }
  return { pids: daemons.map(({ pid }) => pid), stop };
};

/** No tunnel at all: what the namespaces and iperf3 can do on this machine. */
export const startCable = async ([a, b]: Sites): Promise<Running> => {
  const undo: (() => Promise<void>)[] = [];
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    await from.host.ip(...from.tunAddresses.map((address) => `address add ${address} dev lo`));
    undo.unshift(() =>
      from.host.ip(...from.tunAddresses.map((address) => `address delete ${address} dev lo`)),
    );
    for (const prefix of to.prefixes) {
      const family = prefix.includes(':') ? 'v6' : 'v4';
      await from.host.ip(
        `route replace ${prefix} via ${to.outside[family]} dev eth0 src ${from.inside[family]}`,
      );
      undo.unshift(() => from.host.ip(`route delete ${prefix} dev eth0`));
    }
  }
  return {
    pids: [],
    stop: async () => {
      for (const one of undo) await one();
    },
  };
};
