// What becomes of secrets in memory, and that no key and counter are ever used together twice: seen from below, by primitives
// that remember what they were asked for.

import { describe, expect, test } from 'vitest';
import type { Primitives } from '../../../native-free/noise/primitives.ts';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import { ALICE, BOB, type Host, Lab, twoHosts } from './lab.ts';

/** Keeps every secret that was computed, and every key that was sealed with, by its counter. */
const remembering = (secrets: Uint8Array[], sealed: string[]): Primitives => ({
  ...opensslPrimitives,
  dh(privateKey, publicKey) {
    const secret = opensslPrimitives.dh(privateKey, publicKey);
    if (secret !== undefined) secrets.push(secret);
    return secret;
  },
  hmac(key, ...parts) {
    const secret = opensslPrimitives.hmac(key, ...parts);
    secrets.push(secret);
    return secret;
  },
  seal(key, counter, plaintext, associated) {
    sealed.push(`${Buffer.from(key).toString('hex')} ${counter}`);
    return opensslPrimitives.seal(key, counter, plaintext, associated);
  },
});

const isWiped = (secret: Uint8Array): boolean => secret.every((byte) => byte === 0);
const left = (secrets: readonly Uint8Array[]): number => secrets.filter((one) => !isWiped(one)).length;

const twoWatched = () => {
  const lab = new Lab();
  const secrets = { alice: [] as Uint8Array[], bob: [] as Uint8Array[] };
  const sealed: string[] = [];
  const alice = lab.host({ ...ALICE, primitives: remembering(secrets.alice, sealed) });
  const bob = lab.host({ ...BOB, primitives: remembering(secrets.bob, sealed) });
  alice.knows(bob);
  bob.knows(alice);
  return { lab, alice, bob, secrets, sealed };
};

/** The static secret of the two hosts, for as long as they are peers. */
const STATIC_SECRET = 1;

describe('secrets', () => {
  test('of a handshake are overwritten at both ends once it is over', () => {
    const { lab, alice, bob, secrets } = twoWatched();
    alice.send(bob, 'hello');
    lab.run(1000);
    expect(bob.received()).toEqual(['hello']);
    expect(secrets.alice.length).toBeGreaterThan(20);
    expect(secrets.bob.length).toBeGreaterThan(20);
    expect([left(secrets.alice), left(secrets.bob)]).toEqual([STATIC_SECRET, STATIC_SECRET]);
  });

  test('of an initiation that is not answered are kept until it is given up, and no longer', () => {
    const { lab, alice, bob, secrets } = twoWatched();
    lab.passes = () => false;
    alice.send(bob, 'hello?');
    lab.run(100);
    // The chaining key.
    expect(left(secrets.alice)).toBe(STATIC_SECRET + 1);
    lab.run(110_000);
    expect(alice.statusOf(bob).isHandshaking).toBe(false);
    expect(left(secrets.alice)).toBe(STATIC_SECRET);
  });

  test('of messages that are refused are overwritten: forged, replayed, from strangers', () => {
    const { lab, alice, bob, secrets } = twoWatched();
    alice.send(bob, 'hello');
    lab.run(1000);
    const [initiation] = lab.seen(1);
    const [response] = lab.seen(2);
    if (initiation === undefined || response === undefined) throw new Error('there was no handshake');
    lab.inject(initiation);
    expect(bob.dropped('replayed-initiation')).toBe(1);
    bob.tunnel.removePeer(alice.publicKey, bob.time);
    lab.inject(initiation);
    expect(bob.dropped('unknown-peer')).toBe(1);
    expect([left(secrets.alice), left(secrets.bob)]).toEqual([STATIC_SECRET, 0]);
  });

  test('of a peer go with it, those of all peers and its own with the device', () => {
    const { lab, alice, bob, secrets } = twoWatched();
    const presharedKey = lab.random(32);
    alice.knows(bob, { presharedKey });
    bob.knows(alice, { presharedKey });
    alice.send(bob, 'hello');
    lab.run(1000);
    const installed = alice.tunnel.plane.peer(bob.id).inUse;
    if (installed === undefined) throw new Error('there is no session');
    expect([installed.sendKey, installed.receiveKey].some(isWiped)).toBe(false);
    alice.tunnel.removePeer(bob.publicKey, alice.time);
    expect([installed.sendKey, installed.receiveKey].every(isWiped)).toBe(true);
    expect(left(secrets.alice)).toBe(0);
    bob.tunnel.close(bob.time);
    expect(left(secrets.bob)).toBe(0);
    // Whoever gave the key still has it.
    expect(isWiped(presharedKey)).toBe(false);
  });
});

describe('a key and a counter', () => {
  const sayAll = (lab: Lab, alice: Host, bob: Host, seconds: number): void => {
    for (let i = 0; i < seconds; i++) {
      alice.send(bob, `${i}`);
      bob.send(alice, `${i}`);
      lab.run(1000);
    }
  };

  test('are never used together twice: over rekeys, loss, both ends at once, sessions ended, and a restart', () => {
    const { lab, alice, bob, sealed } = twoWatched();
    let datagrams = 0;
    lab.passes = () => datagrams++ % 5 !== 4;
    sayAll(lab, alice, bob, 300);
    alice.tunnel.initiate(bob.publicKey, alice.time);
    bob.tunnel.initiate(alice.publicKey, bob.time);
    sayAll(lab, alice, bob, 20);
    alice.tunnel.carryOut(alice.tunnel.device.endSessions(), alice.time);
    sayAll(lab, alice, bob, 20);
    lab.crash(bob);
    const { privateKey } = bob;
    const again = lab.host({ ...BOB, privateKey, primitives: remembering([], sealed) });
    again.knows(alice);
    sayAll(lab, alice, again, 60);
    expect(again.received().length).toBeGreaterThan(0);
    expect(sealed.length).toBeGreaterThan(600);
    expect(new Set(sealed).size).toBe(sealed.length);
  });

  test('are as many as a session may have: the last is used once, the next not at all', () => {
    const { lab, alice, bob } = twoHosts();
    alice.send(bob, 'hello');
    lab.run(1000);
    const installed = alice.tunnel.plane.peer(bob.id).inUse;
    if (installed === undefined) throw new Error('there is no session');
    installed.sendCounter = Number.MAX_SAFE_INTEGER - 1;
    alice.send(bob, 'the last');
    alice.send(bob, 'too many');
    expect(installed.sendCounter).toBe(Number.MAX_SAFE_INTEGER);
    expect(lab.seen(4, alice).length).toBeLessThanOrEqual(3);
  });
});
