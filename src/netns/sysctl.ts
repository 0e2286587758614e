// Kernel settings under /proc/sys/net of one namespace: a list of (path, value), written by one process inside the
// namespace, and only where the value differs. A new namespace inherits some from the host, so each that matters is
// written, per interface.

import type { ToolRunner } from './tool.ts';

export interface Setting {
  /** Below /proc/sys/net, e.g. "ipv4/conf/all/forwarding". */
  readonly path: string;
  readonly value: number;
  /** False: passed over where this kernel has no such setting. */
  readonly required?: boolean;
}

// A constant program: settings reach it on standard input only.
const PROGRAM = `
while read -r need path value; do
  if [ -e "$path" ]; then
    read -r now <"$path"
    [ "$now" = "$value" ] || printf %s "$value" >"$path" || { echo "can't set $path to $value" >&2; exit 1; }
  elif [ "$need" = required ]; then
    echo "this kernel has no $path" >&2; exit 1
  fi
done`;

/** Writes the settings in their order, inside the namespace at `netns`. Throws ToolFailure. */
export const writeSettings = async (
  tools: ToolRunner,
  netns: string,
  settings: readonly Setting[],
  signal?: AbortSignal,
): Promise<void> => {
  const lines = settings.map(
    ({ path, value, required = true }) =>
      `${required ? 'required' : 'optional'} /proc/sys/net/${path} ${value}\n`,
  );
  await tools.run({ program: 'sh', arguments: ['-c', PROGRAM], netns, input: lines.join('') }, signal);
};

const settings4 = (conf: string, values: Record<string, number>): Setting[] =>
  Object.entries(values).map(([key, value]) => ({ path: `ipv4/conf/${conf}/${key}`, value }));

// A kernel booted with ipv6.disable=1 has none of these; a network with a v6 pool then fails at its address instead.
const settings6 = (conf: string, values: Record<string, number>): Setting[] =>
  Object.entries(values).map(([key, value]) => ({
    path: `ipv6/conf/${conf}/${key}`,
    value,
    required: false,
  }));

const FORWARDER_4 = {
  forwarding: 1,
  accept_redirects: 0,
  secure_redirects: 0,
  send_redirects: 0,
  accept_source_route: 0,
  rp_filter: 0,
  arp_ignore: 0,
  arp_announce: 0,
  arp_filter: 0,
  arp_accept: 0,
  proxy_arp: 0,
  proxy_arp_pvlan: 0,
  route_localnet: 0,
  accept_local: 0,
  src_valid_mark: 0,
  log_martians: 0,
  // The TUN has no carrier while the agent restarts; its routes stay.
  ignore_routes_with_linkdown: 0,
};

const FORWARDER_6 = {
  disable_ipv6: 0,
  forwarding: 1,
  accept_ra: 0,
  autoconf: 0,
  accept_redirects: 0,
  accept_source_route: 0,
  accept_dad: 0,
  dad_transmits: 0,
  router_solicitations: 0,
  // 1: the kernel makes no link-local address by itself.
  addr_gen_mode: 1,
  proxy_ndp: 0,
  use_tempaddr: 0,
  seg6_enabled: 0,
  rpl_seg_enabled: 0,
  ioam6_enabled: 0,
  accept_untracked_na: 0,
  ignore_routes_with_linkdown: 0,
};

/** For a router namespace as a whole, before its interfaces: what a new interface there starts from. */
export const routerSettings = (): Setting[] => [
  // Writing ip_forward resets other settings, so conf/all/forwarding (the same switch) comes first.
  ...settings4('all', FORWARDER_4),
  ...settings4('default', FORWARDER_4),
  ...settings6('all', FORWARDER_6),
  ...settings6('default', FORWARDER_6),
  ...settings4('lo', FORWARDER_4),
  ...settings6('lo', FORWARDER_6),
  { path: 'ipv4/icmp_echo_ignore_all', value: 0 },
  { path: 'ipv6/icmp/echo_ignore_all', value: 0, required: false },
  // Names are served on port 53, by an agent that need not have the capability for low ports.
  { path: 'ipv4/ip_unprivileged_port_start', value: 53, required: false },
];

/** For a network's TUN: several routes may lead to a source behind it, so no reverse-path filter. */
export const tunSettings = (name: string): Setting[] => [
  ...settings4(name, FORWARDER_4),
  ...settings6(name, FORWARDER_6),
];

/** For a pod's end in the router namespace: its host route is the way back, so the filter can be strict. */
export const hostInterfaceSettings = (name: string): Setting[] => [
  ...settings4(name, { ...FORWARDER_4, rp_filter: 1 }),
  ...settings6(name, FORWARDER_6),
];

/**
 * For the interface inside a pod. Forwarding and rp_filter stay the pod's own business; IPv6 is switched on for this
 * interface alone, also where the pod's other interfaces have none.
 */
export const podInterfaceSettings = (name: string, withIpv6: boolean): Setting[] => [
  ...settings4(name, { accept_redirects: 0, secure_redirects: 0, accept_source_route: 0, arp_ignore: 0 }),
  ...(withIpv6
    ? settings6(name, {
        disable_ipv6: 0,
        accept_ra: 0,
        autoconf: 0,
        accept_redirects: 0,
        accept_source_route: 0,
        accept_dad: 0,
        dad_transmits: 0,
        router_solicitations: 0,
        addr_gen_mode: 1,
        use_tempaddr: 0,
        seg6_enabled: 0,
      })
    : settings6(name, { disable_ipv6: 1 })),
];
