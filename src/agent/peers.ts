// The peers of one network on this node: kept in step with the verified records and with where this node is, and what a
// restart needs of them written down. What ought to be is decided in native-free/reconcile; what a record says, in
// record-book.ts.

import type { Logger } from 'pino';
import type { Endpoint, PeerId } from '../../native-free/device/data-plane.ts';
import { peerId } from '../../native-free/device/device.ts';
import { sameEndpoint } from '../../native-free/device/endpoints.ts';
import { Vl3Error } from '../../native-free/error.ts';
import type { DocumentStore } from '../../native-free/reconcile/document-store.ts';
import { PEER } from '../../native-free/reconcile/documents.ts';
import { candidates } from '../../native-free/reconcile/endpoints.ts';
import {
  type Conflict,
  type DesiredPeer,
  desiredPeers,
  reconcilePeers,
} from '../../native-free/reconcile/peers.ts';
import type { SavedNetwork } from '../../native-free/reconcile/saved-network.ts';
import { fromBase64, toBase64 } from '../base64.ts';
import type { Tunnel } from '../device/tunnel.ts';
import { pause } from './backoff.ts';
import type { Clock } from './clock.ts';
import type { Grants } from './grants.ts';
import type { RecordBook } from './record-book.ts';
import type { StockPeerLinks } from './stock-peer-links.ts';
import type { Surroundings } from './surroundings.ts';

/** How often a node behind a NAT keeps its mappings open (whitepaper section 6.5's suggestion). */
const NAT_KEEPALIVE_MS = 25_000;

/** Initiations at a time, with a pause between, so that thousands of peers do not answer at once. */
const INITIATION_BURST = 32;
const BURST_PAUSE_MS = 20;

/** Of peers that went, so many are remembered. */
const MAX_GONE = 4096;

type PeersTunnel = Pick<
  Tunnel,
  | 'publicKey'
  | 'peerIds'
  | 'status'
  | 'setPeer'
  | 'removePeer'
  | 'publishAllowedIps'
  | 'roomForPeers'
  | 'initiate'
>;

/** Of its network, what is needed. */
export interface PeersDeps {
  readonly node: string;
  readonly state: Pick<DocumentStore, 'get' | 'list' | 'put' | 'delete'>;
  readonly saved: Pick<SavedNetwork, 'name' | 'claims'>;
  readonly tunnel: PeersTunnel;
  readonly book: Pick<RecordBook, 'valid' | 'retry'> & {
    readonly listing: Pick<RecordBook['listing'], 'mayHold'>;
  };
  readonly grants: Pick<Grants, 'of' | 'leased' | 'retry'>;
  readonly stockPeers: Pick<StockPeerLinks, 'keys'>;
  readonly surroundings: Pick<Surroundings, 'behindNat' | 'site'>;
  readonly clock: Pick<Clock, 'moment'>;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
}

export interface PeerView {
  readonly desired: DesiredPeer;
  readonly id: PeerId;
}

export class Peers {
  readonly #deps: PeersDeps;
  /** As configured, by public key in base64. */
  readonly #configured = new Map<string, DesiredPeer>();
  /** Peers that are gone, and still on the disk: it was full. */
  readonly #leftOver = new Set<PeerId>();
  /** Learned endpoints as they are on disk. */
  readonly #savedEndpoints = new Map<PeerId, Endpoint>();
  /** Peers that went while this runs, as by a rule: they may still hold a session that this node has forgotten. */
  readonly #gone = new Set<PeerId>();
  readonly #closed = new AbortController();
  #conflicts: readonly Conflict[] = [];
  /** How many there was no room for. */
  #refused = 0;
  /** How many records held when they were last looked at. */
  #valid = 0;

  constructor(deps: PeersDeps) {
    this.#deps = deps;
  }

