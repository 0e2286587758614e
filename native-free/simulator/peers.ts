// The peers of one network on a simulated node, kept in step with the verified records and with where the node is. The
// order of writes and effects is that of src/agent/peers.ts; what ought to be is decided by the same functions.

import type { GrantBook, Granted } from '../admission/grant-book.ts';
import { fromBase64, toBase64 } from '../base64.ts';
import { peerId } from '../device/device.ts';
import { sameEndpoint } from '../device/endpoints.ts';
import type { Tunnel } from '../device/tunnel.ts';
import { PEER } from '../reconcile/documents.ts';
import { candidates } from '../reconcile/endpoints.ts';
import { type DesiredPeer, desiredPeers, reconcilePeers } from '../reconcile/peers.ts';
import type { SavedNetwork } from '../reconcile/saved-network.ts';
import { foreignDomainOf } from '../registry/foreign-key.ts';
import type { RecordBook } from '../registry/record-book.ts';
import type { AgentContext } from './agent-context.ts';
import { attempt } from './outcome.ts';

const NAT_KEEPALIVE_MS = 25_000;

export interface SimulatedPeersDependencies {
  readonly context: AgentContext;
  readonly saved: SavedNetwork;
  readonly tunnel: Tunnel;
  readonly book: RecordBook;
  readonly grants: GrantBook;
}

export class SimulatedPeers {
  readonly #dependencies: SimulatedPeersDependencies;
  readonly #configured = new Map<string, DesiredPeer>();
  /** Of peers that are gone, and still on the disk: it was full. */
  readonly #leftOver = new Set<string>();
  #valid = 0;

  constructor(dependencies: SimulatedPeersDependencies) {
    this.#dependencies = dependencies;
  }

  get all(): readonly DesiredPeer[] {
    return [...this.#configured.values()];
  }

  reconcile(): void {
    const { context, saved, tunnel, book } = this.#dependencies;
    const { key, surroundings, time, moment } = context;
    const records = book.valid(context.hooks.recordMoment(moment()));
    this.#valid = records.length;
    const self = {
      node: key,
      publicKey: toBase64(tunnel.device.publicKey),
      claims: saved.claims(context.leaseMoment()),
    };
    const { peers } = desiredPeers(
      records,
      self,
      this.#configured,
      (node) => book.listing.mayHold(node),
      (node) => this.#granted(node),
    );
    const first: DesiredPeer[] = [];
    for (const { kind, peer } of reconcilePeers(this.#configured, peers)) {
      if (kind === 'remove') {
        this.#configured.delete(peer.publicKey);
        tunnel.removePeer(fromBase64(peer.publicKey), time());
        this.#leftOver.add(this.#key(peer));
      } else {
        this.#configured.set(peer.publicKey, peer);
        const isKnown = this.#configure(peer);
        this.#leftOver.delete(this.#key(peer));
        if (kind === 'add' && (isKnown || surroundings().behindNat)) first.push(peer);
      }
    }
    for (const { publicKey } of first) tunnel.initiate(fromBase64(publicKey), time());
    context.stir();
    attempt(() => this.#strikeOut());
  }

  /** As src/agent/grants.ts has it. */
  #granted(node: string): Granted {
    const { context, saved, grants } = this.#dependencies;
    if (!saved.document.isRestricted && foreignDomainOf(node) === undefined) return 'whole';
    const granted = grants.of(node, context.hooks.recordMoment(context.moment()));
    const present = [...this.#configured.values()].find((peer) => peer.node === node);
    return context.hooks.granted(granted, node, present?.prefixes ?? []);
  }

  /** What a full disk has kept of peers that are gone. */
  #strikeOut(): void {
    for (const key of this.#leftOver) {
      this.#dependencies.context.documents.delete(PEER, key);
      this.#leftOver.delete(key);
    }
  }

  /** Reconciles when a record or a grant has run out, or one that was refused holds now that the clock was set. */
  expire(): void {
    const { context, book, grants } = this.#dependencies;
    const now = context.hooks.recordMoment(context.moment());
    const isGrantedOtherwise = grants.retry(now);
    if (book.retry(now) || isGrantedOtherwise || book.valid(now).length !== this.#valid) this.reconcile();
  }

  surroundingsChanged(): void {
    const { context, tunnel } = this.#dependencies;
    const { behindNat } = context.surroundings();
    for (const peer of this.#configured.values()) {
      this.#configure(peer);
      const status = tunnel.device.status(idOf(peer));
      if (behindNat && status?.lastHandshake === undefined)
        tunnel.initiate(fromBase64(peer.publicKey), context.time());
    }
    context.stir();
  }

  /** Writes down the endpoints learned of peers there was a session with. */
  checkpoint(): void {
    const { context, saved, tunnel } = this.#dependencies;
    this.#strikeOut();
    const { device } = tunnel;
    for (const id of device.peerIds) {
      const status = device.status(id);
      const learned = status?.learnedEndpoint;
      if (learned === undefined || status?.lastHandshake === undefined) continue;
      const name = `${saved.name}/${id}`;
      const known = context.documents.get(PEER, name);
      if (known !== undefined && sameEndpoint(known.endpoint, learned)) continue;
      context.documents.put(PEER, name, { endpoint: { ...learned } });
    }
  }

  /** Strikes out what was written down of this network's peers. */
  forget(): void {
    const { context, saved } = this.#dependencies;
    for (const { name } of context.documents.list(PEER))
      if (name.startsWith(`${saved.name}/`)) context.documents.delete(PEER, name);
  }

  /** True when there was a session with the peer before. */
  #configure(peer: DesiredPeer): boolean {
    const { context, tunnel } = this.#dependencies;
    const { behindNat, site } = context.surroundings();
    const learned = context.documents.get(PEER, this.#key(peer));
    tunnel.setPeer(
      {
        publicKey: fromBase64(peer.publicKey),
        allowedIps: peer.prefixes,
        endpoints: candidates(peer.endpoints, site),
        learnedEndpoint: learned?.endpoint,
        persistentKeepalive: behindNat ? NAT_KEEPALIVE_MS : 0,
      },
      context.time(),
    );
    return learned !== undefined;
  }

  #key(peer: DesiredPeer): string {
    return `${this.#dependencies.saved.name}/${idOf(peer)}`;
  }
}

const idOf = (peer: DesiredPeer): string => peerId(fromBase64(peer.publicKey));
