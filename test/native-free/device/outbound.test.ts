import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { paddedLength, STAGED_LIMIT } from '../../../native-free/device/outbound.ts';
import { ALICE, BOB, isData, Lab, twoHosts } from './lab.ts';
import { packet } from './packets.ts';

const HEADER_AND_TAG = 32;

describe('padding', () => {
  test.each([
    [0, 1420, 0],
    [1, 1420, 16],
    [16, 1420, 16],
    [17, 1420, 32],
    [1408, 1420, 1408],
    [1409, 1420, 1420],
    [1420, 1420, 1420],
    [1500, 1420, 1500],
  ])('of %i bytes under an MTU of %i gives %i', (length, mtu, padded) => {
    expect(paddedLength(length, mtu)).toBe(padded);
  });

  test('never shortens, never passes the MTU by itself, and is to 16 or to the MTU', () => {
    fc.assert(
      fc.property(fc.nat(2000), fc.integer({ min: 576, max: 1500 }), (length, mtu) => {
        const padded = paddedLength(length, mtu);
        expect(padded).toBeGreaterThanOrEqual(length);
        expect(padded % 16 === 0 || padded === mtu || padded === length).toBe(true);
        if (length <= mtu) expect(padded).toBeLessThanOrEqual(mtu);
        expect(padded - length).toBeLessThan(16);
      }),
    );
  });

  test('is cut off again: packets of every length arrive as they were', () => {
    const { lab, alice, bob } = twoHosts();
    const texts = Array.from({ length: 1400 }, (_, i) => 'x'.repeat(i));
    alice.tunnel.initiate(bob.publicKey, alice.time);
    lab.run(50);
    for (const text of texts) alice.send(bob, text);
    lab.run(50);
    expect(bob.received()).toEqual(texts);
    for (const { bytes } of lab.wire.filter(isData))
      expect(bytes.length).toBeLessThanOrEqual(1420 + HEADER_AND_TAG);
  });

  test('is cut off again over IPv6 too', () => {
    const lab = new Lab();
    const alice = lab.host({ ...ALICE, inside: 'fd00::1' });
    const bob = lab.host({ ...BOB, inside: 'fd00::2' });
    alice.knows(bob);
    bob.knows(alice);
    for (let i = 0; i < 40; i++) alice.send(bob, 'y'.repeat(i));
    lab.run(100);
    expect(bob.received()).toEqual(Array.from({ length: 40 }, (_, i) => 'y'.repeat(i)));
  });
});

test('what waits for a handshake is bounded, and the oldest goes first', () => {
  const { lab, alice, bob } = twoHosts();
  for (let i = 0; i < STAGED_LIMIT + 10; i++) alice.send(bob, `${i}`);
  expect(alice.dropped('staged-overflow')).toBe(10);
  lab.run(100);
  expect(bob.received()).toEqual(Array.from({ length: STAGED_LIMIT }, (_, i) => `${i + 10}`));
});

test('the longest match among the allowed IPs names the peer, of whichever family', () => {
  const lab = new Lab();
  const alice = lab.host(ALICE);
  const bob = lab.host(BOB);
  const carol = lab.host({ endpoint: { address: '192.0.2.3', port: 3 }, inside: '10.0.0.3' });
  alice.tunnel.setPeer(
    bob.asPeer({ allowedIps: [{ family: 4, value: 0x0a000000n, length: 8 }] }),
    alice.time,
  );
  alice.tunnel.setPeer(
    carol.asPeer({
      allowedIps: [
        { family: 4, value: 0x0a000000n, length: 24 },
        { family: 6, value: 0n, length: 0 },
      ],
    }),
    alice.time,
  );
  for (const host of [bob, carol])
    host.knows(alice, {
      allowedIps: [
        { family: 4, value: 0n, length: 0 },
        { family: 6, value: 0n, length: 0 },
      ],
    });
  alice.tunnel.fromInside(packet('10.0.0.1', '10.0.1.1', 'bob'), alice.time);
  alice.tunnel.fromInside(packet('10.0.0.1', '10.0.0.9', 'carol'), alice.time);
  alice.tunnel.fromInside(packet('fd00::1', 'fd00::3', 'carol v6'), alice.time);
  alice.tunnel.fromInside(packet('10.0.0.1', '11.0.0.1', 'nobody'), alice.time);
  lab.run(100);
  expect(bob.received()).toEqual(['bob']);
  expect(carol.received()).toEqual(['carol', 'carol v6']);
  expect(alice.dropped('no-peer')).toBe(1);
});

test('WireGuard bytes are counted on both sides alike', () => {
  const { lab, alice, bob } = twoHosts();
  for (let i = 0; i < 20; i++) alice.send(bob, 'z'.repeat(i * 50));
  lab.run(100);
  const onWire = lab.seen(4, alice).reduce((sum, { bytes }) => sum + bytes.length, 0);
  expect(alice.tunnel.plane.activity(bob.id).txBytes).toBe(onWire);
  expect(bob.tunnel.plane.activity(alice.id).rxBytes).toBe(onWire);
});
