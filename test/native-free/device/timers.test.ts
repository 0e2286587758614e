import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Activity } from '../../../native-free/device/data-plane.ts';
import { Timers } from '../../../native-free/device/timers.ts';

const NONE: Activity = {
  dataSentAt: 0,
  sentAt: 0,
  dataReceivedAt: 0,
  receivedAt: 0,
  sendCounter: 0,
  txBytes: 0,
  rxBytes: 0,
};
const JITTER = 100;
const timers = (): Timers => new Timers(() => JITTER);
const initiator = { isInitiator: true, createdAt: 1000 };
const responder = { isInitiator: false, createdAt: 1000 };

describe('renewal', () => {
  const observed = (activity: Partial<Activity>, session: typeof initiator): boolean =>
    timers().observe({ ...NONE, ...activity }, session);

  test.each([
    [{ sentAt: 120_999 }, false],
    [{ sentAt: 121_000 }, true],
    [{ receivedAt: 165_999 }, false],
    [{ receivedAt: 166_000 }, true],
  ])('the initiator, seeing %o, says %s', (activity, wanted) => {
    expect(observed(activity, initiator)).toBe(wanted);
    expect(observed(activity, responder)).toBe(false);
  });

  test('the same activity seen again asks for nothing', () => {
    const one = timers();
    expect(one.observe({ ...NONE, sentAt: 130_000 }, initiator)).toBe(true);
    expect(one.observe({ ...NONE, sentAt: 130_000 }, initiator)).toBe(false);
    expect(one.observe({ ...NONE, sentAt: 130_100 }, initiator)).toBe(true);
  });

  test('on receive comes once a session, and again in the next', () => {
    const one = timers();
    expect(one.observe({ ...NONE, receivedAt: 170_000 }, initiator)).toBe(true);
    expect(one.observe({ ...NONE, receivedAt: 171_000 }, initiator)).toBe(false);
    one.sessionStarted();
    expect(one.observe({ ...NONE, receivedAt: 340_000 }, { isInitiator: true, createdAt: 171_000 })).toBe(
      true,
    );
  });
});

/** The rules as they are told: event by event, at the moment they happen. */
class SlowTimers {
  newHandshakeAt = Number.POSITIVE_INFINITY;
  keepaliveAt = Number.POSITIVE_INFINITY;

  happened(kind: 'send-data' | 'send-keepalive' | 'receive-data' | 'receive-keepalive', now: number): void {
    if (kind.startsWith('send')) this.keepaliveAt = Number.POSITIVE_INFINITY;
    else this.newHandshakeAt = Number.POSITIVE_INFINITY;
    if (kind === 'send-data') this.newHandshakeAt = Math.min(this.newHandshakeAt, now + 15_000 + JITTER);
    if (kind === 'receive-data') this.keepaliveAt = Math.min(this.keepaliveAt, now + 10_000);
  }
}

test('polled each 100 ms, deadlines are those of timers set at each event, late by a tick at most', () => {
  const kinds = ['send-data', 'send-keepalive', 'receive-data', 'receive-keepalive'] as const;
  const event = fc.record({ kind: fc.constantFrom(...kinds), pause: fc.integer({ min: 1, max: 30_000 }) });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (events) => {
      const polled = timers();
      const slow = new SlowTimers();
      const activity = { ...NONE };
      let now = 1000;
      const slowFired = { handshakes: [] as number[], keepalives: [] as number[] };
      const fired = { handshakes: [] as number[], keepalives: [] as number[] };
      const fire = (): void => {
        polled.observe(activity, undefined);
        if (polled.takeNewHandshake(now)) fired.handshakes.push(now);
        if (polled.takeKeepalive(now) === 'passive') fired.keepalives.push(now);
        // The slow ones run by the millisecond, so they fire at their time, not at the tick.
        if (now >= slow.newHandshakeAt) {
          slowFired.handshakes.push(slow.newHandshakeAt);
          slow.newHandshakeAt = Number.POSITIVE_INFINITY;
        }
        if (now >= slow.keepaliveAt) {
          slowFired.keepalives.push(slow.keepaliveAt);
          slow.keepaliveAt = Number.POSITIVE_INFINITY;
        }
      };
      for (const { kind, pause } of events) {
        for (const end = now + pause; now < end; ) {
          now++;
          if (now % 100 === 0) fire();
        }
        slow.happened(kind, now);
        if (kind.startsWith('send')) activity.sentAt = now;
        else activity.receivedAt = now;
        if (kind === 'send-data') activity.dataSentAt = now;
        if (kind === 'receive-data') activity.dataReceivedAt = now;
        // Two events within one tick are seen as one; the twin is for what lies further apart.
        now += 100 - (now % 100);
        fire();
      }
      for (const end = now + 20_000; now < end; now += 100) fire();
      expect(fired.handshakes.length).toBe(slowFired.handshakes.length);
      expect(fired.keepalives.length).toBe(slowFired.keepalives.length);
      for (const [i, at] of slowFired.handshakes.entries())
        expect((fired.handshakes[i] ?? 0) - at).toBeLessThanOrEqual(100);
      for (const [i, at] of slowFired.keepalives.entries())
        expect((fired.keepalives[i] ?? 0) - at).toBeLessThanOrEqual(100);
    }),
    { numRuns: 50 },
  );
});

test('nothing that moves within a tick leaves both ends waiting: data received last is answered', () => {
  const one = timers();
  one.observe({ ...NONE, sentAt: 5000, dataSentAt: 5000, receivedAt: 5001, dataReceivedAt: 5001 }, initiator);
  expect(one.nextDeadline).toBe(15_001);
  one.observe({ ...NONE, sentAt: 5002, dataSentAt: 5002, receivedAt: 5001, dataReceivedAt: 5001 }, initiator);
  expect(one.nextDeadline).toBe(5002 + 15_000 + JITTER);
});

test('a handshake message heard calls the new handshake off, one sent the passive keepalive', () => {
  const one = timers();
  one.observe({ ...NONE, sentAt: 5000, dataSentAt: 5000 }, initiator);
  expect(one.nextDeadline).toBe(20_000 + JITTER);
  one.handshakeHeard(6000);
  expect(one.nextDeadline).toBe(Number.POSITIVE_INFINITY);
  one.observe({ ...NONE, receivedAt: 7000, dataReceivedAt: 7000, sentAt: 5000, dataSentAt: 5000 }, initiator);
  expect(one.nextDeadline).toBe(17_000);
  one.handshakeSent(8000);
  expect(one.nextDeadline).toBe(Number.POSITIVE_INFINITY);
});

test('the persistent keepalive counts from the last message of any kind, either way', () => {
  const one = timers();
  one.persistentKeepalive = 25_000;
  expect(one.takeKeepalive(1000)).toBe('persistent');
  expect(one.nextDeadline).toBe(26_000);
  one.handshakeSent(2000);
  expect(one.nextDeadline).toBe(27_000);
  one.handshakeHeard(3000);
  expect(one.nextDeadline).toBe(28_000);
  one.observe({ ...NONE, sentAt: 4000 }, initiator);
  expect(one.nextDeadline).toBe(29_000);
  one.observe({ ...NONE, sentAt: 4000, receivedAt: 5000 }, initiator);
  expect(one.nextDeadline).toBe(30_000);
});
