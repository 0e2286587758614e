// The datapath against Debian's wireguard-go on one topology, alternating: pod, router namespace, host, cable, host,
// router namespace, pod. Prints per repetition and the medians; compare only inside one run.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Daemon } from '../lab/daemon.ts';
import type { Host } from '../lab/host.ts';
import { iperf3 } from '../lab/iperf3.ts';
import { Lab } from '../lab/lab.ts';
import { MARK } from '../lab/ledger.ts';
import { machineTime, stolenShare } from '../lab/machine-time.ts';
import { ping } from '../lab/ping.ts';
import { processesMarked } from '../lab/processes.ts';
import { median } from '../lab/spread.ts';
import { WireguardGo, wireguardKeys } from '../lab/wireguard-go.ts';
import type { TunnelEndConfig } from './tunnel-end.ts';

const MTU = 1420;
const TUNNEL_END = fileURLToPath(new URL('./tunnel-end.ts', import.meta.url));

interface Site {
  readonly host: Host;
  readonly router: Host;
  readonly pod: Host;
  readonly outside: string;
  readonly inside: string;
  readonly prefix: string;
  readonly gateway: string;
}

type Side = 'vl3' | 'wireguard-go';

/** Both; ONLY names one, to profile it. */
const SIDES = (['vl3', 'wireguard-go'] as const).filter((side) => (process.env['ONLY'] ?? side) === side);

