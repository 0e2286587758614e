// The networks a simulated node is on: opened from its disk, joined when something asks for them, left when nothing has
// used them for a while. The order of writes and calls is that of src/agent/networks.ts.

import { toBase64 } from '../base64.ts';
import type { Vl3Error } from '../error.ts';
import { NETWORK } from '../reconcile/documents.ts';
import { newNetwork } from '../reconcile/saved-network.ts';
import type { AgentContext } from './agent-context.ts';
import { SimulatedMembership } from './membership.ts';
import { attempt, type Done } from './outcome.ts';
import { TRUST_DOMAIN } from './signer.ts';

export class SimulatedNetworks {
  readonly #context: AgentContext;
  readonly #memberships = new Map<string, SimulatedMembership>();
  /** Who waits for a network that is being joined or left. */
  readonly #opening = new Map<string, (() => void)[]>();

  constructor(context: AgentContext) {
    this.#context = context;
  }

  get all(): readonly SimulatedMembership[] {
    return [...this.#memberships.values()];
  }

  get(network: string): SimulatedMembership | undefined {
    return this.#memberships.get(network);
  }

  /** Opens every network that was saved, and takes away the routers of those that were not. */
  openSaved(): void {
    const { documents, kernel } = this.#context;
    for (const { value } of documents.list(NETWORK)) {
      this.#open(value.name);
      if (value.isLeaving) this.#leave(value.name);
    }
    for (const network of kernel.networks) if (!this.#memberships.has(network)) kernel.removeRouter(network);
  }

  /** The membership of a network, joined now if need be. */
  join(network: string, done: Done<SimulatedMembership>): void {
    const waiting = this.#opening.get(network);
    if (waiting !== undefined) {
      waiting.push(() => this.join(network, done));
      return;
    }
    const present = this.#memberships.get(network);
    if (present !== undefined && !present.isLeaving) {
      done({ ok: true, answer: present });
      return;
    }
    if (present !== undefined) {
      this.#leave(network, (left) => {
        if (left.ok) this.join(network, done);
        else done(left);
      });
      return;
    }
    this.#enter(network, done);
  }

  #enter(network: string, done: Done<SimulatedMembership>): void {
    this.#opening.set(network, []);
    this.#context.calls.run((finish) =>
      this.#askToJoin(network, (outcome) => {
        finish();
        done(outcome);
      }),
    );
  }

  /** Asks the registry to make this node a member, and writes down what it answered. */
  #askToJoin(network: string, done: Done<SimulatedMembership>): void {
    const { control, name, enter, documents, randomBytes, time, identity, leaseMoment, hooks } =
      this.#context;
    const sent = leaseMoment();
    control.call(
      name,
      `joins ${network}`,
      (registry) => registry.joinNetwork(identity(), network),
      (outcome) =>
        enter(() => {
          this.#settle(network, done, () => {
            if (!outcome.ok) throw outcome.error;
            const { network: joined, leases, termMs, joinedAt } = outcome.answer;
            const term = { termMs, since: hooks.leasesFromAnswer ? leaseMoment() : sent };
            const document = newNetwork(
              joined,
              leases.map(({ prefix, leasedAt }) => ({ prefix, leasedAt, term })),
              { privateKey: toBase64(randomBytes(32)), wall: time().wallclock, joinedAt },
            );
            documents.put(NETWORK, network, document);
            return this.#open(network);
          });
        }),
    );
  }

  #open(network: string): SimulatedMembership {
    const membership = new SimulatedMembership(network, this.#context);
    this.#memberships.set(network, membership);
    membership.start();
    return membership;
  }

  /** Leaves what nothing has used for a while. */
  leaveUnused(isBusy: (network: string) => boolean): void {
    const { time, pace } = this.#context;
    for (const membership of this.all) {
      const { network, saved, isLeaving, attachments } = membership;
      if (attachments.length > 0 || isBusy(network)) continue;
      // On a full disk it is tried again.
      if (!attempt(() => membership.noteUse()).ok) continue;
      const { emptySince, leases } = saved.document;
      const isUnused = time().wallclock - emptySince >= pace.leaveAfterMs;
      if (isUnused || isLeaving || leases.length === 0) this.#leave(network);
    }
  }

  /** Writes down that it leaves, tells the registry, then forgets: whatever is cut off is finished after a start. */
  #leave(network: string, done: Done<void> = () => undefined): void {
    const { control, name, enter, hooks, identity, calls } = this.#context;
    const membership = this.#memberships.get(network);
    if (membership === undefined || this.#opening.has(network)) return;
    const marked = attempt(() => {
      if (hooks.writesLeaving) membership.markLeaving();
    });
    if (!marked.ok) {
      done(marked);
      return;
    }
    this.#opening.set(network, []);
    const { joinedAt } = membership.saved.document;
    calls.run((finish) =>
      control.call(
        name,
        `leaves ${network}`,
        (registry) => registry.leaveNetwork(identity(), network, joinedAt ?? 0),
        (outcome) =>
          enter(() => {
            finish();
            this.#settle(network, done, () => {
              if (!outcome.ok && !this.#isNobodyThere(outcome.error)) throw outcome.error;
              membership.remove();
              this.#memberships.delete(network);
            });
          }),
      ),
    );
  }

  /** Whose federation is over has nothing there to leave. */
  #isNobodyThere({ code }: Vl3Error): boolean {
    const isForeign = this.#context.trustDomain !== TRUST_DOMAIN;
    return isForeign && (code === 'permission-denied' || code === 'unauthenticated');
  }

  /** Ends what was under way for a network, and lets those go on who waited. */
  #settle<T>(network: string, done: Done<T>, work: () => T): void {
    const waiting = this.#opening.get(network) ?? [];
    this.#opening.delete(network);
    done(attempt(work));
    for (const one of waiting) one();
  }
}
