// Loaded before an agent (node --import): on SIGUSR2 it initiates a handshake with every peer of every network, at the next
// full half second of the clock, so that agents told one after the other do it at the same instant.

import { isMainThread } from 'node:worker_threads';
import { NetworkDevice } from '../../src/agent/network-device.ts';

if (isMainThread && process.env['VL3_REKEYS'] !== undefined) {
  const devices: NetworkDevice[] = [];
  const open = NetworkDevice.open;
  NetworkDevice.open = (...args) => {
    const device = open(...args);
    devices.push(device);
    return device;
  };
  process.on('SIGUSR2', () => {
    setTimeout(
      () => {
        for (const device of devices) for (const peer of device.peerIds) device.initiate(peer);
      },
      500 - (Date.now() % 500),
    );
  });
}
