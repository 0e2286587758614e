// The packet rules of a router namespace, as text for nft: who may send what from where. Stateless, so no connection
// tracking is ever entered. The chains are the same for every network; a pod is a handful of set elements.
//
//   prerouting  guard      a pod's packet bears one of its own addresses as source, or is dropped and counted
//   input       input      the gateway answers pings, neighbour discovery and its pods' questions about names (port 53);
//                          what else vl3 serves is let in by `services`
//   forward     forward    pod to pod, pod to TUN, TUN to pod; from the TUN back into it what a stock WireGuard peer of this
//                          node's sends or gets; TCP's MSS is cut to the route's MTU
//   output      output     no multicast into the tunnel
//   arp input   input      a pod speaks for its own IPv4 addresses only

import { z } from 'zod';
import { type Address, formatAddress, parseAddress } from '../../native-free/ipam/prefix.ts';
import type { ToolRunner } from './tool.ts';

/** Packets dropped, by reason. */
export interface DropCounts {
  /** From a pod, with a source address that is not its own. */
  readonly spoofed: number;
  readonly spoofedArp: number;
  /** For the router itself, but nothing that vl3 serves. */
  readonly input: number;
  /** Out of the tunnel and back into it. */
  readonly hairpin: number;
  /** For an interface that is neither a pod's nor the tunnel. */
  readonly forward: number;
}

export interface RuleState {
  /** The host interfaces that are let in. */
  readonly pods: readonly string[];
  /** Which addresses each may send from. */
  readonly sources: readonly { readonly interface: string; readonly address: Address }[];
  readonly dropped: DropCounts;
}

const counters = (table: string, reasons: readonly string[]): string =>
  reasons.map((reason) => `add counter ${table} ${reason}\n`).join('');

// IPv6 is put together after the input hook (IPv4 before): of a fragmented packet only the first fragment shows what
// it is, and without it the others come to nothing.
const LATER_FRAGMENT = 'frag frag-off != 0';

/**
 * The rules of a router whose tunnel is the interface `tun`, behind which `stockPeers` are, too. One transaction: it may be
 * given again at any time, keeps the pods' elements, the counters and what is in `services`, and no packet meets a
 * half-written chain.
 */
export const routerRules = (tun: string, stockPeers: readonly Address[]): string => `
add table inet vl3
${counters('inet vl3', ['spoofed', 'input', 'hairpin', 'forward'])}
add set inet vl3 pods { type ifname; }
add set inet vl3 sources4 { type ifname . ipv4_addr; }
add set inet vl3 sources6 { type ifname . ipv6_addr; }
add set inet vl3 stock4 { type ipv4_addr; }
add set inet vl3 stock6 { type ipv6_addr; }
flush set inet vl3 stock4
flush set inet vl3 stock6
${stockElements(stockPeers)}

add chain inet vl3 guard { type filter hook prerouting priority raw; policy drop; }
flush chain inet vl3 guard
add rule inet vl3 guard iifname { "${tun}", "lo" } accept
add rule inet vl3 guard iifname . ip saddr @sources4 accept
add rule inet vl3 guard iifname . ip6 saddr @sources6 accept
add rule inet vl3 guard counter name spoofed

add chain inet vl3 between
flush chain inet vl3 between
add rule inet vl3 between tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
add rule inet vl3 between ip saddr @stock4 accept
add rule inet vl3 between ip daddr @stock4 accept
add rule inet vl3 between ip6 saddr @stock6 accept
add rule inet vl3 between ip6 daddr @stock6 accept
add rule inet vl3 between counter name hairpin drop

add chain inet vl3 services
add chain inet vl3 input { type filter hook input priority filter; policy drop; }
flush chain inet vl3 input
add rule inet vl3 input iifname "lo" accept
add rule inet vl3 input icmp type { echo-request, echo-reply, destination-unreachable, time-exceeded, parameter-problem } accept
add rule inet vl3 input icmpv6 type { echo-request, echo-reply, destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
add rule inet vl3 input ${LATER_FRAGMENT} accept
add rule inet vl3 input iifname @pods ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
add rule inet vl3 input iifname @pods meta l4proto { tcp, udp } th dport 53 accept
add rule inet vl3 input jump services
add rule inet vl3 input meta pkttype { broadcast, multicast } drop
add rule inet vl3 input counter name input

add chain inet vl3 forward { type filter hook forward priority filter; policy drop; }
flush chain inet vl3 forward
add rule inet vl3 forward iifname "${tun}" oifname "${tun}" jump between
add rule inet vl3 forward tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
add rule inet vl3 forward iifname "${tun}" oifname @pods accept
add rule inet vl3 forward iifname @pods oifname "${tun}" accept
add rule inet vl3 forward iifname @pods oifname @pods accept
add rule inet vl3 forward counter name forward

add chain inet vl3 output { type filter hook output priority filter; policy accept; }
flush chain inet vl3 output
add rule inet vl3 output oifname "${tun}" ip daddr 224.0.0.0/4 drop
add rule inet vl3 output oifname "${tun}" ip6 daddr ff00::/8 drop

add table arp vl3
${counters('arp vl3', ['spoofed_arp'])}
add set arp vl3 sources4 { type ifname . ipv4_addr; }
add chain arp vl3 input { type filter hook input priority filter; policy drop; }
flush chain arp vl3 input
add rule arp vl3 input iifname . arp saddr ip @sources4 accept
add rule arp vl3 input counter name spoofed_arp
`;

