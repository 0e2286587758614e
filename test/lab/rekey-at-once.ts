// Loaded before an agent (node --import): on SIGUSR2 it initiates a handshake with every peer of every network, at the next
// full half second of the clock, so that agents told one after the other do it at the same instant.

import { isMainThread } from 'node:worker_threads';
import { Tunnel } from '../../src/device/tunnel.ts';

if (isMainThread && process.env['VL3_REKEYS'] !== undefined) {
  const tunnels: Tunnel[] = [];
  const open = Tunnel.open;
  Tunnel.open = (...args) => {
    const tunnel = open(...args);
    tunnels.push(tunnel);
    return tunnel;
  };
  process.on('SIGUSR2', () => {
    setTimeout(
      () => {
        for (const tunnel of tunnels) for (const peer of tunnel.peerIds) tunnel.initiate(peer);
      },
      500 - (Date.now() % 500),
    );
  });
}
