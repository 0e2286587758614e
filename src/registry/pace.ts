// How long watchers rest after a step. A lone change goes out at once; a storm (everyone announcing after a restart) is
// told in few large steps instead of n² small ones. So a watcher rests after each step, the longer the more watchers
// there are, and all of them to the same moments, at which they then share one message. When a round takes long, the
// rests grow with it: calls get their share of the process, and do not time out because of those who only listen.

const PAUSE_PER_WATCHER_MS = 0.5;
const MAX_PAUSE_MS = 250;
/** While rounds take long. */
const MAX_LATE_PAUSE_MS = 1000;
/** A rest is so many times the length of a round. */
const REST = 2;

export class Pace {
  /** How late the latest of the present round was, and of the one before. */
  #late = 0;
  #lateBefore = 0;
  #moment = 0;

  /** A watcher that was to go on at `moment` does so `now`: those whose turn comes later in the round wait for the others. */
  wentOn(moment: number, now: number): void {
    if (moment > this.#moment) {
      this.#lateBefore = this.#late;
      this.#late = 0;
      this.#moment = moment;
    }
    this.#late = Math.max(this.#late, now - moment);
  }

  /** When a watcher that has been served may have its next step. */
  next(watchers: number, now: number): number {
    const usual = Math.min(MAX_PAUSE_MS, Math.max(1, watchers * PAUSE_PER_WATCHER_MS));
    const long = Math.min(MAX_LATE_PAUSE_MS, REST * Math.max(this.#late, this.#lateBefore));
    // Doubled, so that the moments of a longer pause are among those of a shorter one.
    let pause = usual;
    while (pause < long) pause *= 2;
    return (Math.floor(now / pause) + 1) * pause;
  }
}