const stockElements = (stockPeers: readonly Address[]): string =>
  ([4, 6] as const)
    .map((family) => ({ family, of: stockPeers.filter((address) => address.family === family) }))
    .filter(({ of }) => of.length > 0)
    .map(({ family, of }) => `add element inet vl3 stock${family} { ${of.map(formatAddress).join(', ')} }`)
    .join('\n');

/** The elements that let a pod's host interface send from these addresses. */
export const podElements = (hostInterface: string, addresses: readonly Address[]): string[] => {
  const element = (address: Address): string => `"${hostInterface}" . ${formatAddress(address)}`;
  const v4 = addresses.filter(({ family }) => family === 4).map(element);
  const v6 = addresses.filter(({ family }) => family === 6).map(element);
  const lines = [`inet vl3 pods { "${hostInterface}" }`];
  if (v4.length > 0)
    lines.push(`inet vl3 sources4 { ${v4.join(', ')} }`, `arp vl3 sources4 { ${v4.join(', ')} }`);
  if (v6.length > 0) lines.push(`inet vl3 sources6 { ${v6.join(', ')} }`);
  return lines;
};

/** Lets the pod in; said again, it changes nothing. */
export const admitPod = (elements: readonly string[]): string =>
  elements.map((line) => `add element ${line}\n`).join('');

/** Lets the pod in no more. Added first, since nft refuses to delete what is not there. */
export const dismissPod = (elements: readonly string[]): string =>
  elements.map((line) => `add element ${line}\ndelete element ${line}\n`).join('');

/** Applies the text as one transaction; those for one namespace follow one another. */
export const applyRules = async (
  tools: ToolRunner,
  netns: string,
  rules: string,
  signal?: AbortSignal,
): Promise<void> => {
  if (rules === '') return;
  await tools.run(
    { program: 'nft', arguments: ['-f', '-'], netns, input: rules, lane: `nft ${netns}` },
    signal,
  );
};

const NAME = 'vl3';

const rulesetSchema = z.object({
  nftables: z.array(
    z.object({
      table: z.object({ name: z.string(), family: z.string() }).optional(),
      counter: z.object({ table: z.string(), name: z.string(), packets: z.number() }).optional(),
      set: z
        .object({
          table: z.string(),
          family: z.string(),
          name: z.string(),
          elem: z.array(z.union([z.string(), z.object({ concat: z.array(z.string()) })])).default([]),
        })
        .optional(),
    }),
  ),
});

/** What the tables hold; undefined when one of them is not there. */
export const readRules = async (
  tools: ToolRunner,
  netns: string,
  signal?: AbortSignal,
): Promise<RuleState | undefined> => {
  const output = await tools.run(
    { program: 'nft', arguments: ['-j', 'list', 'ruleset'], netns, lane: `nft ${netns}` },
    signal,
  );
  const items = rulesetSchema.parse(JSON.parse(output)).nftables;
  const tables = items.flatMap(({ table }) => (table?.name === NAME ? [table.family] : []));
  if (!tables.includes('inet') || !tables.includes('arp')) return undefined;

  const sets = items.flatMap(({ set }) => (set?.table === NAME ? [set] : []));
  const inet = sets.filter(({ family }) => family === 'inet');
  const dropped = new Map(
    items.flatMap(({ counter }) =>
      counter?.table === NAME ? [[counter.name, counter.packets] as const] : [],
    ),
  );
  return {
    pods: inet
      .filter(({ name }) => name === 'pods')
      .flatMap(({ elem }) => elem.filter((one) => typeof one === 'string')),
    sources: inet.flatMap(({ elem }) =>
      elem.flatMap((one) => {
        if (typeof one === 'string') return [];
        const [name = '', address = ''] = one.concat;
        return [{ interface: name, address: parseAddress(address) }];
      }),
    ),
    dropped: {
      spoofed: dropped.get('spoofed') ?? 0,
      spoofedArp: dropped.get('spoofed_arp') ?? 0,
      input: dropped.get('input') ?? 0,
      hairpin: dropped.get('hairpin') ?? 0,
      forward: dropped.get('forward') ?? 0,
    },
  };
};
