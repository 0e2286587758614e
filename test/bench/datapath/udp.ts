// What UDP gets through a tunnel: how much of a fixed rate of small packets, how many when they come without mercy, and how many
// bytes by the size of the packets. iperf3's sockets hold as much as the machine allows: by default they hold 2 ms of small
// packets, and what they lose while iperf3 waits for a processor, no tunnel has lost (nor delivered: the cable shows as
// much).

import { readFileSync } from 'node:fs';
import { iperf3 } from '../../lab/iperf3.ts';
import { benchProgram, numbersOf, type Probe } from './probe.ts';

const MEGA = 1e6;
const FAST_PORT = 7008;
/** Bytes: 40 ms of 100 000 small packets a second. */
const SOCKET_BUFFER = 4 << 20;

/** iperf3 refuses to start with less than it was told. */
const socketBuffer = (): number =>
  Math.min(
    SOCKET_BUFFER,
    ...['rmem_max', 'wmem_max'].map((name) => Number(readFileSync(`/proc/sys/net/core/${name}`, 'utf8'))),
  );
const buffered = (): readonly string[] => ['--window', `${socketBuffer()}`];

/** How much of `packets` a second arrives; and how many a second were sent, which a sender may not manage. */
export const udpAtRate = (name: string, payload: number, packets: number): Probe => ({
  name,
  rows: [
    { name, unit: '% delivered', better: 'more' },
    { name: `${name}-sent`, unit: 'packets/s', better: 'more' },
  ],
  takes: (seconds) => seconds + 0.6,
  run: async ({ sites: [a, b] }, { seconds }) => {
    const udp = { bitsPerSecond: packets * payload * 8, payload };
    const { bytes, packetsSent } = await iperf3(a.end, b.end, b.inside.v4, {
      seconds,
      udp,
      options: buffered(),
    });
    if (packetsSent === 0) throw new Error('nothing was sent');
    return {
      [name]: (bytes / payload / packetsSent) * 100,
      [`${name}-sent`]: packetsSent / seconds,
    };
  },
});

/** As much as iperf3 can send, packet by packet. */
export const udpFlood = (name: string, payload: number, unit: 'packets/s' | 'Mbit/s'): Probe => ({
  name,
  rows: [{ name, unit, better: 'more' }],
  takes: (seconds) => seconds + 0.6,
  run: async ({ sites: [a, b] }, { seconds }) => {
    const udp = { bitsPerSecond: 0, payload };
    const { bytes } = await iperf3(a.end, b.end, b.inside.v4, { seconds, udp, options: buffered() });
    return { [name]: unit === 'Mbit/s' ? (bytes * 8) / MEGA / seconds : bytes / payload / seconds };
  },
});

/** As much as an application can send that leaves the cutting to the kernel (UDP_SEGMENT). */
export const udpSegmented = (name: string, payload: number): Probe => ({
  name,
  rows: [{ name, unit: 'Mbit/s', better: 'more' }],
  takes: (seconds) => seconds + 1.5,
  run: async ({ sites: [a, b] }, { seconds }) => {
    const receiver = b.end.start(benchProgram('udp-stream.ts', 'receive', FAST_PORT));
    try {
      await receiver.printed(/listening/);
      const send = benchProgram('udp-stream.ts', 'send', b.inside.v4, FAST_PORT, payload, seconds);
      await a.end.run(send, { timeoutMs: seconds * 1000 + 30_000 });
      const [answer = ''] = await receiver.printed(/\{.*\}/, 20_000);
      const { bytes = 0 } = numbersOf(answer);
      return { [name]: (bytes * 8) / MEGA / seconds };
    } finally {
      await receiver.stop();
    }
  },
});
