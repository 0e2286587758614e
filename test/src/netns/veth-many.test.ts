// Many pods' interfaces at once and one after the other.

import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Gate } from '../../../src/netns/gate.ts';
import { readRouter, removeRouter } from '../../../src/netns/router.ts';
import { ensureAttachment, removeAttachment } from '../../../src/netns/veth.ts';
import { isLong } from '../../lab/long.ts';
import { Fixture } from './fixture.ts';

/** Of four pods, each time: some for what is left over, many for what is used up. */
const ROUNDS = isLong ? 50 : 10;

let fixture: Fixture;

beforeEach(async () => {
  fixture = new Fixture();
  await fixture.makeRouter();
});

afterEach(() => fixture[Symbol.dispose]());

const percentile = (sorted: readonly number[], share: number): string =>
  (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN).toFixed(0);

describe('many', () => {
  test('50 pods attach in parallel, each of them reachable', async () => {
    const pods = Array.from({ length: 50 }, (_, n) => fixture.makePod(`p${n}`));
    const alone: number[] = [];
    const attach = async (pod: string, n: number, into: number[]): Promise<void> => {
      const start = performance.now();
      await ensureAttachment(fixture.tools, fixture.attachment(pod, n + 2));
      into.push(performance.now() - start);
    };
    for (const [n, pod] of pods.slice(0, 10).entries()) await attach(pod, n, alone);
    for (const [n, pod] of pods.slice(0, 10).entries()) {
      await removeAttachment(fixture.tools, fixture.attachment(pod, n + 2));
    }
    const together: number[] = [];
    const gate = new Gate(4);
    const start = performance.now();
    await Promise.all(
      pods.map(async (pod, n) => {
        await gate.pass(() => ensureAttachment(fixture.tools, fixture.attachment(pod, n + 2)));
        together.push(performance.now() - start);
      }),
    );
    const all = performance.now() - start;
    alone.sort((x, y) => x - y);
    together.sort((x, y) => x - y);
    console.log(
      `attach alone p50 ${percentile(alone, 0.5)} ms, p99 ${percentile(alone, 0.99)} ms; ` +
        `50 in parallel p50 ${percentile(together, 0.5)} ms, p99 ${percentile(together, 0.99)} ms, all in ${all.toFixed(0)} ms`,
    );
    for (const pod of pods) expect(fixture.pingsGateway(pod)).toBe(true);
    expect((await readRouter(fixture.tools, fixture.router))?.attachments).toHaveLength(50);
  });

  test(`${ROUNDS * 4} attaches and detaches leave nothing`, async () => {
    const pods = Array.from({ length: 4 }, (_, n) => fixture.makePod(`p${n}`));
    const state = (): string[] => [fixture.router, ...pods].map((name) => fixture.shape(name));
    const before = state();
    const descriptors = readdirSync('/proc/self/fd').length;
    for (let round = 0; round < ROUNDS; round++) {
      const specs = pods.map((pod, n) => ({
        ...fixture.attachment(pod, 2 + n + round * 4),
        attachmentId: `${pod}-${round}`,
      }));
      await Promise.all(specs.map((spec) => ensureAttachment(fixture.tools, spec)));
      await Promise.all(specs.map((spec) => removeAttachment(fixture.tools, spec)));
    }
    expect(state()).toEqual(before);
    expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(descriptors + 2);
  });

  test("removing the router takes all pods' interfaces with it", async () => {
    const pods = Array.from({ length: 3 }, (_, n) => fixture.makePod(`p${n}`));
    await Promise.all(pods.map((pod, n) => ensureAttachment(fixture.tools, fixture.attachment(pod, n + 2))));
    await removeRouter(fixture.tools, fixture.router);
    await removeRouter(fixture.tools, fixture.router);
    for (const pod of pods) expect(fixture.succeeds(pod, 'ip', 'link', 'show', 'dev', 'red')).toBe(false);
    await removeAttachment(fixture.tools, fixture.attachment('p0', 2));
    expect(await readRouter(fixture.tools, fixture.router)).toBeUndefined();
  });
});
