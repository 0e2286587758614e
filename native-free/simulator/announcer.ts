// Says to the registry what is due of one network, one thing after another; what failed is said again after a while.
// What is due is decided in reconcile/announcements.ts, as in src/agent/announcer.ts.

import { toBase64 } from '../base64.ts';
import type { Tunnel } from '../device/tunnel.ts';
import { Vl3Error } from '../error.ts';
import { Announcements, type Due } from '../reconcile/announcements.ts';
import { backoffMs } from '../reconcile/backoff.ts';
import type { SavedNetwork } from '../reconcile/saved-network.ts';
import type { Refusal } from '../registry/admission-decisions.ts';
import { nextSequence, writtenHome } from '../registry/record.ts';
import type { RecordBook } from '../registry/record-book.ts';
import type { AgentContext } from './agent-context.ts';
import type { SavedAttachment } from './documents.ts';
import { type Outcome, orFail } from './outcome.ts';
import type { Timer } from './scheduler.ts';
import { type RecordContent, type SimulatedSigner, TRUST_DOMAIN } from './signer.ts';

const FIRST_BACKOFF_MS = 250;

type Content = Omit<RecordContent, 'sequence'>;

export interface SimulatedAnnouncerDependencies {
  readonly context: AgentContext;
  readonly saved: SavedNetwork;
  readonly tunnel: Tunnel;
  readonly book: RecordBook;
  readonly attachments: () => readonly SavedAttachment[];
  /** The registry was told of these attachments, and refused some. */
  readonly onDecided: (asked: readonly string[], refused: readonly Refusal[]) => void;
}

export class SimulatedAnnouncer {
  readonly #dependencies: SimulatedAnnouncerDependencies;
  readonly #announcements: Announcements<Content>;
  #isBusy = false;
  #again: Timer | undefined;
  #failures = 0;
  #isClosed = false;

  constructor(dependencies: SimulatedAnnouncerDependencies) {
    this.#dependencies = dependencies;
    this.#announcements = new Announcements<Content>({
      content: () => this.#content(),
      svidId: () => dependencies.context.identity().serial,
    });
  }

  close(): void {
    this.#isClosed = true;
  }

  recordMayChange(): void {
    this.#announcements.recordMayChange();
    this.announce();
  }

  attachmentsChanged(): void {
    this.#announcements.attachmentsChanged();
    this.announce();
  }

  sayAgain(): void {
    this.#announcements.sayAgain();
    this.announce();
  }

  /** The registry answers again: what it has not taken is not kept back any longer. */
  registryIsBack(): void {
    this.#failures = 0;
    if (this.#again !== undefined) this.#announceAgain();
  }

  #announceAgain(): void {
    this.#again?.cancel();
    this.#again = undefined;
    this.#isBusy = false;
    this.announce();
  }

  announce(): void {
    if (this.#isBusy || this.#isClosed) return;
    const due = this.#announcements.next();
    if (due === undefined) return;
    this.#isBusy = true;
    const { enter, later, random, pace } = this.#dependencies.context;
    const done = (outcome: Outcome<void>): void =>
      enter(() => {
        if (outcome.ok) {
          this.#failures = 0;
          this.#isBusy = false;
          this.#announcements.taken(due);
          this.announce();
          return;
        }
        this.#announcements.failed(due);
        const backoff = { firstMs: FIRST_BACKOFF_MS, capMs: pace.backoffCapMs };
        const delay = backoffMs(backoff, this.#failures++, random.fraction());
        this.#again = later(delay, `announces ${this.#dependencies.saved.name} again`, () =>
          this.#announceAgain(),
        );
      });
    orFail(done, () => this.#say(due, done));
  }

  #say(due: Due<Content>, done: (outcome: Outcome<void>) => void): void {
    const { context, saved } = this.#dependencies;
    const { control, name, identity, enter } = context;
    const network = saved.name;
    if (due.kind === 'record') {
      const signed = this.#signer.sign(identity(), { ...due.content, sequence: this.#nextSequence() });
      control.call(
        name,
        `announces its record on ${network}`,
        (registry) => registry.putRecord(identity(), network, signed),
        done,
      );
      return;
    }
    const attachments = this.#dependencies
      .attachments()
      .map(({ id, workload, addresses, labels, attachedAt }) => ({
        id,
        workload,
        addresses,
        attachedAt,
        interfaceName: 'vl3',
        labels,
      }));
    control.call(
      name,
      `announces ${attachments.length} attachments on ${network}`,
      (registry) => registry.putAttachments(identity(), network, attachments),
      (outcome) => {
        done(outcome.ok ? { ok: true, answer: undefined } : outcome);
        if (!outcome.ok || this.#isClosed) return;
        const asked = attachments.map(({ id }) => id);
        enter(() => this.#dependencies.onDecided(asked, outcome.answer));
      },
    );
  }

  #content(): Content {
    const { context, saved, tunnel } = this.#dependencies;
    return {
      network: saved.name,
      networkUid: saved.document.uid,
      ...writtenHome({
        network: saved.name,
        networkUid: saved.document.uid,
        trustDomain: context.trustDomain,
        home: TRUST_DOMAIN,
      }),
      publicKey: toBase64(tunnel.device.publicKey),
      prefixes: saved.claims(context.leaseMoment()),
      endpoints: context.surroundings().endpoints,
    };
  }

  get #signer(): SimulatedSigner {
    const { signers, trustDomain } = this.#dependencies.context;
    const signer = signers.get(trustDomain);
    if (signer === undefined) throw new Vl3Error('internal', `nobody signs for ${trustDomain}`);
    return signer;
  }

  #nextSequence(): number {
    const { context, saved, book } = this.#dependencies;
    const wallclock = Math.floor(context.time().wallclock);
    const recordSequence = nextSequence(saved.document.recordSequence, book.ownSequence, wallclock);
    saved.change({ recordSequence });
    return recordSequence;
  }
}