interface Tunnel {
  /** Process ids whose CPU time is the tunnel's. */
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

interface Sample {
  readonly tcp1: number;
  readonly tcp4: number;
  readonly rttUnderLoad: number;
  readonly rttIdle: number;
  readonly udpLoss: number;
  readonly cpuPerGb: number;
  readonly rssMb: number;
  readonly steal: number;
}

export const benchDatapath = async (repetitions: number, seconds: number): Promise<void> => {
  await using lab = Lab.create();
  const [a, b] = await sites(lab);
  const samples: Record<Side, Sample[]> = { vl3: [], 'wireguard-go': [] };
  for (let i = 0; i < repetitions; i++) {
    for (const side of SIDES) {
      const tunnel = side === 'vl3' ? await startVl3(a, b) : await startWireguardGo(lab, a, b);
      try {
        const sample = await measure(a, b, tunnel, seconds);
        samples[side].push(sample);
        print(side, sample);
      } finally {
        await tunnel.stop();
      }
    }
  }
  for (const side of SIDES) print(`${side}, median`, medians(samples[side]));
};

/** Two hosts on a cable, each with a router namespace and a pod behind it. */
const sites = async (lab: Lab): Promise<[Site, Site]> => {
  const site = async (n: number): Promise<Site> => {
    const host = await lab.host(`host${n}`);
    const router = await lab.host(`router${n}`, { forward: true });
    const pod = await lab.host(`pod${n}`);
    await lab.cable(
      { host: pod, interface: 'eth0', addresses: [`10.0.${n}.2/24`] },
      { host: router, interface: 'pod', addresses: [`10.0.${n}.1/24`] },
      { mtu: MTU },
    );
    await pod.ip(`route add default via 10.0.${n}.1`);
    return {
      host,
      router,
      pod,
      outside: `192.0.2.${n}`,
      inside: `10.0.${n}.2`,
      prefix: `10.0.${n}.0/24`,
      gateway: `10.0.${n}.1`,
    };
  };
  const a = await site(1);
  const b = await site(2);
  await lab.cable(
    { host: a.host, interface: 'eth0', addresses: [`${a.outside}/24`] },
    { host: b.host, interface: 'eth0', addresses: [`${b.outside}/24`] },
  );
  return [a, b];
};

const startVl3 = async (a: Site, b: Site): Promise<Tunnel> => {
  const keys = [randomBytes(32).toString('hex'), randomBytes(32).toString('hex')] as const;
  const end = async (from: Site, to: Site, n: 0 | 1): Promise<Daemon> => {
    const config: TunnelEndConfig = {
      port: 51820,
      tun: 'tun0',
      netns: from.router.netns,
      mtu: MTU,
      allowedIps: [to.prefix],
      endpoint: { address: to.outside, port: 51820 },
      localIndex: 1000 + n,
      remoteIndex: 1001 - n,
      sendKey: keys[n],
      receiveKey: keys[n === 0 ? 1 : 0],
    };
    const options = (process.env['TUNNEL_NODE_OPTIONS'] ?? '').split(' ').filter((o) => o !== '');
    const daemon = from.host.start([process.execPath, ...options, TUNNEL_END, JSON.stringify(config)]);
    await daemon.printed(/ready/);
    await from.router.ip(`link set tun0 mtu ${MTU} up`, `route replace ${to.prefix} dev tun0`);
    return daemon;
  };
  const daemons = [await end(a, b, 0), await end(b, a, 1)];
  return {
    pids: daemons.map((daemon) => daemon.pid),
    stop: async () => {
      for (const daemon of daemons) {
        await daemon.stop('SIGTERM');
        if (process.env['VERBOSE']) console.log(daemon.output().trim());
      }
    },
  };
};

const startWireguardGo = async (lab: Lab, a: Site, b: Site): Promise<Tunnel> => {
  const ofA = wireguardKeys();
  const ofB = wireguardKeys();
  const start = (from: Site, to: Site, keys: typeof ofA, peer: typeof ofA): Promise<WireguardGo> =>
    WireguardGo.start(lab, from.host, {
      keys,
      listenPort: 51820,
      addresses: [],
      tunIn: from.router,
      mtu: MTU,
      peers: [{ publicKey: peer.publicKey, allowedIps: [to.prefix], endpoint: `${to.outside}:51820` }],
    });
  const daemons = [await start(a, b, ofA, ofB), await start(b, a, ofB, ofA)];
  return {
    pids: processesMarked(`${MARK}=${lab.name}`).filter((pid) => nameOf(pid) === 'wireguard-go'),
    stop: async () => {
      for (const daemon of daemons) await daemon.stop();
    },
  };
};

const measure = async (a: Site, b: Site, tunnel: Tunnel, seconds: number): Promise<Sample> => {
  const stealBefore = machineTime();
  await ping(a.pod, b.inside, { count: 5, interval: 0.01 });
  const idle = await ping(a.pod, b.inside, { count: 50, interval: 0.01 });
  await iperf3(a.pod, b.pod, b.inside, { seconds: 1 });
  const cpuBefore = cpuSeconds(tunnel.pids);
  const [tcp1, underLoad] = await Promise.all([
    iperf3(a.pod, b.pod, b.inside, { seconds }),
    ping(a.pod, b.inside, { count: seconds * 40, interval: 0.02 }),
  ]);
  const cpuAfter = cpuSeconds(tunnel.pids);
  const tcp4 = await iperf3(a.pod, b.pod, b.inside, { seconds, streams: 4 });
  const udp = await iperf3(a.pod, b.pod, b.inside, {
    seconds,
    udp: { bitsPerSecond: 80e6, payload: 100 },
  });
  const stealAfter = machineTime();
  return {
    tcp1: tcp1.bitsPerSecond / 1e6,
    tcp4: tcp4.bitsPerSecond / 1e6,
    rttUnderLoad: underLoad.rttMs ?? Number.NaN,
    rttIdle: idle.rttMs ?? Number.NaN,
    udpLoss: udp.lostPercent,
    cpuPerGb: (cpuAfter - cpuBefore) / (tcp1.bytes / 1e9),
    rssMb: Math.max(...tunnel.pids.map(rssMb)),
    steal: 100 * stolenShare(stealBefore, stealAfter),
  };
};

const nameOf = (pid: number): string => readFileSync(`/proc/${pid}/comm`, 'latin1').trim();

const TICKS_PER_SECOND = 100;

/** User and system time, proc(5) fields 14 and 15. */
const cpuSeconds = (pids: readonly number[]): number => {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / TICKS_PER_SECOND;
};

const rssMb = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024;

const print = (name: string, sample: Sample): void => {
  const { tcp1, tcp4, rttUnderLoad, rttIdle, udpLoss, cpuPerGb, rssMb, steal } = sample;
  console.log(
    `${name.padEnd(22)} TCP x1 ${tcp1.toFixed(0).padStart(5)}  x4 ${tcp4.toFixed(0).padStart(5)} Mbit/s  ` +
      `RTT idle ${rttIdle.toFixed(2)}  loaded ${rttUnderLoad.toFixed(2)} ms  ` +
      `UDP 100 B x 100 k/s loss ${udpLoss.toFixed(2)} %  CPU ${cpuPerGb.toFixed(2)} s/GB  ` +
      `RSS ${rssMb.toFixed(0)} MB  steal ${steal.toFixed(1)} %  (${cpus().length} cores)`,
  );
};

const medians = (samples: readonly Sample[]): Sample => {
  const of = (pick: (sample: Sample) => number): number => median(samples.map(pick));
  return {
    tcp1: of((s) => s.tcp1),
    tcp4: of((s) => s.tcp4),
    rttUnderLoad: of((s) => s.rttUnderLoad),
    rttIdle: of((s) => s.rttIdle),
    udpLoss: of((s) => s.udpLoss),
    cpuPerGb: of((s) => s.cpuPerGb),
    rssMb: of((s) => s.rssMb),
    steal: of((s) => s.steal),
  };
};
