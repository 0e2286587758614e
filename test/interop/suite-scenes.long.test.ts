// Scenes of the suite that need a world of their own: a peer behind a NAT that forgets, an interface in a container, an
// underlay that only marked packets may use, hosts with several addresses and routes, endpoints that are not there yet.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, test } from 'vitest';
import { Lab } from '../lab/lab.ts';
import { ping } from '../lab/ping.ts';
import {
  at,
  type Hosts,
  INSIDE,
  makeHosts,
  OUTSIDE,
  Pair,
  PORTS,
  until,
  WITH_CONTROL,
} from './suite-scene.ts';

const lab = Lab.create();
afterAll(async () => await lab.close());

let made = 0;
const name = (): string => {
  made += 1;
  return `n${made}`;
};
const TIMEOUT = 240_000;

/** Host a is at 192.168.1.2 behind a router that masquerades, with another port each time, and lets nobody in unasked. */
const behindNat = async (): Promise<Hosts & { forgets: () => Promise<void> }> => {
  const prefix = name();
  const a = await lab.host(`${prefix}a`);
  const b = await lab.host(`${prefix}b`);
  const router = await lab.host(`${prefix}r`, { forward: true });
  await lab.cable(
    { host: a, interface: 'eth0', addresses: ['192.168.1.2/24'] },
    { host: router, interface: 'in', addresses: ['192.168.1.1/24'] },
  );
  await lab.cable(
    { host: router, interface: 'out', addresses: [`${OUTSIDE[0].v4}/24`] },
    { host: b, interface: 'eth0', addresses: [`${OUTSIDE[1].v4}/24`] },
  );
  await a.ip('route add default via 192.168.1.1');
  await router.nft(`table ip nat {
chain post {
type nat hook postrouting priority 100
oifname "out" masquerade fully-random
}
chain in {
type filter hook input priority 0
iifname "out" ct state new drop
}
}
`);
  await router.set({
    'netfilter/nf_conntrack_udp_timeout': 2,
    'netfilter/nf_conntrack_udp_timeout_stream': 2,
  });
  const forgets = async (): Promise<void> => {
    await until(
      () => router.run(['conntrack', '-L', '-p', 'udp']),
      (list) => !list.includes(`dport=${PORTS[1]}`),
      'the NAT does not forget',
    );
  };
  return { a, b, forgets };
};

