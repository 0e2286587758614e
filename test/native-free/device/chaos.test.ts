import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Host, twoHosts } from './lab.ts';

// Loss, restarts, clock jumps, moves and rekeys at random; then a calm network. Whatever happened, all must be well
// again without a person: within the time a dead session may take to be noticed, a packet goes through each way.

const HEALED_WITHIN = 60_000;

const step = fc.oneof(
  fc.record({ kind: fc.constant('send' as const), who: fc.nat(1), pause: fc.nat(3000) }),
  fc.record({ kind: fc.constant('initiate' as const), who: fc.nat(1), pause: fc.nat(6000) }),
  fc.record({ kind: fc.constant('move' as const), who: fc.nat(1), pause: fc.nat(2000) }),
  fc.record({ kind: fc.constant('restart' as const), who: fc.nat(1), pause: fc.nat(2000) }),
  fc.record({ kind: fc.constant('clock' as const), who: fc.nat(1), pause: fc.nat(1000) }),
  fc.record({ kind: fc.constant('wait' as const), who: fc.nat(1), pause: fc.nat(200_000) }),
);

test('after any trouble, both ends hear each other again', () => {
  fc.assert(
    fc.property(
      fc.nat(2 ** 20),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.array(step, { maxLength: 25 }),
      (seed, loss, steps) => {
        const { lab, alice, bob } = twoHosts(seed);
        const hosts: [Host, Host] = [alice, bob];
        const other = (who: number): Host => (who === 0 ? hosts[1] : hosts[0]);
        const self = (who: number): Host => (who === 0 ? hosts[0] : hosts[1]);
        let port = 1000;
        lab.passes = () => (lab.random(1)[0] ?? 0) / 256 >= loss;
        for (const { kind, who, pause } of steps) {
          const host = self(who);
          if (kind === 'send') host.send(other(who), 'noise');
          if (kind === 'initiate') host.tunnel.initiate(other(who).publicKey, host.time);
          // Only one side moves, or nobody could find anybody.
          if (kind === 'move') hosts[0].moveTo({ address: '192.0.2.77', port: port++ });
          if (kind === 'clock') host.clockOffset = ((lab.random(1)[0] ?? 0) - 128) * 3_600_000;
          if (kind === 'restart') hosts[who === 0 ? 0 : 1] = restart(host, other(who));
          lab.run(pause);
        }
        lab.passes = () => true;
        const until = lab.now + HEALED_WITHIN;
        let heard = false;
        for (const host of hosts) host.received();
        while (!heard && lab.now < until) {
          hosts[0].send(hosts[1], 'calm');
          hosts[1].send(hosts[0], 'calm');
          lab.run(500);
          heard = hosts.map((host) => host.received().includes('calm')).every(Boolean);
        }
        expect(heard).toBe(true);

        function restart(host: Host, peer: Host): Host {
          lab.crash(host);
          const again = lab.host({
            endpoint: host.endpoint,
            inside: host.inside,
            privateKey: host.privateKey,
            timestampMark: host.tunnel.device.timestampMark,
          });
          again.clockOffset = host.clockOffset;
          const { learnedEndpoint } = host.statusOf(peer);
          again.knows(peer, { learnedEndpoint });
          return again;
        }
      },
    ),
    { numRuns: 60 },
  );
});
