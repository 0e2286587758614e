// nebula between two hosts: its own certificates, its own configuration, one address a host. It carries IPv4 inside only, and
// has no notion of a TUN elsewhere than its socket: it is measured on the bare device.

import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab } from '../../lab/lab.ts';
import type { Running, SetUp } from './contenders.ts';
import { MTU, type Site, type Sites } from './topology.ts';

const PORT = 4242;
const MOST_PINGS = 200;
let made = 0;

/** `program`: its nebula-cert is beside it. */
export const startNebula = async (
  lab: Lab,
  program: string,
  [a, b]: Sites,
  { outside }: SetUp,
): Promise<Running> => {
  const cert = join(dirname(program), 'nebula-cert');
  made += 1;
  const directory = join(lab.scratch, `nebula-${made}`);
  await lab.run(['mkdir', '-p', directory]);
  const at = (name: string): string => join(directory, name);
  await lab.run([cert, 'ca', '-name', 'bench', '-out-crt', at('ca.crt'), '-out-key', at('ca.key')]);
  const start = async (from: Site, to: Site, n: number) => {
    const ca = ['-ca-crt', at('ca.crt'), '-ca-key', at('ca.key')];
    const out = ['-out-crt', at(`${n}.crt`), '-out-key', at(`${n}.key`)];
    await lab.run([cert, 'sign', '-name', `h${n}`, '-ip', `${from.inside.v4}/16`, ...ca, ...out]);
    const endpoint = to.outside[outside];
    const host = endpoint.includes(':') ? `[${endpoint}]` : endpoint;
    writeFileSync(
      at(`${n}.yml`),
      `pki: { ca: ${at('ca.crt')}, cert: ${at(`${n}.crt`)}, key: ${at(`${n}.key`)} }
static_host_map: { "${to.inside.v4}": ["${host}:${PORT}"] }
lighthouse: { am_lighthouse: false, hosts: [] }
listen: { host: "${outside === 'v6' ? '::' : '0.0.0.0'}", port: ${PORT}, batch: 64, read_buffer: 10485760, write_buffer: 10485760 }
tun: { dev: neb${n}, mtu: ${MTU}, tx_queue: 1000 }
cipher: chachapoly
logging: { level: error }
firewall:
  outbound: [{ port: any, proto: any, host: any }]
  inbound: [{ port: any, proto: any, host: any }]
`,
    );
    return from.host.start([program, '-config', at(`${n}.yml`)]);
  };
  const daemons = [await start(a, b, 1), await start(b, a, 2)];
  const stop = async (): Promise<void> => {
    for (const daemon of daemons) await daemon.stop();
  };
  for (let i = 0; (await a.host.tryRun(['ping', '-c', '1', '-W', '1', b.inside.v4])).code !== 0; i++) {
    if (i === MOST_PINGS) {
      await stop();
      throw new Error(`nebula did not connect:\n${daemons.map((daemon) => daemon.output()).join('\n')}`);
    }
    await sleep(20);
  }
  return { pids: daemons.map(({ pid }) => pid), stop };
};
