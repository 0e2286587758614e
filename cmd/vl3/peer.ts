// vl3 peer: stock WireGuard peers (a phone, a router) that this node takes in. Their private keys are made here, printed once and
// kept nowhere.

import { generateKeyPairSync } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import { LocalClient } from '../../src/agent/local-client.ts';
import type { LocalStockPeer, MadeStockPeer } from '../../src/agent/local-messages.ts';
import { collect } from './arguments.ts';
import type { CommandGroup, Context } from './context.ts';
import { formatAge, formatBytes, type OutputFormat, outputOption, print, printTable } from './output.ts';
import { socketOption } from './socket.ts';
import { wgQuickConfig } from './wg-quick.ts';

const KEEPALIVE_SECONDS = 25;
const MAX_KEEPALIVE_SECONDS = 65_535;

interface CreateOptions {
  network: string;
  publicKey?: string;
  endpoint?: string;
  address?: string[];
  keepalive: number;
  qr?: boolean;
  socket: string;
  output: OutputFormat;
}

interface OneOptions {
  network: string;
  socket: string;
  output: OutputFormat;
}

interface ListOptions {
  network?: string;
  socket: string;
  output: OutputFormat;
}

const parseKeepalive = (text: string): number => {
  const seconds = Number(text);
  if (/^\d{1,5}$/.test(text) && seconds <= MAX_KEEPALIVE_SECONDS) return seconds;
  throw new InvalidArgumentError(`write seconds from 0 (none) to ${MAX_KEEPALIVE_SECONDS}`);
};

const parseEndpoint = (text: string): string => {
  const port =
    /^(?:[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]):(?<port>\d{1,5})$/.exec(text)
      ?.groups?.['port'];
  if (port !== undefined && Number(port) >= 1 && Number(port) <= 65_535) return text;
  throw new InvalidArgumentError('write host:port, and an IPv6 address in brackets: [2001:db8::1]:51820');
};

/** In WireGuard's base64. */
const newKeys = (): { readonly privateKey: string; readonly publicKey: string } => {
  const { privateKey, publicKey } = generateKeyPairSync('x25519');
  const text = (value: string | undefined): string =>
    Buffer.from(value ?? '', 'base64url').toString('base64');
  return {
    privateKey: text(privateKey.export({ format: 'jwk' }).d),
    publicKey: text(publicKey.export({ format: 'jwk' }).x),
  };
};

const endpointOf = ({ node: { endpoints } }: MadeStockPeer, wanted: string | undefined): string => {
  if (wanted !== undefined) return wanted;
  const [first] = endpoints;
  if (first === undefined)
    throw new Vl3Error(
      'failed-precondition',
      'this node announces no address that it can be reached by: name one with --endpoint host:port',
    );
  return isIPv6(first.address) ? `[${first.address}]:${first.port}` : `${first.address}:${first.port}`;
};

const showQr = async (context: Context, config: string): Promise<void> => {
  const { renderUnicodeCompact } = await import('uqr');
  for (const line of renderUnicodeCompact(config, { border: 2 }).split('\n')) context.err(line);
};

const printPeers = (
  context: Context,
  format: OutputFormat,
  peers: readonly LocalStockPeer[],
): Promise<void> =>
  print(context, format, peers, () => {
    const now = Date.now();
    printTable(
      context,
      ['NAME', 'NETWORK', 'ADDRESSES', 'ENDPOINT', 'HANDSHAKE', 'RECEIVED', 'SENT', 'LAST MINUTE'],
      peers.map((one) => [
        one.name,
        one.network,
        one.pending === '' ? one.addresses.join(' ') : 'pending',
        one.endpoint || '-',
        formatAge(one.lastHandshakeAt, now),
        formatBytes(one.rxBytes),
        formatBytes(one.txBytes),
        `${formatBytes(Math.round(one.rxBytesPerSecond))}/s in, ${formatBytes(Math.round(one.txBytesPerSecond))}/s out`,
      ]),
    );
  });

