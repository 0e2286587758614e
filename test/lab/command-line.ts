// vl3's commands on a host of the lab without a process for each, whose start takes longer than what most of them do. What a
// process adds to a command (streams, signals, its end) is not for here: test/scenarios/operator.test.ts starts real ones.

import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Host, Result } from './host.ts';
import { bundled } from './program.ts';

const PATIENCE_MS = 60_000;

export class CommandLine {
  readonly #socket: string;

  private constructor(socket: string) {
    this.#socket = socket;
  }

  /** Starts the process that carries them out. Undefined where nothing is bundled: a command is a process then. */
  static async start(host: Host): Promise<CommandLine | undefined> {
    const server = bundled('command-server');
    if (server === undefined) return undefined;
    const socket = join(host.ledger.scratch, `${host.name}-commands.sock`);
    await host.start([...server, socket]).printed(/listening/);
    return new CommandLine(socket);
  }

  /** Carries out `vl3 ARGS`, whatever its exit code; any number side by side. */
  async run(args: readonly string[]): Promise<Result> {
    const connection = connect(this.#socket);
    connection.setTimeout(PATIENCE_MS, () =>
      connection.destroy(new Error(`did not end in time: vl3 ${args.join(' ')}`)),
    );
    connection.end(JSON.stringify(args));
    return JSON.parse(await text(connection));
  }
}