  get all(): PeerView[] {
    return [...this.#configured.values()].map((desired) => ({ desired, id: idOf(desired) }));
  }

  /** Claims of others that are not honoured. */
  get conflicts(): readonly Conflict[] {
    return this.#conflicts;
  }

  /** How many this node has no room for. They are taken in, as others go. */
  get refused(): number {
    return this.#refused;
  }

  /** Of those that this node was in touch with, also before its start, how many packets cannot be sent to. */
  get unreached(): number {
    const { tunnel } = this.#deps;
    return [...this.#savedEndpoints.keys()].filter((id) => tunnel.status(id)?.keypair === undefined).length;
  }

  /** Brings the device's peers in step with the records. Initiates to new ones that this node was in touch with before. */
  reconcile(): void {
    const { node, saved, tunnel, book, grants, stockPeers, surroundings, clock, logger } = this.#deps;
    const records = book.valid(clock.moment());
    this.#valid = records.length;
    const self = {
      node,
      publicKey: toBase64(tunnel.publicKey),
      claims: saved.claims(clock.moment()),
      stockPeers: stockPeers.keys,
    };
    const leased = new Set(records.filter(({ isLeased }) => isLeased).map(({ node }) => node));
    const { peers, conflicts } = desiredPeers(
      records,
      self,
      this.#configured,
      (node) => book.listing.mayHold(node),
      (node) => grants.of(node, leased.has(node)),
      (node) => (leased.has(node) ? grants.leased(node) : 'whole'),
    );
    this.#conflicts = conflicts;
    const actions = reconcilePeers(this.#configured, peers);
    this.#refused = 0;
    if (actions.length === 0) return;
    const first: PeerId[] = [];
    for (const { kind, peer } of actions) {
      const id = idOf(peer);
      if (kind === 'remove') {
        this.#configured.delete(peer.publicKey);
        tunnel.removePeer(id);
        this.#leftOver.add(id);
        this.#noteGone(id);
        this.#savedEndpoints.delete(id);
      } else {
        const isKnown = this.#configure(peer);
        if (isKnown === undefined) {
          this.#refused += 1;
          continue;
        }
        this.#configured.set(peer.publicKey, peer);
        this.#leftOver.delete(id);
        const isBack = kind === 'add' && this.#gone.delete(id);
        if (kind === 'add' && (isKnown || isBack || surroundings.behindNat)) first.push(id);
      }
      logger.info({ network: saved.name, peer: peer.node, change: kind }, 'peer reconciled');
    }
    if (this.#refused > 0)
      logger.warn({ network: saved.name, peers: this.#refused }, 'no room for more peers');
    tunnel.publishAllowedIps();
    void this.#initiateAll(first);
    try {
      this.#strikeOut();
    } catch (error) {
      // At the next checkpoint. Who is a peer must not wait for room on a disk.
      if (!(error instanceof Vl3Error)) throw error;
    }
  }

  #noteGone(id: PeerId): void {
    const [oldest] = this.#gone;
    if (this.#gone.size >= MAX_GONE && oldest !== undefined) this.#gone.delete(oldest);
    this.#gone.add(id);
  }

  #strikeOut(): void {
    for (const id of this.#leftOver) {
      this.#deps.state.delete(PEER, this.#key(id));
      this.#leftOver.delete(id);
    }
  }

  /** Reconciles when a record has run out, or one that was refused holds now that the clock was set. */
  expire(): void {
    const { book, grants, clock, tunnel } = this.#deps;
    const now = clock.moment();
    const isThereRoom = this.#refused > 0 && tunnel.roomForPeers > 0;
    const isGrantedOtherwise = grants.retry();
    if (book.retry(now) || isGrantedOtherwise || book.valid(now).length !== this.#valid || isThereRoom)
      this.reconcile();
  }

  /** The node moved (it is behind a NAT now, or at another site): what it tries and how often it speaks changes. */
  surroundingsChanged(): void {
    const { tunnel, surroundings } = this.#deps;
    const unreached: PeerId[] = [];
    for (const peer of this.#configured.values()) {
      this.#configure(peer);
      const id = idOf(peer);
      if (tunnel.status(id)?.lastHandshake === undefined) unreached.push(id);
    }
    tunnel.publishAllowedIps();
    if (surroundings.behindNat) void this.#initiateAll(unreached);
  }

  /** Writes down the endpoints learned of peers there was a session with. Cheap when nothing moved. */
  checkpoint(): void {
    const { state, tunnel } = this.#deps;
    this.#strikeOut();
    const present = new Set(tunnel.peerIds);
    // A stock peer goes without a word to this, and what was written down of it with it.
    for (const id of this.#savedEndpoints.keys()) if (!present.has(id)) this.#savedEndpoints.delete(id);
    for (const id of present) {
      const status = tunnel.status(id);
      const endpoint = status?.learnedEndpoint;
      if (endpoint === undefined || status?.lastHandshake === undefined) continue;
      const saved = this.#savedEndpoints.get(id);
      if (saved !== undefined && sameEndpoint(saved, endpoint)) continue;
      state.put(PEER, this.#key(id), { endpoint: { ...endpoint } });
      this.#savedEndpoints.set(id, endpoint);
    }
  }

  /** Strikes out what was written down of this network's peers. */
  forget(): void {
    const { state } = this.#deps;
    for (const { name } of state.list(PEER)) {
      if (name.startsWith(this.#key(''))) state.delete(PEER, name);
    }
  }

  /** Starts no more handshakes. */
  close(): void {
    this.#closed.abort();
  }

  /** True when there was a session with the peer before; undefined when there is no room for it. */
  #configure(peer: DesiredPeer): boolean | undefined {
    const { state, tunnel, surroundings } = this.#deps;
    const id = idOf(peer);
    const learned = state.get(PEER, this.#key(id));
    if (learned !== undefined) this.#savedEndpoints.set(id, learned.endpoint);
    const isSet = tunnel.setPeer(id, {
      publicKey: fromBase64(peer.publicKey),
      allowedIps: peer.prefixes,
      endpoints: candidates(peer.endpoints, surroundings.site),
      learnedEndpoint: learned?.endpoint,
      persistentKeepalive: surroundings.behindNat ? NAT_KEEPALIVE_MS : 0,
    });
    return isSet ? learned !== undefined : undefined;
  }

  async #initiateAll(peers: readonly PeerId[]): Promise<void> {
    for (const [i, id] of peers.entries()) {
      if (i > 0 && i % INITIATION_BURST === 0) await pause(BURST_PAUSE_MS, this.#closed.signal);
      if (this.#closed.signal.aborted) return;
      this.#deps.tunnel.initiate(id);
    }
  }

  #key(id: PeerId): string {
    return `${this.#deps.saved.name}/${id}`;
  }
}

const idOf = (peer: DesiredPeer): PeerId => peerId(fromBase64(peer.publicKey));
