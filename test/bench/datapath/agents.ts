// vl3 as a node runs it: a registry and two agents on many networks behind one port, of which one carries the traffic, pod to pod.

import { Domain } from '../../lab/domain.ts';
import type { Node } from '../../lab/node.ts';
import type { Pod } from '../../lab/pod.ts';
import type { Scene } from './probe.ts';
import type { Site } from './topology.ts';
import type { Vl3Program } from './vl3-program.ts';

/** Created at a time: each is a process of its own. */
const AT_ONCE = 5;

/** In a lab of its own, which goes with the scene. */
export const startAgents = async (vl3: Vl3Program, count: number): Promise<Scene> => {
  const domain = await Domain.start(() => vl3.command);
  try {
    const networks = Array.from({ length: count }, (_, i) => `n${i}`);
    for (let i = 0; i < count; i += AT_ONCE)
      await Promise.all(
        networks
          .slice(i, i + AT_ONCE)
          .map((name, j) =>
            domain.createNetwork(
              name,
              '--pool-v4',
              `10.${i + j + 1}.0.0/16`,
              '--pool-v6',
              `fd00:${i + j + 1}::/48`,
            ),
          ),
      );
    const options = { networks, program: vl3.command };
    const nodes = [await domain.startNode('a', options), await domain.startNode('b', options)] as const;
    for (const network of networks) await domain.meet(network, nodes);
    const pods = [await nodes[0].pod('here', 'n0'), await nodes[1].pod('there', 'n0')] as const;
    if (!(await pods[0].reaches(pods[1].v4('n0')))) throw new Error('the pods do not reach each other');
    return {
      sites: [siteOf(nodes[0], pods[0]), siteOf(nodes[1], pods[1])],
      outsider: undefined,
      running: { pids: nodes.map(({ agent }) => agent.pid), stop: async () => await domain.close() },
    };
  } catch (error) {
    await domain.close();
    throw error;
  }
};

const siteOf = (node: Node, pod: Pod): Site => ({
  host: node.host,
  tunHost: node.router('n0'),
  end: pod.host,
  outside: { v4: node.site.address, v6: '' },
  inside: { v4: pod.v4('n0'), v6: pod.v6('n0') },
  prefixes: [],
  tunAddresses: [],
});
