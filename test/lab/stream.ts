// A TCP stream between two pods that goes on until it is closed: 60 kB each 20 ms, every byte checked where
// it arrives. It knows how much came and how long the longest silence was.

import type { Daemon } from './daemon.ts';
import type { Pod } from './pod.ts';

let port = 9000;

/** Byte n of the stream is n modulo 251, which no packet size divides. */
const PATTERN =
  'const pattern = Buffer.alloc(251 * 1024, Buffer.from(Array.from({ length: 251 }, (_, i) => i)));';

/** Shorter silences are not told one by one. */
const SILENCE_MS = 100;

const RECEIVER = `${PATTERN}
  const [address, port] = process.argv.slice(1);
  let received = 0, longest = 0, last, wrong = 0;
  require('node:net').createServer((socket) => {
    console.log('connected');
    socket.on('data', (chunk) => {
      for (let at = 0; at < chunk.length; at++) if (chunk[at] !== (received + at) % 251) wrong++;
      received += chunk.length;
      const now = performance.now();
      if (last !== undefined) longest = Math.max(longest, now - last);
      if (last !== undefined && now - last > ${SILENCE_MS}) console.log('silent ' + (now - last).toFixed(0));
      last = now;
    });
    socket.on('error', (error) => console.log('broken ' + error.message));
    socket.on('close', () => console.log('closed'));
  }).listen(Number(port), address, () => console.log('listening'));
  setInterval(() => console.log('received ' + received + ' wrong ' + wrong + ' longest ' + longest.toFixed(0)), 100);`;

const SENDER = `${PATTERN}
  const [address, port] = process.argv.slice(1);
  let sent = 0;
  const socket = require('node:net').connect(Number(port), address, () => {
    setInterval(() => {
      // What does not leave waits in the kernel and here, but not without bound.
      if (socket.writableLength > 1 << 20) return;
      const length = 60000;
      socket.write(pattern.subarray(sent % 251, (sent % 251) + length));
      sent += length;
    }, 20);
  });
  socket.on('error', (error) => { console.log('broken ' + error.message); process.exit(1); });`;

export interface Progress {
  bytes: number;
  /** Bytes that were not what was sent. */
  wrong: number;
  /** The longest time in which nothing came, ms. */
  longestSilenceMs: number;
}

export class Stream {
  readonly #receiver: Daemon;
  readonly #sender: Daemon;

  private constructor(receiver: Daemon, sender: Daemon) {
    this.#receiver = receiver;
    this.#sender = sender;
  }

  /** Opens a stream to `address`, one of the receiving pod's. */
  static async open(from: Pick<Pod, 'host'>, to: Pick<Pod, 'host'>, address: string): Promise<Stream> {
    // Its own, though several are opened at once.
    const own = ++port;
    const node = (script: string) => [process.execPath, '--eval', script, '--', address, `${own}`];
    const receiver = to.host.start(node(RECEIVER));
    await receiver.printed(/listening/);
    const sender = from.host.start(node(SENDER));
    await receiver.printed(/received [1-9]/, 20_000);
    return new Stream(receiver, sender);
  }

  /** Throws when the stream broke. */
  get progress(): Progress {
    const output = this.#receiver.output();
    const ended = /broken.*|closed/.exec(output) ?? /broken.*/.exec(this.#sender.output());
    if (ended || !this.#sender.running) throw new Error(`the stream ended: ${ended?.[0]}`);
    const [, bytes, wrong, longest] =
      [...output.matchAll(/received (\d+) wrong (\d+) longest (\d+)\n/g)].at(-1) ?? [];
    return { bytes: Number(bytes), wrong: Number(wrong), longestSilenceMs: Number(longest) };
  }

  /** Every silence that has ended and was longer than 100 ms, in order, ms. */
  get silences(): number[] {
    return [...this.#receiver.output().matchAll(/^silent (\d+)$/gm)].map(([, ms]) => Number(ms));
  }

  async close(): Promise<void> {
    await this.#sender.stop();
    await this.#receiver.stop();
  }
}
