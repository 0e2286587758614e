// What a webhook tells of itself: metrics, whether it works (health), and whether API servers can call it (readiness).

import type { ObservedWebhook } from '../webhook/webhook.ts';
import { EventLoop } from './event-loop.ts';
import { Instruments, type Sample } from './instruments.ts';
import type { Observed } from './listener.ts';

const LAG_LIMIT_SECONDS = 5;
const REVIEW_BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1];

export const observeWebhook = ({ server, certificates }: ObservedWebhook): Observed => {
  const eventLoop = new EventLoop();
  const instruments = new Instruments(eventLoop);
  instruments.counter(
    'vl3_webhook_reviews_total',
    'Reviews answered: allowed, warned, refused, other (nothing of vl3 in it), or malformed (no review).',
    ['result'],
    () => Object.entries(server.counts).map(([result, count]): Sample => [{ result }, count]),
  );
  server.onDone = instruments.durations(
    'vl3_webhook_review_duration_seconds',
    "From a review's headers until its answer is sent.",
    REVIEW_BUCKETS,
  );
  instruments.gauge(
    'vl3_webhook_certificate_expiry_timestamp_seconds',
    'When the certificate that it shows ends, in Unix time; it is renewed after half of its day.',
    [],
    () => (certificates.notAfter === undefined ? [] : [[{}, certificates.notAfter / 1000]]),
  );
  instruments.counter(
    'vl3_webhook_certificate_renewals_total',
    'Certificates that took the place of another.',
    [],
    () => [[{}, certificates.renewals]],
  );
  return {
    metrics: () => instruments.text(),
    health: async () => {
      const { maxSeconds } = eventLoop.lag;
      return maxSeconds < LAG_LIMIT_SECONDS ? [] : [`the event loop was ${maxSeconds.toFixed(1)} s late`];
    },
    readiness: async () => [...certificates.problems],
    [Symbol.dispose]: () => eventLoop[Symbol.dispose](),
  };
};
