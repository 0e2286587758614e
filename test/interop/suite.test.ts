// The steps of the suite that wireguard-go ships for itself, in a harness of our own: devices driven by Debian's wg, in
// namespaces, with ping and iperf3. Each step is taken by vl3 towards Debian's wireguard-go and the other way round; they follow
// one another on one pair. vl3 with itself, wireguard-go with itself as the control, IPv6 outside, great MTUs and
// new addresses (which wireguard-go takes half a minute to use):
// suite-matrix.ts. Scenes of their own: suite-scenes.long.test.ts.

import { afterAll, beforeAll, describe, test } from 'vitest';
import { Lab } from '../lab/lab.ts';
import { CROSSED, type Hosts, makeHosts, Pair } from './suite-scene.ts';
import * as steps from './suite-steps.ts';

const lab = Lab.create();
afterAll(async () => await lab.close());

describe.each(CROSSED)(
  '%s and %s',
  (...makers) => {
    let hosts: Hosts;
    let pair: Pair;
    beforeAll(async () => {
      hosts = await makeHosts(lab, `${makers[1].slice(0, 2)}`);
      pair = await Pair.start(lab, hosts, makers);
    });
    afterAll(async () => await pair[Symbol.asyncDispose]());

    test('pings pass both ways, v4 and v6', () => pair.isWhole());
    test('a flood of pings passes whole', () => steps.flood(pair, 200));
    test('TCP and UDP pass, v4 and v6', () => steps.streams(pair, 1));
    test('what showconf says, setconf takes, and nothing changes', () => steps.saveAndSet(pair));
    test('either end roams by port', () => steps.roamByPort(pair));
    test('they roam by family', () => steps.roamByFamily(pair));
    test('a foreign source is dropped, both ways', () => steps.cryptoRouting(pair));
    test('allowed IPs that move change who may speak', () => steps.movingAllowedIps(pair));
    test('syncconf leaves the session alone', () => steps.syncconf(pair));
    test('a peer goes and comes back under traffic', () => steps.removeAndAdd(pair));
    test('the link goes down and up', () => steps.downAndUp(pair));
    test('nothing was complained of', () => steps.quiet(pair));
  },
  240_000,
);
