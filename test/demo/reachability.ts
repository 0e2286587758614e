// Proofs that the network is one: everything on it reaches everything else on it, by address, without translation.

import { randomBytes } from 'node:crypto';
import { iperf3 } from '../lab/iperf3.ts';
import { ping } from '../lab/ping.ts';
import { median } from '../lab/spread.ts';
import { forEach, holds } from './report.ts';
import type { NetworkName, Pod, World } from './world.ts';

/** Every pod of the network pings every other. */
export async function pingMatrix(world: World, network: NetworkName, family: 'v4' | 'v6'): Promise<string> {
  const pods = world.on(network);
  const pairs = pods.flatMap((from) => pods.filter((to) => to !== from).map((to) => ({ from, to })));
  const answers = await forEach(pairs, 8, async ({ from, to }) => {
    const result = await ping(from.host, to[family][network] ?? '', { wait: 5 });
    return { from, to, rttMs: result.received === 1 ? (result.rttMs ?? 0) : undefined };
  });
  const silent = answers.filter(({ rttMs }) => rttMs === undefined);
  holds(
    silent.length === 0,
    `no answer: ${silent.map(({ from, to }) => `${from.name} to ${to.name}`).join(', ')}`,
  );
  const middle = median(answers.map(({ rttMs }) => rttMs ?? 0));
  return `${pairs.length} of ${pairs.length} pairs answer, median ${middle.toFixed(1)} ms`;
}

/** What is longer than the tunnel's MTU goes through in fragments. */
export async function bigPing(from: Pod, to: Pod): Promise<string> {
  for (const address of [to.v4.red, to.v6.red]) {
    const result = await ping(from.host, address ?? '', { size: 4000, count: 2, wait: 5 });
    holds(
      result.received === 2,
      `${from.name} to ${to.name} at ${address}: ${result.received} of 2 came back`,
    );
  }
  return '';
}

/** A server in one cloud, a client in another: plain HTTP, with a body nobody can guess. */
export async function httpRequest(client: Pod, server: Pod, body: string): Promise<string> {
  const address = server.v4.red ?? '';
  const program = `
    const { createServer } = require('node:http');
    createServer((request, response) => response.end(request.socket.remoteAddress + ' ' + process.argv[1]))
      .listen(8080, '${address}', () => console.log('listening'));`;
  const daemon = server.host.start([process.execPath, '--eval', program, '--', body]);
  try {
    await daemon.printed(/listening/);
    const url = `http://${address}:8080/${body}`;
    const answer = await client.host.run(['curl', '--silent', '--show-error', '--max-time', '10', url]);
    holds(answer === `${client.v4.red} ${body}`, `the server answered: ${answer.slice(0, 200)}`);
  } finally {
    await daemon.stop();
  }
  return `${client.name} asked ${server.name}, who saw ${client.v4.red} itself`;
}

/** A second of iperf3 over each pair of clouds. */
export async function streams(pairs: readonly [Pod, Pod][]): Promise<string> {
  const speeds = [];
  for (const [from, to] of pairs) {
    const { bitsPerSecond } = await iperf3(from.host, to.host, to.v4.red ?? '', { seconds: 1 });
    holds(bitsPerSecond > 0, `nothing arrived from ${from.name} at ${to.name}`);
    speeds.push(`${from.name} to ${to.name} ${(bitsPerSecond / 1e9).toFixed(2)}`);
  }
  return `${speeds.join(', ')} Gbit/s`;
}

/** Text that occurs nowhere else, repeated so that any piece of a packet holds it whole. */
export function marker(): { word: string; text: string } {
  const word = randomBytes(8).toString('hex');
  return { word, text: word.repeat(64) };
}
