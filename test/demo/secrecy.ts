// The proof that only ciphertext crosses the internet: everything that passes its router is recorded while a known text
// travels between pods, and the same text is looked for in a recording made inside, where it must be found.

import { Capture, type Packet } from '../lab/capture.ts';
import { httpRequest, marker } from './reachability.ts';
import { holds } from './report.ts';
import type { Pod, World } from './world.ts';

const TCP = 6;
const UDP = 17;
const ICMPV6 = 58;
const HOP_BY_HOP = 0;
const AGENT_PORT = 51820;
const REGISTRY_PORT = 7443;

export async function onlyCiphertext(world: World, client: Pod, server: Pod): Promise<string> {
  const { word, text } = marker();
  const outside = await Capture.start(world.internet.core, 'any');
  const inside = await Capture.start(client.host, 'red');
  await httpRequest(client, server, text);
  await client.host.run([
    'ping',
    '-q',
    '-c',
    '3',
    '-i',
    '0.2',
    '-s',
    '1000',
    '-p',
    word,
    server.v6.red ?? '',
  ]);
  const packets = await outside.stop();
  await inside.stop();

  const plain = inside.count(word);
  holds(plain > 0, 'the control recording, inside, does not hold the text: the proof proves nothing');
  holds(
    outside.count(word) === 0,
    `the text crossed the internet in the clear, ${outside.count(word)} times`,
  );
  const kinds = packets.map(kindOf);
  const count = (kind: string) => kinds.filter((one) => one === kind).length;
  holds(count('other') === 0, `${count('other')} packets are neither WireGuard's nor the registry's TLS`);
  holds(count('wireguard') > 0, 'no WireGuard packet was recorded');
  const tls = count('tls') > 0 ? `, ${count('tls')} of TLS` : '';
  return `${count('wireguard')} WireGuard packets${tls}; the text 0 times, inside ${plain} times`;
}

function kindOf({
  protocol,
  source,
  destination,
  payload,
}: Packet): 'wireguard' | 'tls' | 'neighbour' | 'other' {
  const to = (port: number) => source === port || destination === port;
  // A WireGuard message begins with its type, 1 to 4, as a little-endian u32.
  const [type = 0, ...reserved] = payload.subarray(0, 4);
  if (protocol === UDP && to(AGENT_PORT) && type >= 1 && type <= 4 && reserved.every((byte) => byte === 0))
    return 'wireguard';
  if (protocol === TCP && to(REGISTRY_PORT)) return 'tls';
  // ARP, and what IPv6 hosts tell their neighbours.
  if (protocol === undefined || protocol === ICMPV6 || protocol === HOP_BY_HOP) return 'neighbour';
  return 'other';
}
