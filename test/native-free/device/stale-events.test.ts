// What a data plane with threads of its own says may be out of date when the device hears it.

import { expect, test } from 'vitest';
import { twoHosts } from './lab.ts';

test('a handshake asked for before the session came does not make the responder begin another one', () => {
  const { lab, alice, bob } = twoHosts();
  alice.send(bob, 'hello');
  lab.run(50);
  expect(bob.statusOf(alice).keypair?.isInitiator).toBe(false);
  // Bob's answer was staged a moment before alice's first message confirmed the session.
  const { now, wallclock } = bob.time;
  expect(bob.tunnel.device.event({ kind: 'handshake-needed', peer: alice.id }, now, wallclock)).toEqual([]);
  lab.run(10_000);
  expect(lab.seen(1)).toHaveLength(1);
  expect(bob.statusOf(alice).keypair?.isInitiator).toBe(false);
});

test('nor the initiator', () => {
  const { lab, alice, bob } = twoHosts();
  alice.send(bob, 'hello');
  lab.run(50);
  const { now, wallclock } = alice.time;
  alice.tunnel.device.event({ kind: 'handshake-needed', peer: bob.id }, now, wallclock);
  lab.run(10_000);
  expect(lab.seen(1)).toHaveLength(1);
});

test('asked for again after the keypair may have been used up, it is begun', () => {
  const { lab, alice, bob } = twoHosts();
  alice.send(bob, 'hello');
  lab.run(6000);
  const { now, wallclock } = alice.time;
  const actions = alice.tunnel.device.event({ kind: 'handshake-needed', peer: bob.id }, now, wallclock);
  expect(actions).toMatchObject([{ kind: 'send' }]);
});
