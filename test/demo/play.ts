// What to try in a demo that was left running: commands to copy, with the paths they need.

import { resolve } from 'node:path';
import type { World } from './world.ts';

export function howToPlay(world: World): string {
  const vl3 = resolve(import.meta.dirname, '../../cmd/vl3/vl3');
  const [first, last] = [world.pod('red-a'), world.pod('red-c')];
  const pods = world.pods.map((pod) => {
    const addresses = pod.networks.map((network) => `${network} ${pod.v4[network]}`);
    return `  ${pod.name.padEnd(8)} ${pod.node.name}  nsenter --net=${pod.host.netns}   # ${addresses.join(', ')}`;
  });
  return `
It keeps running. The pods, and how to get into each:
${pods.join('\n')}

Things to try:
  # from alpha to gamma, by plain IP
  nsenter --net=${first.host.netns} ping ${last.v4.red}
  # the gossip cluster on red, as a pod on both sees it
  nsenter --net=${world.pod('both-c').host.netns} serf members -rpc-addr 127.0.0.1:7373
  # what an agent knows
  ${vl3} status --socket ${first.node.socket}
  # another pod on red, gone when you leave it
  ${vl3} run --network red --socket ${first.node.socket} -- bash
  # what the registry knows
  export VL3_ADMIN=${world.adminFile}
  nsenter --net=${world.registry.netns} ${vl3} node list
  nsenter --net=${world.registry.netns} ${vl3} attachment list
  # what the internet sees
  nsenter --net=${world.internet.core.netns} tcpdump -n -i any udp

To remove it: npm run demo -- --clean`;
}