describe.each(WITH_CONTROL)('%s and %s', (...makers) => {
  test(
    'behind a NAT that forgets, a peer is reached while it keeps the mapping alive, and again when it speaks',
    async () => {
      const { forgets, ...hosts } = await behindNat();
      const endpoints = [undefined, at(OUTSIDE[1].v4, PORTS[1])] as const;
      await using pair = await Pair.start(lab, hosts, makers, { endpoints });
      const { one, two } = pair;
      await pair.reaches(0);
      await pair.reaches(1);
      const before = (await two.peer(one)).endpoint;
      expect(before).toMatch(`${OUTSIDE[0].v4}:`);

      await forgets();
      expect(await pair.ping(1, 'v4', { wait: 1 })).toBe(0);
      await pair.reaches(0);
      const after = await until(
        async () => (await two.peer(one)).endpoint,
        (endpoint) => endpoint !== before,
      );
      expect(after).toMatch(`${OUTSIDE[0].v4}:`);
      await pair.reaches(1);

      await one.setPeer(two, 'persistent-keepalive', '1');
      // Longer than the NAT remembers; it has heard keepalives meanwhile.
      await sleep(6000);
      await pair.reaches(1);
      await one.setPeer(two, 'persistent-keepalive', 'off');
      await forgets();
      expect(await pair.ping(1, 'v4', { wait: 1 })).toBe(0);
    },
    TIMEOUT,
  );

  test(
    'an interface that is moved to another namespace keeps its port where it was born',
    async () => {
      const hosts = await makeHosts(lab, name());
      const container = await lab.host(name());
      await using pair = await Pair.start(lab, hosts, makers);
      await pair.isWhole();
      const { one } = pair;
      await one.moveTo(container);
      const routes = [`${INSIDE[1].v4}/32`, `${INSIDE[1].v6}/128`];
      await one.up([`${INSIDE[0].v4}/32`, `${INSIDE[0].v6}/128`], routes, 1300);
      await pair.isWhole();
      expect(await pair.ping(0, 'v4', { size: 1200, count: 20, interval: 0.01, wait: 5 })).toBe(20);
      // The container has no other way out.
      expect(await container.run(['ip', '-oneline', 'link'])).not.toMatch(/eth0/);
      expect(await hosts.a.run(['ss', '-uln'])).toMatch(`:${PORTS[0]} `);
      // A namespace that goes takes the interface with it, and the device ends.
      const { socket } = one;
      await lab.run(['ip', 'netns', 'delete', container.netns.slice('/run/netns/'.length)]);
      await until(
        async () => one.isRunning,
        (is) => !is,
        `it goes on without its interface (${socket})`,
      );
    },
    TIMEOUT,
  );

  test(
    'with a mark it uses routes that nobody else may, and its own default route does not swallow it',
    async () => {
      const prefix = name();
      const a = await lab.host(`${prefix}a`);
      const b = await lab.host(`${prefix}b`);
      await lab.cable(
        { host: a, interface: 'eth0', addresses: [`${OUTSIDE[0].v4}/32`, `${OUTSIDE[0].v6}/128`] },
        { host: b, interface: 'eth0', addresses: [`${OUTSIDE[1].v4}/24`, `${OUTSIDE[1].v6}/64`] },
      );
      await using pair = await Pair.start(lab, { a, b }, makers);
      const { one, two } = pair;
      await a.ip(
        `route add ${OUTSIDE[1].v4} dev eth0 table 77`,
        `route add ${OUTSIDE[1].v6} dev eth0 table 77`,
        'rule add fwmark 0x77 table 77',
        `route add default dev ${one.interface}`,
        `route add ::/0 dev ${one.interface}`,
      );
      await a.run(['ip', '-6', 'rule', 'add', 'fwmark', '0x77', 'table', '77']);
      await one.setPeer(two, 'allowed-ips', '0.0.0.0/0,::/0');
      expect(await pair.ping(0, 'v4', { wait: 1 })).toBe(0);
      await one.set('fwmark', '0x77');
      expect(await one.show('fwmark')).toBe('0x77');
      await pair.isWhole();
      await one.setPeer(two, 'endpoint', at(OUTSIDE[1].v6, PORTS[1]));
      await pair.isWhole();
      await until(
        async () => (await two.peer(one)).endpoint,
        (endpoint) => endpoint === at(OUTSIDE[0].v6, PORTS[0]),
      );
      await one.set('fwmark', 'off');
      expect(await pair.ping(0, 'v4', { wait: 1 })).toBe(0);
    },
    TIMEOUT,
  );

  test(
    'it answers from the address it was spoken to, until that is gone',
    async () => {
      const hosts = await makeHosts(lab, name());
      const { a } = hosts;
      await a.ip(
        'address add 192.0.2.11/24 dev eth0',
        'address add 192.0.2.12/24 dev eth0',
        'address add 2001:db8::11/64 dev eth0 nodad',
        'address add 2001:db8::12/64 dev eth0 nodad',
      );
      const endpoints = [at('192.0.2.11', PORTS[0]), undefined] as const;
      await using pair = await Pair.start(lab, hosts, makers, { endpoints });
      const { one, two } = pair;
      for (const address of ['192.0.2.11', '2001:db8::11', '192.0.2.12', '2001:db8::12']) {
        // Again, if need be: what the other end had under way makes this one roam back to where that came from.
        await until(
          async () => {
            await two.setPeer(one, 'endpoint', at(address, PORTS[0]));
            await pair.reaches(1);
            await pair.reaches(0);
            return (await two.peer(one)).endpoint;
          },
          (endpoint) => endpoint === at(address, PORTS[0]),
        );
        expect(await pair.ping(0, 'v6', { count: 20, interval: 0.01, wait: 5 })).toBe(20);
        expect((await two.peer(one)).endpoint).toBe(at(address, PORTS[0]));
      }
      // Gone: the next packet comes from another, and the far end follows.
      await a.ip('address delete 2001:db8::12/64 dev eth0');
      await pair.reaches(0);
      const other = (await two.peer(one)).endpoint;
      expect(other).not.toBe(at('2001:db8::12', PORTS[0]));
      expect(other).toMatch('2001:db8::');
      await two.setPeer(one, 'endpoint', at('192.0.2.12', PORTS[0]));
      await pair.reaches(1);
      await a.ip('address delete 192.0.2.12/24 dev eth0');
      await pair.reaches(0);
      await until(
        async () => (await two.peer(one)).endpoint,
        (endpoint) => endpoint.startsWith('192.0.2.1'),
      );
      await pair.reaches(1);
    },
    TIMEOUT,
  );

  test(
    'a peer that cannot be reached at first is, once it can',
    async () => {
      const hosts = await makeHosts(lab, name());
      await hosts.a.ip('link set eth0 down');
      await using pair = await Pair.start(lab, hosts, makers);
      expect(await pair.ping(0, 'v4', { count: 3, wait: 1 })).toBe(0);
      await hosts.a.ip('link set eth0 up');
      await pair.reaches(0);
      await pair.isWhole();
    },
    TIMEOUT,
  );

  test(
    'a persistent keepalive begins a session with no traffic at all',
    async () => {
      const hosts = await makeHosts(lab, name());
      await using pair = await Pair.start(lab, hosts, makers);
      const { one, two } = pair;
      await one.setPeer(two, 'persistent-keepalive', '1');
      await until(
        () => two.peer(one),
        ({ lastHandshake, rxBytes }) => lastHandshake > 0 && rxBytes >= 148 + 5 * 32,
      );
      // And again when the link comes up; wireguard-go of Debian does not notice that it was down.
      if (one.maker !== 'vl3') return;
      const { lastHandshake } = await two.peer(one);
      await one.setLink('down');
      await sleep(2000);
      await one.setLink('up');
      await until(
        () => two.peer(one),
        (peer) => peer.lastHandshake > lastHandshake,
      );
    },
    TIMEOUT,
  );

  test(
    'when the route goes by another cable, so do its packets',
    async () => {
      const hosts = await makeHosts(lab, name());
      const { a, b } = hosts;
      await lab.cable(
        { host: a, interface: 'eth1', addresses: ['198.51.100.1/24'] },
        { host: b, interface: 'eth1', addresses: ['198.51.100.2/24'] },
      );
      await b.ip('address add 203.0.113.2/32 dev lo');
      await a.ip(`route add 203.0.113.2 via ${OUTSIDE[1].v4} src ${OUTSIDE[0].v4}`);
      const endpoints = [undefined, at('203.0.113.2', PORTS[1])] as const;
      await using pair = await Pair.start(lab, hosts, makers, { endpoints });
      const { one, two } = pair;
      await pair.reaches(0);
      await pair.reaches(1);
      expect((await two.peer(one)).endpoint).toBe(at(OUTSIDE[0].v4, PORTS[0]));
      // wireguard-go of Debian notices at times only.
      if (one.maker !== 'vl3') return;
      await a.ip('route replace 203.0.113.2 via 198.51.100.2 src 198.51.100.1');
      await until(
        async () => {
          await pair.reaches(0);
          return (await two.peer(one)).endpoint;
        },
        (endpoint) => endpoint === at('198.51.100.1', PORTS[0]),
        'it does not speak from the address of its new route',
      );
      await pair.reaches(1);
    },
    TIMEOUT,
  );

  test(
    'its MTU is followed: a packet that fits is not cut, and none of its padding is too much',
    async () => {
      const hosts = await makeHosts(lab, name());
      await using pair = await Pair.start(lab, hosts, makers);
      await pair.isWhole();
      const { one, two } = pair;
      for (const mtu of [1280, 9000, 1420]) {
        for (const end of [one, two]) await end.setLink('mtu', `${mtu}`);
        // It may hear of the change a moment later.
        for (const size of [mtu - 28, mtu - 29, 100])
          await until(
            () => ping(hosts.a, INSIDE[1].v4, { size, count: 5, interval: 0.01, wait: 5 }),
            ({ received }) => received === 5,
          );
      }
    },
    TIMEOUT,
  );
});
