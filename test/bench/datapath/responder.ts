// What handshakes cost the one who is called: whole ones from many peers, and forged ones from anybody.

import { setTimeout as sleep } from 'node:timers/promises';
import { inNamespace } from '../../../src/datapath/tun.ts';
import { closeUdp, openUdp } from '../../../src/datapath/udp.ts';
import { iperf3 } from '../../lab/iperf3.ts';
import type { KeyPair } from '../../lab/wireguard-go.ts';
import { benchProgram, numbersOf, type Probe, type Scene } from './probe.ts';
import { cpuSeconds } from './process-cost.ts';

/** Made ready for each second: more than any responder here answers. */
const MOST_PER_SECOND = 6000;

/** From `callers`, which the second site has as peers. */
export const handshakes = (callers: readonly KeyPair[]): Probe => ({
  name: 'handshakes',
  needs: ['wireguard'],
  rows: [
    { name: 'handshakes', unit: 'per s', better: 'more' },
    { name: 'handshakes-per-cpu', unit: 'per CPU s', better: 'more' },
  ],
  // Making them takes longer than answering them.
  takes: (seconds) => seconds * 6 + 2,
  run: async (scene, { seconds }) => {
    const { responder, outsider, pid } = called(scene);
    const before = cpuSeconds([pid]);
    const command = benchProgram(
      'handshakes.ts',
      outsider.target,
      responder.port,
      responder.publicKey,
      seconds,
      Math.ceil(seconds * MOST_PER_SECOND),
    );
    const input = callers.map(({ privateKey }) => `${privateKey}\n`).join('');
    const answer = await outsider.host.run(command, { input, timeoutMs: seconds * 10_000 + 60_000 });
    const spent = cpuSeconds([pid]) - before;
    const { answered = 0, wrong = 0, cookies = 0, lost = 0, seconds: took = 0 } = numbersOf(answer);
    const faults = wrong + cookies + lost;
    if (answered === 0 || wrong > 0 || faults > answered / 20)
      throw new Error(`${answered} answered, ${wrong} of them wrong, ${cookies} cookies, ${lost} lost`);
    return { handshakes: answered / took, 'handshakes-per-cpu': answered / spent };
  },
});

export type Flood = 'unread-port' | 'bad-mac1' | 'valid-mac1';

/** Of the rate that was asked for. A flood that is thinner has not been measured. */
const LEAST_RATE = 0.9;

/**
 * How much of its throughput is left to a stream while forged initiations come; before and after, none come. And what each costs
 * the one who is called while nothing else happens.
 */
export const floodOf = (kind: Flood): Probe => {
  const name = `flood-${kind}-kept`;
  const cost = `flood-${kind}-cost`;
  return {
    name: `flood-${kind}`,
    needs: ['wireguard'],
    rows: [
      { name, unit: '%', better: 'more' },
      { name: cost, unit: 'CPU us each', better: 'less' },
    ],
    takes: (seconds) => seconds * 4 + 3,
    run: async (scene, { seconds, floodRate }) => {
      const { responder, outsider, pid } = called(scene);
      const [a, b] = scene.sites;
      // Taken by a socket that nobody reads: what the kernel alone makes of the same packets.
      const unread = inNamespace(b.host.netns, () => openUdp({ port: 0, allowOffloads: false }));
      const port = kind === 'unread-port' ? unread.port : responder.port;
      const macs = kind === 'bad-mac1' ? 'bad-mac1' : 'valid-mac1';
      const key = responder.publicKey;
      const most = seconds * 4 + 30;
      const stream = async (): Promise<number> =>
        (await iperf3(a.end, b.end, b.inside.v4, { seconds })).bitsPerSecond;
      try {
        const before = await stream();
        const forger = outsider.host.start(
          benchProgram('initiation-flood.ts', outsider.target, port, macs, key, floodRate, most),
        );
        let during = 0;
        let each = 0;
        try {
          await forger.printed(/sent [1-9]/);
          during = await stream();
          const [spent, sent] = [cpuSeconds([pid]), told(forger.output()).sent];
          await sleep(seconds * 1000);
          each = (cpuSeconds([pid]) - spent) / (told(forger.output()).sent - sent);
        } finally {
          await forger.stop();
        }
        const { sent, took } = told(forger.output());
        const rate = sent / took;
        if (rate < floodRate * LEAST_RATE)
          throw new Error(
            `only ${rate.toFixed(0)} of ${floodRate} forged initiations a second could be sent: try --flood-rate`,
          );
        const after = await stream();
        return { [name]: (during / ((before + after) / 2)) * 100, [cost]: each * 1e6 };
      } finally {
        closeUdp(unread);
      }
    },
  };
};

/** The last that it told. */
const told = (output: string): { sent: number; took: number } => {
  const [, sent = 0, took = 1] = [...output.matchAll(/sent (\d+) in ([\d.]+) s/g)].at(-1) ?? [];
  return { sent: Number(sent), took: Number(took) };
};

const called = ({ running, outsider }: Scene) => {
  const { responder, pids } = running;
  const pid = pids.at(-1);
  if (responder === undefined || outsider === undefined || pid === undefined)
    throw new Error('nobody can be called here');
  return { responder, outsider, pid };
};
