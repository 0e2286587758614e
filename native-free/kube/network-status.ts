// What a pod shows of its networks: an annotation in the style of the Kubernetes Network Plumbing Working Group's
// k8s.v1.cni.cncf.io/network-status (Multi-Net Specification v1.3, section 5), under a key of our own, since Multus
// writes that one. A network that is not attached yet is listed with the reason.

export const STATUS_KEY = 'vl3.io/network-status';

/** Of one network, or of one that is asked for. */
export interface NetworkStatus {
  /** `network`, or `network@domain` when it is another's. */
  readonly name: string;
  readonly interface: string;
  /** Of the pod; none while it is pending. */
  readonly ips: readonly string[];
  readonly mac?: string;
  readonly mtu?: number;
  /** Why it is not attached, in a sentence. */
  readonly pending?: string;
}

/** Long reasons are cut: an object's annotations share 256 KiB. */
const MAX_REASON = 500;

/** The annotation's text: the same for the same networks, in whatever order they come. */
export const formatNetworkStatus = (networks: readonly NetworkStatus[]): string => {
  const sorted = networks.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  const shown = sorted.map(({ name, interface: interfaceName, ips, mac, mtu, pending }) => ({
    name,
    interface: interfaceName,
    ips,
    ...(mac === undefined ? {} : { mac }),
    ...(mtu === undefined ? {} : { mtu }),
    // vl3 never takes the default route.
    default: false,
    dns: {},
    ...(pending === undefined ? {} : { pending: pending.slice(0, MAX_REASON) }),
  }));
  return JSON.stringify(shown, null, 2);
};
