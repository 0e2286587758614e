// An agent that dies at a given step of attaching, detaching, joining or leaving, is started again, and must come to
// what was asked, with nothing left over. `killed.test.ts` takes a sample of the steps, `killed.long.test.ts` all.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, vi } from 'vitest';
import { z } from 'zod';
import { LocalClient } from '../../src/agent/local-client.ts';
import { Domain, SOON } from '../lab/domain.ts';
import { Faults } from '../lab/faults.ts';
import { documents, footprint } from '../lab/footprint.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import { Pod } from '../lab/pod.ts';

export const OPERATIONS = ['attach', 'detach', 'join', 'leave'] as const;
export type Operation = (typeof OPERATIONS)[number];

/** Past the time after which an unused network is left. */
const LATER_MS = 6 * 60_000;
/** Never reached: counts, and kills nobody. */
const NEVER = 0;

const networkDocument = z.object({
  allocator: z.object({ prefixes: z.array(z.object({ used: z.record(z.string(), z.string()) })) }),
});

export class KilledSteps implements AsyncDisposable {
  readonly #domain: Domain;
  readonly #node: Node;
  readonly #faults: Faults;
  /** On red, and stays there. */
  readonly #near: Pod;
  /** Comes and goes. */
  readonly #pod: Pod;
  readonly #client: LocalClient;
  #baseline: string[] = [];

  private constructor(domain: Domain, node: Node, faults: Faults, near: Pod, pod: Pod) {
    this.#domain = domain;
    this.#node = node;
    this.#faults = faults;
    this.#near = near;
    this.#pod = pod;
    this.#client = new LocalClient(node.socket);
  }

  static async create(): Promise<KilledSteps> {
    const domain = await Domain.start();
    try {
      await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
      await domain.createNetwork('green', '--pool-v4', '10.70.0.0/16', '--pool-v6', 'fd00:70::/48');
      const other = await domain.startNode('a2', { networks: ['red', 'green'] });
      const faults = new Faults(join(domain.lab.scratch, 'faults'));
      const node = await domain.startNode('a1', { networks: ['red'], env: faults.env });
      const near = await node.pod('near', 'red');
      const pod = await Pod.create(domain.lab, 'pod', node);
      await domain.meet('red', [node, other]);
      const steps = new KilledSteps(domain, node, faults, near, pod);
      steps.#baseline = await steps.#footprint();
      return steps;
    } catch (error) {
      await domain.close();
      throw error;
    }
  }

  /** What an operation does when nobody dies. */
  async trace(operation: Operation): Promise<string[]> {
    await this.#prepare(operation);
    await this.#faults.arm(this.#node, orderOf(operation, NEVER));
    await this.#run(operation);
    await sleep(1_000);
    const { steps } = this.#faults;
    await this.#backToTheStart(operation);
    return steps;
  }

  /** Dies at step `at` of the operation; what it died at. Undefined: there were fewer steps this time. */
  async dieAt(operation: Operation, at: number): Promise<string | undefined> {
    await this.#prepare(operation);
    await this.#faults.arm(this.#node, orderOf(operation, at));
    // The call breaks off; which way, is not the point.
    const ended = this.#run(operation).catch(() => undefined);
    // Once it has answered, the agent tells the registry: that belongs to it.
    await Promise.race([ended.then(() => sleep(1_000)), this.#died()]);
    await this.#node.agent.stop('SIGKILL');
    const { steps } = this.#faults;
    const step = steps[at - 1];
    await this.#node.start();
    await this.#converges(
      operation,
      steps.slice(0, at - 1).some((one) => one.endsWith('sqlite run attachment')),
    );
    await this.#backToTheStart(operation);
    return step;
  }

  async #prepare(operation: Operation): Promise<void> {
    // The clock is right again.
    await this.#faults.arm(this.#node, { at: NEVER });
    if (operation === 'detach') await this.#registryHas([(await this.#attach('red')).id]);
    if (operation === 'leave') {
      await this.#registryHas([(await this.#attach('green')).id]);
      await this.#detach('green');
      await this.#registryHas([]);
    }
  }

