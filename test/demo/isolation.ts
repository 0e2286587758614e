// Proofs that two networks share nothing: a red-only pod never reaches a green-only one, though a pod of both sits on
// its node, whatever the red pod does to its own routes and addresses (it may be root inside, as here).

import { Capture } from '../lab/capture.ts';
import { ping } from '../lab/ping.ts';
import { holds } from './report.ts';
import type { Pod } from './world.ts';

export interface Cast {
  red: Pod;
  both: Pod;
  green: Pod;
  /** A second red pod: who it would fool. */
  otherRed: Pod;
}

/** As it is: no route. And with a route to green through its gateway: nobody there to take it. */
export async function byRoute({ red, both, green }: Cast): Promise<string> {
  await nothingArrives(green, red.v4.red ?? '', both, async () => {
    await silent(red, green);
    await withRoute(red, `${green.v4.green} via ${await gateway(red)} dev red`, () => silent(red, green));
  });
  return `${red.name} to ${green.name}: nothing arrives`;
}

/** By the red address of a pod on both, which even forwards packets. */
export async function throughBoth({ red, both, green }: Cast): Promise<string> {
  await both.host.set({ 'ipv4/ip_forward': 1, 'ipv4/conf/all/rp_filter': 0, 'ipv4/conf/red/rp_filter': 0 });
  try {
    await nothingArrives(green, red.v4.red ?? '', both, async () => {
      await red.host.ip(`neighbour replace ${both.v4.red} dev red lladdr ${await gatewayMac(red)}`);
      await withRoute(red, `${green.v4.green} via ${both.v4.red} dev red onlink`, () => silent(red, green));
      // And if the pod on both passed it on as it is: a red source on its green interface.
      await withAddress(both, `${red.v4.red}/32`, 'lo', () => silent(both, green, red.v4.red));
    });
  } finally {
    await red.host.ip(`neighbour delete ${both.v4.red} dev red`);
    await both.host.set({ 'ipv4/ip_forward': 0 });
  }
  return `${both.name} forwards, and still nothing arrives`;
}

/** With a source it does not hold: a green one, and another red pod's. */
export async function byForgery({ red, both, green, otherRed }: Cast): Promise<string> {
  const borrowed = both.v4.green ?? '';
  await nothingArrives(green, borrowed, both, async () => {
    const route = `${green.v4.green} via ${await gateway(red)} dev red`;
    await withAddress(red, `${borrowed}/32`, 'red', () =>
      withRoute(red, route, () => silent(red, green, borrowed)),
    );
  });
  const stolen = both.v4.red ?? '';
  await nothingArrives(otherRed, stolen, both, async () => {
    await withAddress(red, `${stolen}/32`, 'red', () => silent(red, otherRed, stolen));
  });
  return 'goes nowhere, not even on red';
}

/**
 * Records at `pod` while `attempt` runs: no packet from `source` may come in. Then `witness`, who may, pings: were that
 * not seen in the same way, the silence would mean nothing.
 */
async function nothingArrives(
  pod: Pod,
  source: string,
  witness: Pod,
  attempt: () => Promise<void>,
): Promise<void> {
  const network = pod.networks[0] ?? 'red';
  const capture = await Capture.start(pod.host, network, ['src', 'host', source]);
  await attempt();
  const packets = await capture.stop();
  holds(packets.length === 0, `${packets.length} packets from ${source} arrived at ${pod.name}`);

  const control = await Capture.start(pod.host, network, ['src', 'host', witness.v4[network] ?? '']);
  const seen = await ping(witness.host, pod.v4[network] ?? '', { wait: 5 });
  const recorded = await control.stop();
  const sees = seen.received === 1 && recorded.length > 0;
  holds(sees, `${witness.name} is not seen at ${pod.name} either, so the silence means nothing`);
}

async function silent(from: Pod, to: Pod, source?: string): Promise<void> {
  const address = to.v4[to.networks[0] ?? 'red'] ?? '';
  const { received } = await ping(from.host, address, {
    wait: 1,
    count: 2,
    ...(source === undefined ? {} : { source }),
  });
  holds(received === 0, `${from.name} reached ${to.name}${source === undefined ? '' : ` as ${source}`}`);
}

async function withRoute(pod: Pod, route: string, work: () => Promise<void>): Promise<void> {
  await pod.host.ip(`route add ${route}`);
  try {
    await work();
  } finally {
    await pod.host.ip(`route delete ${route}`);
  }
}

async function withAddress(
  pod: Pod,
  address: string,
  iface: string,
  work: () => Promise<void>,
): Promise<void> {
  await pod.host.ip(`address add ${address} dev ${iface}`);
  try {
    await work();
  } finally {
    await pod.host.ip(`address delete ${address} dev ${iface}`);
  }
}

async function gateway(pod: Pod): Promise<string> {
  const found = /via ([\d.]+)/.exec(await pod.host.run(['ip', '-4', 'route', 'show', 'dev', 'red']))?.[1];
  if (found === undefined) throw new Error(`${pod.name} has no route by a gateway on red`);
  return found;
}

async function gatewayMac(pod: Pod): Promise<string> {
  const address = await gateway(pod);
  await ping(pod.host, address);
  const found = /lladdr ([0-9a-f:]+)/.exec(
    await pod.host.run(['ip', 'neighbour', 'show', address, 'dev', 'red']),
  )?.[1];
  if (found === undefined) throw new Error(`${pod.name} does not know its gateway's link address`);
  return found;
}
