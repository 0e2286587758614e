// How large a datagram the way to one peer carries, found out by probes that the peer answers (RFC 8899), since routers may
// keep silent about what they drop. Sizes are those of whole outer IP packets. Until something is known to be too big,
// everything is sent at its full size: a limit that is not needed would stay with pods for minutes.
//
//   unknown ──▶ searching ──▶ known: limit, or none ──▶ confirmed every 5 s while data is sent, raised after 10 min
//
// A search is a few volleys: sizes spread between what passed and what did not, sent at once, each time the lowest of them
// one that is known to pass. Where not even that is answered, nothing is learned: the peer is gone, or not one of ours.

/** What every way is taken to carry: RFC 8200 section 5; of IPv4, a little more than RFC 8899 section 5.1.2 wants. */
export const BASE_PATH_MTU = 1280;

/** Sizes between the two ends of a volley. */
const VOLLEY = 9;
/** A search ends when no more than this can be won. */
const PRECISION = 8;
/** How often a size is tried. */
const TRIES = 3;

/** How long to wait for answers: before the first has come, and three round trips within bounds after it. */
const FIRST_WAIT = 1_000;
const SHORTEST_WAIT = 200;
const LONGEST_WAIT = 3_000;

/** Until anything is known, how soon to look again whether data is sent: sessions that only live cost no probe. */
const LOOK_EVERY = 500;
const CONFIRM_EVERY = 5_000;
/** RFC 8899 section 5.1.1, PMTU_RAISE_TIMER. */
const RAISE_EVERY = 600_000;
/** How long to leave a peer alone that does not answer: at first, and at most. One that never did is not one of ours. */
const SILENCE = 5_000;
const LONGEST_SILENCE = 60_000;
const STRANGER = 30_000;
const LONGEST_STRANGER = 6 * 3_600_000;
/** Rounds that others have made us begin (routers, a peer that roams) do not follow each other faster. */
const URGE_EVERY = 1_000;

const NEVER = Number.POSITIVE_INFINITY;

/** A datagram to send, of a size; its answer names the sequence number. */
export interface PathProbe {
  readonly sequence: number;
  readonly size: number;
}

interface Round {
  /** Ascending; the lowest is the control. */
  readonly sizes: readonly number[];
  /** What each probe was, by its sequence number. */
  readonly probes: Map<number, { readonly size: number; readonly sentAt: number }>;
  /** The greatest size answered; 0: none. */
  passed: number;
  tries: number;
  deadline: number;
}

export class PathMtu {
  #ceiling: number;
  /** What is known to pass; undefined: nothing yet. */
  #known: number | undefined;
  /** Told by a router, about a peer that does not answer. */
  #told: number | undefined;
  #hint: number | undefined;
  #round: Round | undefined;
  #hasAnswered = false;
  #roundTrip: number | undefined;
  #silence = 0;
  #raiseAt = NEVER;
  #begunAt = Number.NEGATIVE_INFINITY;
  #sequence = 0;
  #nextAt = NEVER;

  /** `ceiling`: the greatest packet that is ever sent there. */
  constructor(ceiling: number) {
    this.#ceiling = ceiling;
  }

  /** The greatest packet that passes; undefined: all do, as far as is known. */
  get limit(): number | undefined {
    const size = this.#known ?? this.#told;
    return size === undefined || size >= this.#ceiling ? undefined : size;
  }

  /** What was shown to pass by an answer; undefined: the peer has not answered. */
  get proven(): number | undefined {
    return this.#known;
  }

  /** When `tick` has something to do, at the earliest. */
  get nextAt(): number {
    return this.#nextAt;
  }