export const peerCommands: CommandGroup = (program: Command, context: Context): void => {
  const peer = program
    .command('peer')
    .description('stock WireGuard peers, like a phone or a router, that this node takes in');

  peer
    .command('create <name>')
    .description("give a stock WireGuard peer addresses of this node's, and print its configuration")
    .requiredOption('--network <name>', 'the network')
    .option(
      '--public-key <key>',
      'its own, when it has one already (default: a key pair is made, printed once and kept nowhere)',
    )
    .option(
      '--endpoint <host:port>',
      'where it reaches this node (default: as this node announces itself)',
      parseEndpoint,
    )
    .option(
      '--address <address>',
      'this address; may be repeated, one of each family (default: any free one)',
      collect,
    )
    .option(
      '--keepalive <seconds>',
      'how often it speaks when it has nothing to say; 0: never',
      parseKeepalive,
      KEEPALIVE_SECONDS,
    )
    .addOption(
      new Option('--qr', 'show the configuration as a QR code on stderr, too (default: on a terminal)'),
    )
    .addOption(new Option('--no-qr', 'show none'))
    .addOption(socketOption(context))
    .addOption(outputOption())
    .addHelpText(
      'after',
      [
        '\nIts packets go by this node to the whole network, and only from the addresses that it is given. To whom the network',
        'admits it, and what it is called, is as for any workload. Run this where it can be reached from outside.',
        '\nExamples:\n  vl3 peer create phone --network red',
        '  vl3 peer create router --network red --endpoint vpn.example:51820 > router.conf',
        '  vl3 peer create laptop --network red --public-key "$(wg pubkey < private.key)" --no-qr',
      ].join('\n'),
    )
    .action(async (name: string, options: CreateOptions) => {
      const keys = options.publicKey === undefined ? newKeys() : undefined;
      const client = new LocalClient(options.socket);
      const made = await client.createStockPeer(
        {
          network: options.network,
          name,
          publicKey: keys?.publicKey ?? options.publicKey ?? '',
          ...(options.address === undefined ? {} : { addresses: options.address }),
        },
        context.signal,
      );
      const config = wgQuickConfig(made, {
        privateKey: keys?.privateKey,
        endpoint: endpointOf(made, options.endpoint),
        allowedIps: made.node.pools,
        keepaliveSeconds: options.keepalive,
      });
      const value = { ...made, ...(keys === undefined ? {} : { privateKey: keys.privateKey }), config };
      await print(context, options.output, value, () => context.out(config.trimEnd()));
      if (options.qr ?? process.stderr.isTTY) await showQr(context, config);
    });

  peer
    .command('list')
    .description('list them, with what they were heard to do')
    .option('--network <name>', 'only of this network')
    .addOption(socketOption(context))
    .addOption(outputOption())
    .addHelpText('after', '\nExamples:\n  vl3 peer list\n  vl3 peer list --network red -o json')
    .action(async ({ network, socket, output }: ListOptions) => {
      const client = new LocalClient(socket);
      const all = await client.stockPeers();
      const own = network?.includes('@') ? (await client.status({ probe: false })).trustDomain : '';
      await printPeers(
        context,
        output,
        all.filter(
          (one) => network === undefined || [one.network, `${one.network}@${own}`].includes(network),
        ),
      );
    });

  peer
    .command('remove <name>')
    .description('end its sessions at once and free its addresses (nothing happens when it is not there)')
    .requiredOption('--network <name>', 'the network')
    .addOption(socketOption(context))
    .addOption(outputOption())
    .addHelpText('after', '\nExamples:\n  vl3 peer remove phone --network red')
    .action(async (name: string, { network, socket, output }: OneOptions) => {
      const removed = await new LocalClient(socket).removeStockPeer({ network, name });
      if (removed === undefined && output === 'table')
        context.out(`there was no peer ${name} on ${network}: \`vl3 peer list\` shows those of this node`);
      else await printPeers(context, output, removed === undefined ? [] : [removed]);
    });
};