  async #run(operation: Operation): Promise<void> {
    if (operation === 'attach') await this.#attach('red');
    if (operation === 'detach') await this.#detach('red');
    if (operation === 'join') await this.#attach('green');
    if (operation === 'leave') await this.#hasLeft();
  }

  /**
   * The agent is up again: nothing is half done. What was asked comes about by itself when it was written down before, else
   * when it is asked for again.
   */
  async #converges(operation: Operation, wasWrittenDown: boolean): Promise<void> {
    const ours = async () =>
      (await this.#client.attachments()).find(({ netns }) => netns === this.#pod.host.netns);
    const known = await ours();
    switch (operation) {
      case 'attach':
      case 'join': {
        const network = operation === 'join' ? 'green' : 'red';
        // What was written down before the crash comes about by itself, as it was written down.
        const promised = known && {
          id: known.id,
          workload: known.workload,
          ready: true,
          ...(known.addresses.length > 0 && { addresses: known.addresses }),
        };
        if (promised !== undefined)
          await vi.waitFor(async () => expect(await ours()).toMatchObject(promised), SOON);
        const attachment = await this.#attach(network);
        expect(attachment).toMatchObject(promised ?? { ready: true });
        await this.#registryHas([attachment.id]);
        await this.#answers(network);
        return;
      }
      case 'detach':
        if (wasWrittenDown) await vi.waitFor(async () => expect(await ours()).toBeUndefined(), SOON);
        else await this.#detach('red');
        await this.#registryHas([]);
        return;
      case 'leave':
        await this.#faults.arm(this.#node, orderOf('leave', NEVER));
        await this.#hasLeft();
    }
  }

  /** The pod is off its network, and then all is as it was before the operation. */
  async #backToTheStart(operation: Operation): Promise<void> {
    if (operation === 'attach') await this.#detach('red');
    if (operation === 'join') {
      await this.#detach('green');
      await this.#faults.arm(this.#node, orderOf('leave', NEVER));
      await this.#hasLeft();
    }
    await vi.waitFor(async () => expect(await this.#footprint()).toEqual(this.#baseline), SOON);
    const near = this.#near.on('red').id;
    const kept = documents(this.#node);
    expect(kept.filter(({ kind }) => kind === 'attachment').map(({ name }) => name)).toEqual([near]);
    expect(kept.filter(({ kind }) => kind === 'wish')).toEqual([]);
    expect(kept.filter(({ kind }) => kind === 'network').map(({ name }) => name)).toEqual(['red']);
    expect(kept.filter(({ name }) => name.startsWith('green/'))).toEqual([]);
    const { allocator } = networkDocument.parse(kept.find(({ kind }) => kind === 'network')?.value);
    const owners = allocator.prefixes.flatMap(({ used }) => Object.values(used));
    expect(owners).toEqual([near, near]);
    if (operation === 'leave' || operation === 'join') {
      const { leases } = await this.#domain.adminJson<{ leases: { node: string }[] }>(
        ...['network', 'show', 'green'],
      );
      expect(leases.filter(({ node }) => node === this.#node.name)).toEqual([]);
    }
    await this.#registryHas([]);
  }

  async #attach(network: string) {
    return await this.#client.attach({ network, netns: this.#pod.host.netns, workload: 'pod' });
  }

  async #detach(network: string): Promise<void> {
    await this.#client.detach({ network, netns: this.#pod.host.netns });
  }

  async #hasLeft(): Promise<void> {
    await vi.waitFor(async () => {
      const { networks } = await this.#client.status({ probe: false });
      expect(networks.map(({ name }) => name)).toEqual(['red']);
    }, SOON);
  }

  async #died(): Promise<void> {
    while (this.#node.agent.running) await sleep(5);
  }

  /** The registry knows these attachments of the node, and the one that stays. */
  async #registryHas(ids: readonly string[]): Promise<void> {
    const wanted = [...ids, this.#near.on('red').id].sort();
    await vi.waitFor(async () => {
      const known = await this.#domain.adminJson<{ id: string }[]>('attachment', 'list', '--node', 'a1');
      expect(known.map(({ id }) => id).sort()).toEqual(wanted);
    }, SOON);
  }

  /** The pod's interface carries packets: to the other pod, or at least to its gateway. */
  async #answers(network: string): Promise<void> {
    const { networks } = await this.#client.status({ probe: false });
    const gateways = networks.find(({ name }) => name === network)?.gateways ?? [];
    const to = network === 'red' ? [this.#near.v4('red'), this.#near.v6('red')] : gateways;
    for (const address of to) expect((await ping(this.#pod.host, address)).received, address).toBe(1);
  }

  async #footprint(): Promise<string[]> {
    return await footprint(this.#node, [this.#near.host, this.#pod.host]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#domain.close();
  }
}

const orderOf = (operation: Operation, at: number): { at: number; aheadMs: number } => ({
  at,
  aheadMs: operation === 'leave' ? LATER_MS : 0,
});
