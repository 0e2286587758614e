import { describe, expect, test } from 'vitest';
import type { Action } from '../../../native-free/device/data-plane.ts';
import { Device } from '../../../native-free/device/device.ts';
import { Port } from '../../../native-free/port/port.ts';
import { opensslPrimitives as primitives } from '../../../src/noise/openssl-primitives.ts';
import { seededRandom } from '../device/lab.ts';

const NOON = Date.UTC(2030, 0, 1, 12);
const HERE = { address: '192.0.2.1', port: 51820 };
const THERE = { address: '198.51.100.2', port: 51820 };

const random = seededRandom(42);

const deviceOn = (port: Port): Device => {
  const device = new Device({ privateKey: random(32) }, { primitives, random, indices: port });
  port.add(device);
  return device;
};

const introduce = (a: Device, b: Device): void => {
  a.setPeer({ publicKey: b.publicKey, allowedIps: [], endpoints: [THERE] });
  b.setPeer({ publicKey: a.publicKey, allowedIps: [], endpoints: [HERE] });
};

const datagramIn = (actions: readonly Action[] | undefined): Uint8Array => {
  for (const action of actions ?? []) if (action.kind === 'send') return action.datagram;
  throw new Error('nothing was sent');
};

/** Two nodes, each with a red and a green device behind one port. */
const twoNodes = () => {
  const here = new Port({ random });
  const there = new Port({ random });
  const red = { here: deviceOn(here), there: deviceOn(there) };
  const green = { here: deviceOn(here), there: deviceOn(there) };
  introduce(red.here, red.there);
  introduce(green.here, green.there);
  return { here, there, red, green };
};

describe('with several devices behind a port', () => {
  test('an initiation goes to the one whose mac1 it carries, its response to the one that waits', () => {
    const { here, there, red, green } = twoNodes();
    for (const network of [green, red]) {
      const initiation = datagramIn(network.here.initiate(network.there.id, 0, NOON));
      const arrived = there.receive(initiation, HERE, 0, NOON);
      expect(arrived?.device).toBe(network.there);
      const answered = here.receive(datagramIn(arrived?.actions), THERE, 0, NOON);
      expect(answered?.device).toBe(network.here);
      expect(answered?.actions.map(({ kind }) => kind)).toContain('use-keypair');
    }
  });

  test('a response to nobody is for nobody', () => {
    const { here, there, red } = twoNodes();
    const initiation = datagramIn(red.here.initiate(red.there.id, 0, NOON));
    const response = datagramIn(there.receive(initiation, HERE, 0, NOON)?.actions);
    const astray = response.slice();
    astray[8] = (astray[8] ?? 0) ^ 1;
    expect(here.receive(astray, THERE, 0, NOON)).toBeUndefined();
    expect(here.drops.of('unknown-index')).toBe(1);
    expect(here.receive(response, THERE, 0, NOON)?.device).toBe(red.here);
  });

  test('an initiation for none of them is for nobody', () => {
    const { here, there, red } = twoNodes();
    const initiation = datagramIn(red.here.initiate(red.there.id, 0, NOON));
    expect(here.receive(initiation, HERE, 0, NOON)).toBeUndefined();
    expect(here.drops.of('bad-mac1')).toBe(1);
    there.remove(red.there);
    expect(there.receive(initiation, HERE, 0, NOON)).toBeUndefined();
  });

  test('transport data and what is malformed are not the port’s business', () => {
    const { here } = twoNodes();
    for (const bytes of [new Uint8Array(0), new Uint8Array(32), Uint8Array.of(4, ...new Uint8Array(31))])
      expect(here.receive(bytes, THERE, 0, NOON)).toBeUndefined();
    expect(here.drops.of('malformed-message')).toBe(3);
  });
});

describe('receiver indices', () => {
  test('are unique over all devices of a port, even if the randomness repeats itself', () => {
    const values = [7, 7, 7, 8, 8, 7, 9];
    const port = new Port({ random: () => Uint8Array.of(0, 0, 0, values.shift() ?? 0) });
    const [a, b] = [deviceOn(port), deviceOn(port)];
    expect([port.claim(a, THERE), port.claim(b, THERE), port.claim(a, THERE)]).toEqual([7, 8, 9]);
    port.release(7);
    values.push(7);
    expect(port.claim(b, THERE)).toBe(7);
  });

  test('use all 32 bits', () => {
    const port = new Port({ random });
    const device = deviceOn(port);
    let ones = 0;
    let zeros = 0;
    for (let i = 0; i < 100; i++) {
      const index = port.claim(device, THERE);
      ones |= index;
      zeros |= ~index;
    }
    expect([ones >>> 0, zeros >>> 0]).toEqual([0xffffffff, 0xffffffff]);
  });

  test('are all given back when a device closes', () => {
    const { here, there, red } = twoNodes();
    const claimed = new Set<number>();
    const counting = new Port({ random });
    const device = new Device(
      { privateKey: random(32) },
      {
        primitives,
        random,
        indices: {
          claim: (...of) => {
            const index = counting.claim(...of);
            claimed.add(index);
            return index;
          },
          release: (index) => {
            expect(claimed.delete(index)).toBe(true);
            counting.release(index);
          },
        },
      },
    );
    counting.add(device);
    introduce(device, red.there);
    const initiation = datagramIn(device.initiate(red.there.id, 0, NOON));
    const response = datagramIn(there.receive(initiation, HERE, 0, NOON)?.actions);
    device.receiveHandshake(response, THERE, 0, NOON);
    device.initiate(red.there.id, 6000, NOON + 6000);
    expect(claimed.size).toBe(2);
    device.close();
    expect(claimed.size).toBe(0);
    expect(here.drops.entries()).toEqual([]);
  });
});

describe('where several receivers share a port', () => {
  const at = (n: number) => ({ address: `198.51.100.${n}`, port: 51820 });
  const laneOf = (index: number): number => index & 3;

  test('all sessions with one endpoint end in the number of one lane, also across devices, and the rest is random', () => {
    const port = new Port({ random, lanes: 4 });
    const [a, b] = [deviceOn(port), deviceOn(port)];
    const indices = Array.from({ length: 50 }, (_, i) => port.claim(i % 2 === 0 ? a : b, at(1)));
    expect(new Set(indices.map(laneOf)).size).toBe(1);
    expect(new Set(indices).size).toBe(50);
  });

  test('endpoints spread over the lanes evenly, also after some have gone', () => {
    const port = new Port({ random, lanes: 4 });
    const device = deviceOn(port);
    const indices = Array.from({ length: 8 }, (_, i) => port.claim(device, at(i)));
    for (const lane of [0, 1, 2, 3])
      expect(indices.filter((index) => laneOf(index) === lane)).toHaveLength(2);
    const gone = indices.filter((index) => laneOf(index) === 2);
    for (const index of gone) port.release(index);
    expect([port.claim(device, at(20)), port.claim(device, at(21))].map(laneOf)).toEqual([2, 2]);
  });

  test('an endpoint stays on its lane while there is a session with it', () => {
    const port = new Port({ random, lanes: 2 });
    const device = deviceOn(port);
    let index = port.claim(device, at(1));
    const lane = index & 1;
    for (let i = 0; i < 20; i++) {
      port.claim(device, at(100 + i));
      const next = port.claim(device, at(1));
      port.release(index);
      port.release(index);
      index = next;
      expect(index & 1).toBe(lane);
    }
  });
});
