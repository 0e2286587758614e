// The stock WireGuard peers of one network that speak to this node: each is an attachment whose interface is elsewhere. To the
// device it is a peer with its own addresses as allowed IPs and no endpoint until it is heard; to the router, addresses of this
// node behind the TUN. What was asked for is attachments.ts's to keep, who may ask stock-peers.ts's.

import type { PeerId } from '../../native-free/device/data-plane.ts';
import { peerId } from '../../native-free/device/device.ts';
import { Vl3Error } from '../../native-free/error.ts';
import { type Address, hostPrefix, parseAddress } from '../../native-free/ipam/prefix.ts';
import { RecentRate } from '../../native-free/recent-rate.ts';
import type { DocumentStore } from '../../native-free/reconcile/document-store.ts';
import { ATTACHMENT, type AttachmentDocument, PEER } from '../../native-free/reconcile/documents.ts';
import { fromBase64 } from '../base64.ts';
import type { Tunnel } from '../device/tunnel.ts';

export interface StockPeerLinksDeps {
  readonly network: string;
  readonly state: Pick<DocumentStore, 'get' | 'list' | 'delete'>;
  readonly tunnel: Pick<
    Tunnel,
    'setPeer' | 'removePeer' | 'publishAllowedIps' | 'status' | 'activity' | 'id' | 'peerIds'
  >;
  /** Addresses came or went: the router has to know. */
  readonly onChange: () => Promise<void>;
  /** Milliseconds that only grow. */
  readonly now: () => number;
}

/** Of a stock peer, as far as it was heard. */
export interface StockPeerUse {
  /** "address:port"; empty: not heard yet. */
  readonly endpoint: string;
  /** Unix ms; 0: never. */
  readonly lastHandshakeAt: number;
  readonly rxBytes: number;
  readonly txBytes: number;
  /** Over about the last minute. */
  readonly rxBytesPerSecond: number;
  readonly txBytesPerSecond: number;
}

interface Linked {
  readonly peer: PeerId;
  readonly addresses: readonly Address[];
  readonly rates: { readonly rx: RecentRate; readonly tx: RecentRate };
}

export class StockPeerLinks {
  readonly #deps: StockPeerLinksDeps;
  /** By attachment. */
  readonly #linked = new Map<string, Linked>();

  /** Those that were let in before, too, before they are let in again: a node must not come first with a key of theirs. */
  readonly #keys = new Map<string, { readonly name: string; readonly publicKey: string }>();

  constructor(deps: StockPeerLinksDeps) {
    this.#deps = deps;
    for (const { value } of deps.state.list(ATTACHMENT))
      if (value.network === deps.network) this.#note(value);
  }

  /** Of those that are let in, or were when this node last ran. */
  get keys(): readonly { readonly name: string; readonly publicKey: string }[] {
    return [...this.#keys.values()];
  }

  #note({ id, workload, stockPeer }: AttachmentDocument): void {
    if (stockPeer !== undefined) this.#keys.set(id, { name: workload, publicKey: stockPeer.publicKey });
  }

  /** Behind the TUN, though in this node's prefixes. */
  get addresses(): Address[] {
    return [...this.#linked.values()].flatMap(({ addresses }) => addresses);
  }

  /** Throws Vl3Error when a node of the network, or another stock peer, has this key. */
  mustBeFree(publicKey: string): void {
    const { tunnel, network } = this.#deps;
    const peer = peerId(fromBase64(publicKey));
    if (peer !== tunnel.id && !tunnel.peerIds.includes(peer)) return;
    throw new Vl3Error('already-exists', `this key is on ${network} already: make another for this peer`);
  }

  /** Lets it in; said again, it changes nothing. */
  async link(attachment: AttachmentDocument): Promise<void> {
    const { network, state, tunnel, onChange } = this.#deps;
    const publicKey = fromBase64(attachment.stockPeer?.publicKey ?? '');
    const peer = peerId(publicKey);
    const addresses = attachment.addresses.map(parseAddress);
    const before = this.#linked.get(attachment.id);
    if (before === undefined && tunnel.peerIds.includes(peer))
      throw new Vl3Error('already-exists', `the key of ${attachment.workload} is a node's of ${network}`);
    const isSet = tunnel.setPeer(peer, {
      publicKey,
      allowedIps: addresses.map(hostPrefix),
      endpoints: [],
      learnedEndpoint: state.get(PEER, `${network}/${peer}`)?.endpoint,
    });
    if (!isSet)
      throw new Vl3Error(
        'resource-exhausted',
        'this node has no room for another peer: make it on another node',
      );
    const rates = before?.rates ?? { rx: new RecentRate(), tx: new RecentRate() };
    this.#linked.set(attachment.id, { peer, addresses, rates });
    this.#note(attachment);
    tunnel.publishAllowedIps();
    await onChange();
  }

  /** Lets it in no more: its sessions end at once. */
  async unlink(attachment: AttachmentDocument): Promise<void> {
    const { network, state, tunnel, onChange } = this.#deps;
    const linked = this.#linked.get(attachment.id);
    this.#keys.delete(attachment.id);
    if (linked !== undefined) {
      this.#linked.delete(attachment.id);
      tunnel.removePeer(linked.peer);
      tunnel.publishAllowedIps();
    }
    state.delete(PEER, `${network}/${peerId(fromBase64(attachment.stockPeer?.publicKey ?? ''))}`);
    await onChange();
  }

  /** To be called every few seconds: what they have used until now. */
  look(): void {
    const { tunnel, now } = this.#deps;
    for (const { peer, rates } of this.#linked.values()) {
      const { rxBytes = 0, txBytes = 0 } = tunnel.activity(peer) ?? {};
      rates.rx.look(now(), rxBytes);
      rates.tx.look(now(), txBytes);
    }
  }

  use(attachmentId: string): StockPeerUse {
    const { tunnel, now } = this.#deps;
    const { peer, rates } = this.#linked.get(attachmentId) ?? {};
    const status = peer === undefined ? undefined : tunnel.status(peer);
    const { rxBytes = 0, txBytes = 0 } = (peer === undefined ? undefined : tunnel.activity(peer)) ?? {};
    const { address = '', port } = status?.endpoint ?? {};
    return {
      endpoint: address === '' ? '' : address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`,
      lastHandshakeAt: status?.lastHandshake?.wallclock ?? 0,
      rxBytes,
      txBytes,
      rxBytesPerSecond: rates?.rx.perSecond(now(), rxBytes) ?? 0,
      txBytesPerSecond: rates?.tx.perSecond(now(), txBytes) ?? 0,
    };
  }
}
