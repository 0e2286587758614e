// The datapath as it is in production, with its threads, a TUN and UDP sockets, alone in a namespace: a test plays the kernel
// at its TUN and the other ends of its sessions on the loopback. Everything that is asked of it can be waited for.

import { setTimeout as sleep } from 'node:timers/promises';
import { Lab } from '../../lab/lab.ts';
import { DEVICE, End } from '../../src/datapath/tunnel.ts';
import { must } from '../target.ts';
import { type Arrived, type Family, Outsider } from './outsider.ts';
import { Tap } from './tap.ts';

export const PEERS = ['p0', 'p1', 'p2'] as const;
const FAMILIES = [4, 6] as const;

/** Longer than any machine takes for a few packets. */
const PATIENCE_MS = 10_000;
/** No IP packet: it is dropped and counted, and so tells that all before it was dealt with. */
const MARKER = new Uint8Array(10 + 20);

export type Counts = Readonly<Record<string, number>>;

export class World implements AsyncDisposable {
  readonly end: End;
  readonly tap: Tap;
  readonly outsiders: readonly [Outsider, Outsider];
  readonly #lab: Lab;

  /** With so many pairs of workers. */
  static async open(pairs: number): Promise<World> {
    const lab = Lab.create();
    try {
      const host = await lab.host('w');
      const end = await End.start(host, 'tun0', { pairs });
      // Else the kernel would speak, too.
      await host.set({ 'ipv6/conf/tun0/disable_ipv6': 1, 'ipv4/conf/all/forwarding': 0 });
      await host.ip('link set tun0 mtu 65535 txqueuelen 10000 up');
      for (const peer of PEERS) end.datapath.addPeer(DEVICE, peer);
      await end.datapath.settled();
      return new World(lab, end);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  private constructor(lab: Lab, end: End) {
    this.#lab = lab;
    this.end = end;
    this.tap = new Tap(end.tun, end.host.netns);
    this.outsiders = [new Outsider(end.host.netns), new Outsider(end.host.netns)];
  }

  /** What was counted: `out` from inside to outside, `in` the other way. */
  get counts(): Counts {
    const { egress, ingress } = this.end.datapath.stats();
    return {
      ...Object.fromEntries(Object.entries(egress).map(([name, n]) => [`out ${name}`, n])),
      ...Object.fromEntries(Object.entries(ingress).map(([name, n]) => [`in ${name}`, n])),
    };
  }

  /** Resolves when all frames that were sent inside were dealt with; with this one, `malformed` in all were no packets. */
  async insideIsTaken(malformed: number): Promise<void> {
    this.tap.send(MARKER);
    const taken = (): number => this.counts['out dropped:malformed'] ?? 0;
    await until(
      () => taken() >= malformed,
      () => `frames are not taken: ${taken()} of ${malformed} malformed ones`,
    );
  }

  /** What has come to outsider `which`, in order; waits until it is `expected` datagrams. */
  async arrivedAt(which: number, family: Family, expected: number): Promise<Arrived[]> {
    const arrived: Arrived[] = [];
    const collect = (): boolean => {
      for (;;) {
        const next = this.outsiders[which]?.receive(family);
        if (next === undefined) return arrived.length >= expected;
        arrived.push(next);
      }
    };
    await until(collect, () => `${arrived.length} of ${expected} datagrams arrive outside`);
    return arrived;
  }

  /** All frames that were written to the TUN; waits until `isWhole`. */
  async written(isWhole: (frames: readonly Uint8Array[]) => boolean): Promise<Uint8Array[]> {
    const frames: Uint8Array[] = [];
    const collect = (): boolean => {
      for (;;) {
        const next = this.tap.receive();
        if (next === undefined) return isWhole(frames);
        frames.push(next);
      }
    };
    await until(collect, () => `what is written to the TUN is not whole after ${frames.length} frames`);
    return frames;
  }

  /** Forgets what is under way from a case that failed. */
  drain(): void {
    while (this.tap.receive() !== undefined);
    for (const outsider of this.outsiders)
      for (const family of FAMILIES) while (outsider.receive(family) !== undefined);
    this.end.events.length = 0;
    this.end.datagrams.length = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.tap.close();
    for (const outsider of this.outsiders) outsider.close();
    await this.end.remove();
    await this.#lab.close();
  }
}

/** Looks again and again, at first at once: most of what is waited for takes some tens of microseconds. */
export const until = async (isSo: () => boolean, otherwise: string | (() => string)): Promise<void> => {
  const start = performance.now();
  for (let looks = 0; !isSo(); looks++) {
    if (looks < 100) await new Promise((resolve) => setImmediate(resolve));
    else await sleep(1);
    must(performance.now() - start < PATIENCE_MS, otherwise);
  }
};
