// Stock WireGuard peers (a phone, a router) that this node takes in: made, listed and removed as attachments that have no network
// namespace here, so that addresses, admission, names and what a restart needs are those of any workload. The private key is
// never seen here.

import { Vl3Error } from '../../native-free/error.ts';
import { formatAddress, formatPrefix } from '../../native-free/ipam/prefix.ts';
import type { AttachmentDocument, WishDocument } from '../../native-free/reconcile/documents.ts';
import type { SavedNetwork } from '../../native-free/reconcile/saved-network.ts';
import { domainOfKey, networkKeyAt } from '../../native-free/registry/network-key.ts';
import type { RecordEndpoint } from '../../native-free/registry/record.ts';
import { fromBase64, toBase64 } from '../base64.ts';
import type { Tunnel } from '../device/tunnel.ts';
import type { Addresses } from './addresses.ts';
import type { Attachments } from './attachments.ts';
import type { LocalStockPeer, MadeStockPeer } from './local-messages.ts';
import type { StockPeerName, StockPeerRequest } from './local-requests.ts';
import type { Membership } from './membership.ts';
import type { StockPeerLinks, StockPeerUse } from './stock-peer-links.ts';
import { isStockPlace, stockPlace } from './stock-place.ts';

/** What is needed of it to take a peer in, and to tell that where it is. */
interface Host extends Pick<Membership, 'mtu'> {
  readonly stockPeers: Pick<StockPeerLinks, 'mustBeFree'>;
  readonly tunnel: Pick<Tunnel, 'publicKey'>;
  readonly saved: Pick<SavedNetwork, 'pools'>;
  readonly addresses: Pick<Addresses, 'gateways'>;
}

export interface StockPeersDeps {
  /** The trust domain of this node. */
  readonly own: string;
  readonly attachments: Pick<Attachments, 'documents' | 'attach' | 'detach'>;
  /** The node's membership of a network; joins it when it is not on it yet. */
  readonly join: (network: string) => Promise<Host>;
  readonly member: (network: string) => { readonly stockPeers: Pick<StockPeerLinks, 'use'> } | undefined;
  /** Where this node can be reached, as it announces it. */
  readonly endpoints: () => readonly RecordEndpoint[];
}

const KEY_LENGTH = 32;
/** Its end is somewhere else, and called what its owner likes. */
const INTERFACE = 'wg0';

export class StockPeers {
  readonly #deps: StockPeersDeps;

  constructor(deps: StockPeersDeps) {
    this.#deps = deps;
  }

  /**
   * Gives it addresses and lets it in. Asked again with the same key it answers the same. Throws Vl3Error when the name or the key
   * is taken, and when the network cannot be had now.
   */
  async create({ name, publicKey, addresses, ...asked }: StockPeerRequest): Promise<MadeStockPeer> {
    const network = networkKeyAt(this.#deps.own, asked.network);
    const domain = domainOfKey(network);
    if (domain !== undefined)
      throw new Vl3Error(
        'failed-precondition',
        `${network} is a network of ${domain}, and this node is of ${this.#deps.own}: a stock peer is made on a node of the network's own domain, by its admin`,
      );
    mustBeKey(publicKey);
    const { attachments, endpoints } = this.#deps;
    const present = this.#find(network, name);
    if (present !== undefined && present.stockPeer?.publicKey !== publicKey)
      throw new Vl3Error(
        'already-exists',
        `there is a peer ${name} on ${network} already, with another key: remove it first (vl3 peer remove ${name} --network ${network})`,
      );
    const membership = await this.#deps.join(network);
    if (present === undefined) membership.stockPeers.mustBeFree(publicKey);
    const made = await attachments.attach(
      {
        network,
        netns: stockPlace(name),
        workload: name,
        interfaceName: INTERFACE,
        ...(addresses === undefined ? {} : { addresses }),
      },
      { stockPeer: { publicKey } },
    );
    if (!made.ready) {
      // Who was there before waits, with its addresses, which are in a configuration elsewhere.
      if (present === undefined) await attachments.detach({ id: made.id });
      const what =
        present === undefined ? 'was not made: ask again later' : 'waits, and its addresses with it';
      throw new Vl3Error('unavailable', `${name} cannot be on ${network} now (it ${what}): ${made.pending}`);
    }
    return {
      ...this.#toLocal(made.id),
      node: {
        publicKey: toBase64(membership.tunnel.publicKey),
        endpoints: endpoints().map(({ address, port }) => ({ address, port })),
        pools: membership.saved.pools.map(formatPrefix),
        gateways: membership.addresses.gateways.map(formatAddress),
        mtu: membership.mtu,
      },
    };
  }

  list(): LocalStockPeer[] {
    return this.#all.map(({ id }) => this.#toLocal(id));
  }

  /** Ends its sessions and frees its addresses. What is not there is no error: then undefined is answered. */
  async remove({ network, name }: StockPeerName): Promise<LocalStockPeer | undefined> {
    const found = this.#find(networkKeyAt(this.#deps.own, network), name);
    if (found === undefined) return undefined;
    const last = this.#toLocal(found.id);
    await this.#deps.attachments.detach({ id: found.id });
    return last;
  }

  get #all(): (AttachmentDocument | WishDocument)[] {
    return this.#deps.attachments.documents.filter(({ netns }) => isStockPlace(netns));
  }

  #find(network: string, name: string): AttachmentDocument | WishDocument | undefined {
    return this.#all.find((one) => one.network === network && one.netns === stockPlace(name));
  }

  #toLocal(id: string): LocalStockPeer {
    const found = this.#all.find((one) => one.id === id);
    if (found === undefined) throw new Vl3Error('aborted', 'it was removed while it was being made');
    const { network, workload, stockPeer } = found;
    const isAttached = 'ready' in found;
    const use = this.#deps.member(network)?.stockPeers.use(id);
    return {
      id,
      network,
      name: workload,
      publicKey: stockPeer?.publicKey ?? '',
      addresses: isAttached ? found.addresses : [],
      pending: isAttached ? '' : found.reason,
      ...(use ?? UNUSED),
    };
  }
}

const UNUSED: StockPeerUse = {
  endpoint: '',
  lastHandshakeAt: 0,
  rxBytes: 0,
  txBytes: 0,
  rxBytesPerSecond: 0,
  txBytesPerSecond: 0,
};

/** Keys that are no secret to anyone would let anyone in. */
const WEAK = new Set([
  toBase64(new Uint8Array(KEY_LENGTH)),
  toBase64(Uint8Array.from({ length: KEY_LENGTH }, (_, i) => (i === 0 ? 1 : 0))),
]);

const mustBeKey = (text: string): void => {
  const key = fromBase64(text);
  if (key.length !== KEY_LENGTH || toBase64(key) !== text)
    throw new Vl3Error('invalid-argument', 'a public key is 32 bytes in base64, as `wg pubkey` prints it');
  if (WEAK.has(text))
    throw new Vl3Error('invalid-argument', "this is nobody's public key: take what `wg pubkey` prints");
};
