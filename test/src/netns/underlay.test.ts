import { afterAll, describe, expect, test } from 'vitest';
import { formatAddress } from '../../../native-free/ipam/prefix.ts';
import { readNamespace } from '../../../src/netns/ip.ts';
import { lowestMtu, reachableAddresses, underlayLinks } from '../../../src/netns/underlay.ts';
import { Fixture } from './fixture.ts';

const fixture = new Fixture();

afterAll(() => fixture[Symbol.dispose]());

/** A host after these `ip` commands; "wire NAME" makes an interface with something at its other end. */
const host = async (name: string, ...commands: string[]) => {
  const namespace = fixture.makePod(name);
  const ip = (command: string): string => fixture.inside(namespace, 'ip', ...command.split(' '));
  for (const command of commands) {
    const [verb, wire] = command.split(' ');
    if (verb !== 'wire') {
      ip(command);
      continue;
    }
    const far = fixture.makePod(`${name}-${wire}`);
    ip(`link add name ${wire} type veth peer name far netns ${far}`);
    fixture.inside(far, 'ip', 'link', 'set', 'dev', 'far', 'up');
    ip(`link set dev ${wire} up`);
  }
  return readNamespace(fixture.tools, `/run/netns/${namespace}`);
};

const seen = (state: Awaited<ReturnType<typeof host>>) => ({
  links: underlayLinks(state).map(({ name }) => name),
  addresses: reachableAddresses(state).map(formatAddress),
  mtu: lowestMtu(state),
});

describe('the underlay', () => {
  test('is the uplink with its global addresses, not the loopback and not link-local ones', async () => {
    const state = await host(
      'h1',
      'wire eth0',
      'address add 192.0.2.5/24 dev eth0',
      'address add 169.254.7.7/16 dev eth0',
      'address add 2001:db8::5/64 dev eth0 nodad',
      'address add 198.51.100.1/32 dev lo',
      'route add default via 192.0.2.1',
    );
    expect(seen(state)).toEqual({ links: ['eth0'], addresses: ['192.0.2.5', '2001:db8::5'], mtu: 1500 });
  });

  test('has the lowest MTU of its interfaces and routes', async () => {
    const wires = [
      'wire eth0',
      'wire eth1',
      'address add 192.0.2.5/24 dev eth0',
      'address add 10.1.0.5/24 dev eth1',
    ];
    expect(seen(await host('h2', ...wires, 'link set dev eth1 mtu 1400')).mtu).toBe(1400);
    const route = 'route add 203.0.113.0/24 via 192.0.2.1 mtu 1340';
    expect(seen(await host('h3', ...wires, route)).mtu).toBe(1340);
  });

  test("is not a containers' bridge, its ports, a pod's veth, a tunnel or an interface that is down", async () => {
    const state = await host(
      'h4',
      'wire eth0',
      'address add 192.0.2.5/24 dev eth0',
      'link add name br0 type bridge',
      'link set dev br0 up',
      'address add 172.17.0.1/16 dev br0',
      'wire port0',
      'link set dev port0 master br0',
      'address add 172.18.0.1/24 dev port0',
      'wire pod0',
      'address add 10.9.0.1/32 dev pod0',
      'wire bare0',
      'tuntap add name tun0 mode tun',
      'link set dev tun0 up',
      'address add 10.8.0.1/24 dev tun0',
      'wire down0',
      'address add 10.7.0.1/24 dev down0',
      'link set dev down0 down',
    );
    expect(seen(state)).toEqual({ links: ['eth0'], addresses: ['192.0.2.5'], mtu: 1500 });
  });

  test('is a bridge that the default route leaves by', async () => {
    const state = await host(
      'h5',
      'wire port0',
      'link add name br0 type bridge',
      'link set dev port0 master br0',
      'link set dev br0 up',
      'address add 192.0.2.5/24 dev br0',
      'route add default via 192.0.2.1',
    );
    expect(seen(state)).toEqual({ links: ['br0'], addresses: ['192.0.2.5'], mtu: 1500 });
  });

  test('is an uplink with a host address and a gateway on the link', async () => {
    const state = await host(
      'h6',
      'wire eth0',
      'address add 192.0.2.5/32 dev eth0',
      'route add default via 10.0.0.1 dev eth0 onlink',
    );
    expect(seen(state)).toEqual({ links: ['eth0'], addresses: ['192.0.2.5'], mtu: 1500 });
  });

  test('has no tentative or deprecated address', async () => {
    const state = await host(
      'h7',
      'wire eth0',
      'address add 2001:db8::5/64 dev eth0 nodad',
      'address add 2001:db8::6/64 dev eth0 nodad preferred_lft 0',
    );
    expect(seen(state).addresses).toEqual(['2001:db8::5']);
  });

  test('of a host with nothing has no MTU', async () => {
    expect(seen(await host('h8'))).toEqual({ links: [], addresses: [], mtu: undefined });
  });
});
