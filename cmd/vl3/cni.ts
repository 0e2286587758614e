// vl3 cni: puts the CNI plugin onto a node, keeps it there, takes it off.

import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import type { CommandGroup, Context } from './context.ts';

/** Beside this program, where the build puts it. */
const BUILT_PLUGIN = resolve(import.meta.dirname, '../vl3-cni/vl3-cni.cjs');

interface PlaceOptions {
  netDir: string;
  binDir: string;
}

interface InstallOptions extends PlaceOptions {
  hostBinDir?: string;
  plugin?: string;
  node?: string;
  socket?: string;
  watch?: true;
}

const withPlace = (command: Command): Command =>
  command
    .option('--net-dir <directory>', "the runtime's CNI configuration", '/etc/cni/net.d')
    .option('--bin-dir <directory>', "the runtime's CNI plugins", '/opt/cni/bin');

/** What runs the plugin, as the node sees it, and what is brought for that. A Node of the machine's may be replaced or go. */
const nodeOf = ({
  node,
  binDir,
  hostBinDir,
}: InstallOptions): { node: string; copyNode: string | undefined } =>
  node === undefined
    ? { node: join(resolve(hostBinDir ?? binDir), 'vl3-node'), copyNode: process.execPath }
    : { node, copyNode: undefined };

export const cniCommands: CommandGroup = (program: Command, context: Context): void => {
  const cni = program
    .command('cni')
    .description('the CNI plugin, for pods that need their networks before they start');

  withPlace(cni.command('install'))
    .description("put the plugin on this node, and one entry for it into the cluster's CNI configuration")
    .option('--host-bin-dir <directory>', 'where --bin-dir is on the node, when this runs in a container')
    .option('--plugin <file>', 'the built plugin (default: the one built with this program)')
    .option(
      '--node <path>',
      'a Node that stays on the node, to run it (default: the one that runs this is brought along, into --bin-dir)',
    )
    .option('--socket <path>', "the agent's socket, as the node sees it (default: /run/vl3/agent.sock)")
    .option('--watch', 'stay, and put the entry back whenever the file is rewritten')
    .addHelpText(
      'after',
      [
        '\nThe entry stands last in the file that the runtime takes, the first by name; nothing else in it changes. Beside a file of',
        'a single plugin (.conf), 0-vl3.conflist is made. With Cilium, cni.exclusive has to be false.',
        '\nExamples:\n  vl3 cni install\n  vl3 cni install --watch --net-dir /host/etc/cni/net.d --bin-dir /host/opt/cni/bin --host-bin-dir /opt/cni/bin',
      ].join('\n'),
    )
    .action(async (options: InstallOptions) => {
      const { netDir, binDir, hostBinDir, plugin = BUILT_PLUGIN, socket, watch } = options;
      const { keepEntry, putEntry, putProgram } = await import('../../src/cni/keeper.ts');
      const place = { netDirectory: resolve(netDir), binDirectory: resolve(binDir) };
      const isHere = hostBinDir === undefined || resolve(hostBinDir) === place.binDirectory;
      const program = { ...place, plugin, ...nodeOf(options), isHere };
      const entry = { netDirectory: place.netDirectory, socket };
      const keeping = { say: context.out, signal: context.signal, now: () => performance.now() };
      for (const path of putProgram(program, place.netDirectory)) context.out(`wrote ${path}`);
      // What is not there yet is waited for by who stays.
      if (watch !== undefined) return await keepEntry({ ...entry, program }, keeping);
      const { main, changed } = await putEntry(entry, keeping);
      for (const path of changed) context.out(`wrote ${path}`);
      if (changed.length === 0) context.out(`${main} has the entry already`);
    });

  withPlace(cni.command('uninstall'))
    .description("take the entry out of the cluster's CNI configuration, then the plugin off this node")
    .option(
      '--keep-plugin',
      'leave the plugin: runtimes that remember it for running pods, as CRI-O, ask it to the end',
    )
    .addHelpText(
      'after',
      '\nPods keep the networks that they have. What is not there is no error.\n\nExamples:\n  vl3 cni uninstall',
    )
    .action(async ({ netDir, binDir, keepPlugin }: PlaceOptions & { keepPlugin?: true }) => {
      const { removeEntry, removeProgram } = await import('../../src/cni/installer.ts');
      const changed = removeEntry(resolve(netDir));
      for (const path of changed) context.out(`changed ${path}`);
      const removed = keepPlugin === undefined ? removeProgram(resolve(binDir)) : [];
      for (const path of removed) context.out(`removed ${path}`);
      if (changed.length + removed.length === 0) context.out('nothing to remove');
    });
};
