// More packets in one batch than the coalescer has room for. Today's Linux hands over at most 128 datagrams in one
// message, even to one that writes super-packets into a TUN; older kernels and other drivers may not be so strict.

import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import { buildAllowedIpsTable } from '../../../native-free/device/allowed-ips-table.ts';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { createAead } from '../../../src/datapath/aead.ts';
import {
  Counters,
  createCounterMemory,
  INGRESS_COUNTERS,
  readCounts,
} from '../../../src/datapath/counters.ts';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { createHandOver } from '../../../src/datapath/hand-over.ts';
import { Ingress, socketsOfIngress } from '../../../src/datapath/ingress.ts';
import { KeypairSlots } from '../../../src/datapath/keypair-slots.ts';
import { Poller } from '../../../src/datapath/poller.ts';
import { createRing, Ring } from '../../../src/datapath/ring.ts';
import { createSharedMemory, SharedState } from '../../../src/datapath/shared-state.ts';
import { type Configuration, DATAGRAM_LENGTH, EVENT_LENGTH } from '../../../src/datapath/worker-protocol.ts';
import { Arena } from '../../../src/ffi/memory.ts';
import { packet, seal } from './eve.ts';
import { keypairs } from './tunnel.ts';

const PACKET = 20;
const MESSAGE = 16 + PACKET + 16;
/** As many as fit into one message of 64 KB. */
const MESSAGES = 1260;
const DEVICE = 0;
const PEER = 0;
const VNET_HEADER = 10;

test('the packets beyond it are written too, all in order', () => {
  const directory = mkdtempSync(join(tmpdir(), 'vl3t-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'tun');
  const fd = openSync(file, 'w');
  const arena = new Arena(Ingress.ARENA + (128 << 10));
  const { port1, port2 } = new MessageChannel();
  const counts = createCounterMemory(INGRESS_COUNTERS);
  const memory = createSharedMemory(1, 4);
  const state = new SharedState(memory);
  const udp = { port: 0, v4: -1, v6: -1, offloads: { segmentation: true, coalescing: true } };
  const ingress = new Ingress({
    pair: 0,
    handOver: createHandOver([-1]),
    arena,
    aead: createAead(arena),
    state,
    counters: new Counters(INGRESS_COUNTERS, counts),
    udp,
    poller: new Poller(arena, -1, 0, socketsOfIngress(udp)),
    events: new EventSink(createRing(EVENT_LENGTH, 4), port2),
    datagrams: new Ring(createRing(DATAGRAM_LENGTH, 4)),
    port: port2,
  });
  const allowedIps = buildAllowedIpsTable([{ prefix: parsePrefix('10.0.0.1/32'), value: PEER }]);
  const changes: Configuration[] = [
    { sequence: 1, change: { kind: 'add-device', device: DEVICE, fds: [fd], mtu: 1420, offload: 'tcp+udp' } },
    { sequence: 2, change: { kind: 'set-allowed-ips', device: DEVICE, allowedIps } },
  ];
  for (const change of changes) port1.postMessage(change);
  const [far, near] = keypairs();
  state.initPeer(PEER, DEVICE);
  new KeypairSlots(state).install(PEER, near);
  ingress.configure();

  const packets = Array.from({ length: MESSAGES }, (_, i) => {
    const bytes = packet('10.0.0.1', '10.0.0.2', PACKET);
    // The identification tells one from the other; nobody looks at the header's checksum here.
    new DataView(bytes.buffer).setUint16(4, i);
    return bytes;
  });
  ingress.inject(Buffer.concat(packets.map((bytes, i) => seal(far, i, bytes))), MESSAGE);
  port1.close();
  closeSync(fd);
  arena.unmap();

  expect(readCounts(INGRESS_COUNTERS, counts)).toMatchObject({ packets: MESSAGES, writes: MESSAGES });
  const plain = Buffer.alloc(VNET_HEADER);
  expect(readFileSync(file)).toEqual(Buffer.concat(packets.flatMap((bytes) => [plain, bytes])));
});
