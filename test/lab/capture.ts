// What passes an interface, recorded by tcpdump and looked at as bytes and as packets.
// Reads the pcap file format with link type LINUX_SLL2 (tcpdump -i any) or Ethernet.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Daemon } from './daemon.ts';
import type { Host } from './host.ts';

export interface Packet {
  /** IP protocol number; undefined for what is not IP. */
  protocol: number | undefined;
  source: number;
  destination: number;
  /** What follows the UDP or TCP header, as far as the packet goes. */
  payload: Uint8Array;
}

const SLL2 = { linkType: 276, header: 20, protocolAt: 0 };
const ETHERNET = { linkType: 1, header: 14, protocolAt: 12 };
/** Past this it is not slow but counts otherwise than thought. */
const MOST_QUESTIONS = 100;
const UDP = 17;
const TCP = 6;

export class Capture {
  readonly file: string;
  readonly #tcpdump: Daemon;

  private constructor(file: string, tcpdump: Daemon) {
    this.file = file;
    this.#tcpdump = tcpdump;
  }

  /** Starts recording `iface` (`any`: all of them) in `host`; resolves once it records. */
  static async start(host: Host, iface: string, filter: readonly string[] = []): Promise<Capture> {
    const file = join(
      host.ledger.scratch,
      `${host.name}-${iface}-${Math.random().toString(36).slice(2, 8)}.pcap`,
    );
    const options = ['-n', '-U', '--immediate-mode', '-B', '16384', '-s', '262144', '-Z', 'root'];
    const tcpdump = host.start(['tcpdump', '-i', iface, ...options, '-w', file, ...filter]);
    await tcpdump.printed(/listening on/);
    return new Capture(file, tcpdump);
  }

  /** Ends the recording and returns the packets; losing one to a full buffer is an error. */
  async stop(): Promise<Packet[]> {
    await this.#drained();
    await this.#tcpdump.stop('SIGINT');
    const dropped = /(\d+) packets? dropped by kernel/.exec(this.#tcpdump.output());
    if (dropped?.[1] !== '0') throw new Error(`tcpdump lost packets: ${this.#tcpdump.output()}`);
    return parse(readFileSync(this.file));
  }

  /** Waits until what has passed is written: at its end tcpdump forgets what it has not read. */
  async #drained(): Promise<void> {
    const count = /tcpdump: (\d+) packets? captured, (\d+) packets? received by filter/g;
    for (let asked = 1; ; asked += 1) {
      // Asked so, it says how far it is and goes on.
      process.kill(this.#tcpdump.pid, 'SIGUSR1');
      await this.#tcpdump.printed(new RegExp(`(${count.source}[^]*){${asked}}`));
      const [, captured, received] = [...this.#tcpdump.output().matchAll(count)].at(-1) ?? [];
      if (captured === received || asked === MOST_QUESTIONS) return;
      await sleep(50);
    }
  }

  /** How often `needle` occurs in the bytes recorded. */
  count(needle: string): number {
    const bytes = readFileSync(this.file);
    let found = 0;
    for (let at = bytes.indexOf(needle); at >= 0; at = bytes.indexOf(needle, at + 1)) found += 1;
    return found;
  }
}

function parse(file: Buffer): Packet[] {
  const linkType = file.readUInt32LE(20);
  const link = [SLL2, ETHERNET].find((l) => l.linkType === linkType);
  if (!link) throw new Error(`tcpdump recorded link type ${linkType}`);
  const packets = [];
  let at = 24;
  while (at + 16 <= file.length) {
    const length = file.readUInt32LE(at + 8);
    const frame = file.subarray(at + 16, at + 16 + length);
    packets.push(parseIp(frame.subarray(link.header), frame.readUInt16BE(link.protocolAt)));
    at += 16 + length;
  }
  return packets;
}

function parseIp(ip: Buffer, etherType: number): Packet {
  if (etherType === 0x0800) return parseTransport(ip.subarray(((ip[0] ?? 0) & 0xf) * 4), ip[9]);
  if (etherType === 0x86dd) return parseTransport(ip.subarray(40), ip[6]);
  return { protocol: undefined, source: 0, destination: 0, payload: new Uint8Array() };
}

function parseTransport(segment: Buffer, protocol: number | undefined): Packet {
  if ((protocol !== UDP && protocol !== TCP) || segment.length < (protocol === UDP ? 8 : 20))
    return { protocol, source: 0, destination: 0, payload: segment };
  const header = protocol === UDP ? 8 : ((segment[12] ?? 0) >> 4) * 4;
  return {
    protocol,
    source: segment.readUInt16BE(0),
    destination: segment.readUInt16BE(2),
    payload: segment.subarray(header),
  };
}
