// One vl3 datapath in a process of its own, in the namespace it was started in, with a session put in by hand. Its
// configuration comes as one JSON argument; it says "ready" and then prints its counters when it is told to end.

import { getHeapStatistics } from 'node:v8';
import type { Endpoint } from '../../native-free/device/data-plane.ts';
import { parsePrefix } from '../../native-free/ipam/prefix.ts';
import { Datapath } from '../../src/datapath/datapath.ts';
import { openTun, removeTun } from '../../src/datapath/tun.ts';
import { monotonicNow } from '../../src/ffi/clock.ts';

export interface TunnelEndConfig {
  readonly port: number;
  readonly tun: string;
  /** Namespace of the TUN; undefined: this one. */
  readonly netns: string | undefined;
  readonly mtu: number;
  readonly allowedIps: readonly string[];
  readonly endpoint: Endpoint;
  readonly localIndex: number;
  readonly remoteIndex: number;
  /** Hex. */
  readonly sendKey: string;
  readonly receiveKey: string;
}

const DEVICE = 'bench';
const PEER = 'peer';

const main = async (config: TunnelEndConfig): Promise<void> => {
  const tun = openTun({ name: config.tun, netns: config.netns, allowOffloads: true });
  const datapath = await Datapath.start(
    { port: config.port },
    {
      onEvent: () => {},
      onDatagram: () => {},
      onDeviceLost: () => {},
      onFailure: (error) => {
        throw error;
      },
    },
  );
  datapath.addDevice(DEVICE, tun, config.mtu);
  datapath.addPeer(DEVICE, PEER);
  datapath.setAllowedIps(
    DEVICE,
    config.allowedIps.map((prefix) => ({ prefix: parsePrefix(prefix), peer: PEER })),
  );
  const renew = (): void => {
    // The same indices each time: what is measured is the data path, not handshakes.
    datapath.apply(DEVICE, [
      { kind: 'set-endpoint', peer: PEER, endpoint: config.endpoint },
      {
        kind: 'install-keypair',
        peer: PEER,
        keypair: {
          localIndex: config.localIndex,
          remoteIndex: config.remoteIndex,
          sendKey: Buffer.from(config.sendKey, 'hex'),
          receiveKey: Buffer.from(config.receiveKey, 'hex'),
          isInitiator: true,
          createdAt: monotonicNow(),
        },
      },
      { kind: 'use-keypair', peer: PEER, localIndex: config.localIndex },
    ]);
  };
  renew();
  process.stdout.write(`ready ${datapath.aeadTier} ${JSON.stringify(datapath.offloads)} ${tun.offload}\n`);
  const keepAlive = setInterval(() => {}, 1000);
  process.on('SIGTERM', () => {
    clearInterval(keepAlive);
    const { egress, ingress } = datapath.stats();
    process.stdout.write(
      `${JSON.stringify({ egress, ingress, heap: getHeapStatistics().used_heap_size })}\n`,
    );
    void datapath[Symbol.asyncDispose]().then(() => removeTun(tun));
  });
};

await main(JSON.parse(process.argv[2] ?? '{}'));
