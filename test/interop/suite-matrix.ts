// The steps of the suite for all pairs of makers, at a usual MTU and at the greatest: with IPv4 outside by
// suite-matrix-v4.long.test.ts, with IPv6 by suite-matrix-v6.long.test.ts, since either takes a quarter of an hour.

import { afterAll, beforeAll, describe, test } from 'vitest';
import { Lab } from '../lab/lab.ts';
import { BIG_MTU, makeHosts, NORMAL_MTU, Pair, WITH_CONTROL } from './suite-scene.ts';
import * as steps from './suite-steps.ts';

const SEVERAL_MINUTES = 600_000;

export const matrix = (outside: 'v4' | 'v6'): void => {
  const lab = Lab.create();
  afterAll(async () => await lab.close());
  let made = 0;
  const cases = WITH_CONTROL.flatMap((makers) =>
    [NORMAL_MTU, BIG_MTU].map((mtu) => ({ one: makers[0], two: makers[1], mtu, makers })),
  );

  describe.each(cases)(
    `$one and $two, IP${outside} outside, MTU $mtu`,
    ({ makers, mtu }) => {
      let pair: Pair;
      beforeAll(async () => {
        made += 1;
        pair = await Pair.start(lab, await makeHosts(lab, `m${made}`), makers, { outside, mtu });
      }, SEVERAL_MINUTES);
      afterAll(async () => await pair?.[Symbol.asyncDispose]());

      test('pings pass both ways, v4 and v6', () => pair.isWhole());
      test('a flood of pings passes whole', () => steps.flood(pair, 1000));
      test('TCP and UDP pass, v4 and v6', () => steps.streams(pair, 3));
      test('what showconf says, setconf takes, and nothing changes', () => steps.saveAndSet(pair));
      test('either end roams by port', () => steps.roamByPort(pair));
      test('either end roams by address', () => steps.roamByAddress(pair));
      test('they roam by family', () => steps.roamByFamily(pair));
      test('a foreign source is dropped, both ways', () => steps.cryptoRouting(pair));
      test('allowed IPs that move change who may speak', () => steps.movingAllowedIps(pair));
      test('syncconf leaves the session alone', () => steps.syncconf(pair));
      test('a peer goes and comes back under traffic', () => steps.removeAndAdd(pair));
      test('the link goes down and up', () => steps.downAndUp(pair));
      test('nothing was complained of', () => steps.quiet(pair));
    },
    SEVERAL_MINUTES,
  );
};
