// One TCP stream from pod to pod across two clouds, by vl3 and by Debian's wireguard-go, measured in turn in the same
// minute on the same hosts. Both take the same way: pod, veth, router namespace, TUN, UDP socket of the host.

import type { Host } from '../lab/host.ts';
import { iperf3 } from '../lab/iperf3.ts';
import type { Lab } from '../lab/lab.ts';
import { machineTime, stolenShare } from '../lab/machine-time.ts';
import { ping } from '../lab/ping.ts';
import { median } from '../lab/spread.ts';
import { WireguardGo, wireguardKeys } from '../lab/wireguard-go.ts';
import { holds } from './report.ts';
import type { Pod, World } from './world.ts';

const SECONDS = 2;
/** A repetition during which the machine gave more than this of its time to others is taken again. */
const STEAL_LIMIT = 0.05;
const EXTRA_ROUNDS = 3;
const MTU = 1420;
const PORT = 51999;

interface Path {
  from: Host;
  to: Host;
  address: string;
}

export interface Speeds {
  vl3: number[];
  wireguardGo: number[];
}

/** Measures both, in bit/s per round. */
export async function measure(world: World, from: Pod, to: Pod, rounds: number): Promise<Speeds> {
  const overVl3: Path = { from: from.host, to: to.host, address: to.v4.red ?? '' };
  const { path: overOther, stop } = await wireguardGoPath(world.lab, from, to);
  const speeds: Speeds = { vl3: [], wireguardGo: [] };
  let extra = EXTRA_ROUNDS;
  while (speeds.vl3.length < rounds) {
    const before = machineTime();
    const vl3 = await iperf3(overVl3.from, overVl3.to, overVl3.address, { seconds: SECONDS });
    const other = await iperf3(overOther.from, overOther.to, overOther.address, { seconds: SECONDS });
    if (stolenShare(before, machineTime()) > STEAL_LIMIT && extra > 0) {
      extra -= 1;
      continue;
    }
    speeds.vl3.push(vl3.bitsPerSecond);
    speeds.wireguardGo.push(other.bitsPerSecond);
  }
  await stop();
  return speeds;
}

/** The claim: vl3 is not slower. */
export function compare({ vl3, wireguardGo }: Speeds): string {
  const [ours, theirs] = [median(vl3), median(wireguardGo)];
  const ratio = ours / theirs;
  const found = `vl3 ${gigabits(ours)}, Debian's wireguard-go ${gigabits(theirs)} Gbit/s, ratio ${ratio.toFixed(2)}`;
  const rounds = `vl3 ${vl3.map(gigabits).join(' ')}, wireguard-go ${wireguardGo.map(gigabits).join(' ')}`;
  holds(ratio >= 1, `${found} (rounds: ${rounds}): vl3 is slower`);
  return found;
}

/** The same way by wireguard-go: a pod and a router namespace beside each of the two nodes. */
async function wireguardGoPath(
  lab: Lab,
  from: Pod,
  to: Pod,
): Promise<{ path: Path; stop: () => Promise<void> }> {
  const [near, far] = [wireguardKeys(), wireguardKeys()];
  const build = async (side: number, pod: Pod, keys: typeof near, peer: typeof near, endpoint?: string) => {
    const inner = await lab.host(`wg-pod-${pod.node.name}`);
    const router = await lab.host(`wg-router-${pod.node.name}`, { forward: true });
    await lab.cable(
      { host: inner, interface: 'eth0', addresses: [`10.98.${side}.2/24`] },
      { host: router, interface: 'pod', addresses: [`10.98.${side}.1/24`] },
      { mtu: MTU },
    );
    await inner.ip(`route add default via 10.98.${side}.1`);
    const device = await WireguardGo.start(lab, pod.node.host, {
      keys,
      listenPort: PORT,
      addresses: [],
      mtu: MTU,
      tunIn: router,
      peers: [
        {
          publicKey: peer.publicKey,
          allowedIps: [`10.98.${3 - side}.0/24`],
          ...(endpoint === undefined ? {} : { endpoint }),
        },
      ],
    });
    return { inner, device };
  };
  const there = await build(2, to, far, near);
  const here = await build(1, from, near, far, `${to.node.advertise ?? to.node.address}:${PORT}`);
  const { received } = await ping(here.inner, '10.98.2.2', { count: 2, wait: 5 });
  holds(received > 0, 'wireguard-go does not get a packet across: there is nothing to compare with');
  return {
    path: { from: here.inner, to: there.inner, address: '10.98.2.2' },
    stop: async () => {
      await here.device.stop();
      await there.device.stop();
    },
  };
}

function gigabits(bitsPerSecond: number): string {
  return (bitsPerSecond / 1e9).toFixed(2);
}
