// A process that runs a datapath and ends in the way its argument says. Used by lifecycle.test.ts.

import { Datapath } from '../../../src/datapath/datapath.ts';
import { openTun } from '../../../src/datapath/tun.ts';

const way = process.argv[2];
const tun = openTun({ name: 'tun0', netns: undefined, allowOffloads: true });
const datapath = await Datapath.start(
  { port: 51820, pairs: 1 },
  { onEvent: () => {}, onDatagram: () => {}, onDeviceLost: () => {}, onFailure: () => {} },
);
datapath.addDevice('red', tun, 1420);
console.log('running');
setTimeout(() => {
  if (way === 'exit') process.exit(3);
  if (way === 'throw') throw new Error('on purpose');
  if (way === 'dispose') void datapath[Symbol.asyncDispose]();
}, 100);