  /** There is a session, so that probes can be sent. */
  sessionBegun(now: number): void {
    if (this.#isNew && this.#round === undefined) this.#urge(now);
  }

  /** The way is another one: what was known of the old one is of no use. */
  moved(ceiling: number, now: number): void {
    this.#ceiling = ceiling;
    this.#known = undefined;
    this.#told = undefined;
    this.#hint = undefined;
    this.#round = undefined;
    this.#roundTrip = undefined;
    this.#silence = 0;
    this.#raiseAt = NEVER;
    this.#nextAt = NEVER;
    this.#urge(now);
  }

  /** It probes the way to us, so it answers, too: no reason to leave it alone any longer. */
  asked(now: number): void {
    if (this.#hasAnswered || this.#silence === 0) return;
    this.#silence = 0;
    this.#urge(now);
  }

  /** A router of the way says that `size` is the most it carries. */
  tooBig(size: number, now: number): void {
    const inUse = this.limit ?? this.#ceiling;
    const hint = Math.max(size, BASE_PATH_MTU);
    if (hint >= inUse) return;
    if (!this.#hasAnswered && this.#round === undefined) {
      this.#believe(hint, now);
      return;
    }
    this.#hint = hint;
    if (this.#round === undefined) this.#urge(now);
  }

  /** Answers that come late, twice or unasked change nothing. */
  answered(sequence: number, now: number): void {
    const round = this.#round;
    const probe = round?.probes.get(sequence);
    if (round === undefined || probe === undefined) return;
    round.probes.delete(sequence);
    this.#hasAnswered = true;
    this.#silence = 0;
    this.#roundTrip = now - probe.sentAt;
    round.passed = Math.max(round.passed, probe.size);
    round.deadline = Math.min(round.deadline, now + this.#wait);
    this.#nextAt = round.passed === round.sizes.at(-1) ? now : Math.min(this.#nextAt, round.deadline);
  }

  /** What to send now. `isBusy`: data has been sent there since the last tick that was due. */
  tick(now: number, isBusy: boolean): PathProbe[] {
    if (now < this.#nextAt) return [];
    const round = this.#round;
    if (round === undefined) return this.#begin(this.#due(now, isBusy), now);
    const open = round.sizes.filter((size) => size > round.passed);
    if (open.length > 0 && now < round.deadline) {
      this.#nextAt = round.deadline;
      return [];
    }
    if (open.length > 0 && round.tries < TRIES) return this.#send(round, open, now);
    if (round.passed === 0) return this.#unanswered(now);
    return this.#conclude(round, now);
  }

  /** The sizes of the round that is due; none: there is none. */
  #due(now: number, isBusy: boolean): number[] {
    if (this.#ceiling <= BASE_PATH_MTU) return [];
    const known = this.#known;
    if (this.#told !== undefined && now >= this.#raiseAt) this.#told = undefined;
    if (!isBusy && this.#hint === undefined) return [];
    if (known === undefined) return [...this.#lowest(this.#ceiling), this.#ceiling];
    if (now >= this.#raiseAt) return [BASE_PATH_MTU, known, this.#ceiling];
    return known > BASE_PATH_MTU ? [...this.#lowest(known), known] : [];
  }

  /**
   * What is tried besides `upper`. A hint is believed if what is larger by no more than can be won does not pass: who only
   * has an eye on the way, and no hand, could else make a search end at whatever it says.
   */
  #lowest(upper: number): number[] {
    const hint = this.#hint;
    return hint === undefined ? [BASE_PATH_MTU] : [BASE_PATH_MTU, hint, Math.min(hint + PRECISION, upper)];
  }

  /** Nothing was tried yet. */
  get #isNew(): boolean {
    return this.#known === undefined && this.#silence === 0;
  }

  #begin(sizes: readonly number[], now: number): PathProbe[] {
    if (sizes.length === 0) {
      this.#nextAt =
        this.#ceiling <= BASE_PATH_MTU ? NEVER : now + (this.#isNew ? LOOK_EVERY : CONFIRM_EVERY);
      return [];
    }
    const ascending = [...new Set(sizes)].sort((a, b) => a - b);
    const round: Round = { sizes: ascending, probes: new Map(), passed: 0, tries: 0, deadline: 0 };
    this.#round = round;
    this.#begunAt = now;
    return this.#send(round, ascending, now);
  }

  #send(round: Round, sizes: readonly number[], now: number): PathProbe[] {
    round.tries += 1;
    round.deadline = now + this.#wait;
    this.#nextAt = round.deadline;
    return sizes.map((size) => {
      this.#sequence = (this.#sequence + 1) >>> 0;
      round.probes.set(this.#sequence, { size, sentAt: now });
      return { sequence: this.#sequence, size };
    });
  }

  /** Something passed, and what is larger did not: the truth lies between. */
  #conclude(round: Round, now: number): PathProbe[] {
    const lower = round.passed;
    const upper = round.sizes.find((size) => size > lower);
    if (upper === undefined || upper - lower <= PRECISION) {
      this.#found(lower, now);
      return [];
    }
    const step = (upper - lower) / (VOLLEY + 1);
    const between = Array.from({ length: VOLLEY }, (_, i) => Math.round(lower + step * (i + 1)));
    return this.#begin([lower, ...between, upper], now);
  }

  #found(size: number, now: number): void {
    // Confirming what is known puts nothing off.
    if (size !== this.#known || now >= this.#raiseAt) this.#raiseAt = now + RAISE_EVERY;
    if (size >= this.#ceiling) this.#raiseAt = NEVER;
    this.#known = size;
    this.#told = undefined;
    this.#hint = undefined;
    this.#round = undefined;
    this.#nextAt = now + CONFIRM_EVERY;
  }

  #unanswered(now: number): PathProbe[] {
    this.#round = undefined;
    if (this.#silence === LONGEST_SILENCE) this.#estrange(now);
    const [first, longest] = this.#hasAnswered ? [SILENCE, LONGEST_SILENCE] : [STRANGER, LONGEST_STRANGER];
    this.#silence = Math.min(longest, this.#silence === 0 ? first : this.#silence * 2);
    this.#nextAt = now + this.#silence;
    if (this.#told !== undefined) this.#nextAt = Math.min(this.#nextAt, this.#raiseAt);
    if (!this.#hasAnswered && this.#hint !== undefined) this.#believe(this.#hint, now);
    this.#hint = undefined;
    return [];
  }

  /** It answers no more, maybe since it is another program now: what it has proved is not to stay for ever. */
  #estrange(now: number): void {
    this.#hasAnswered = false;
    const known = this.#known;
    this.#known = undefined;
    if (known !== undefined) this.#believe(known, now);
  }

  /** Where there is no proof to be had. It is forgotten when it is time to raise it: then the router says so again. */
  #believe(size: number, now: number): void {
    this.#told = size;
    this.#raiseAt = now + RAISE_EVERY;
    this.#nextAt = Math.min(this.#nextAt, this.#raiseAt);
  }

  #urge(now: number): void {
    this.#nextAt = Math.min(this.#nextAt, Math.max(now, this.#begunAt + URGE_EVERY));
  }

  get #wait(): number {
    if (this.#roundTrip === undefined) return FIRST_WAIT;
    return Math.min(LONGEST_WAIT, Math.max(SHORTEST_WAIT, this.#roundTrip * 3));
  }
}
