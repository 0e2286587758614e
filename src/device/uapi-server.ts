// The control socket of a device: /var/run/wireguard/NAME.sock, where wg and wg-quick look for it. Speaks the cross-platform
// userspace protocol (native-free/uapi); several requests a connection, one after another, each answered before the next.

import { once } from 'node:events';
import { linkSync, mkdirSync, type Stats, statSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { Vl3Error } from '../../native-free/error.ts';
import { wipe } from '../../native-free/noise/wipe.ts';
import {
  type DeviceChange,
  EINVAL,
  type Request,
  RequestError,
  RequestParser,
} from '../../native-free/uapi/request.ts';
import { formatOutcome, formatView } from '../../native-free/uapi/response.ts';
import { compactMemory } from '../ffi/trim.ts';
import type { WireguardDevice } from './wireguard-device.ts';

/** Where WireGuard's tools look. */
export const UAPI_DIRECTORY = '/var/run/wireguard';

const EADDRINUSE = 98;
const EPERM = 1;
const EIO = 5;
const ENOSPC = 28;

/** A request that grows past this without a newline is none. */
const MAX_UNFINISHED_LINE = 4096;
/** How often to look whether somebody has deleted the socket, which is how a device is told to end. */
const LOOK_MS = 500;

/** Understanding a request of so many bytes has made garbage worth giving back, once no other has come for so long. */
const LARGE_REQUEST = 256 * 1024;
const QUIET_MS = 1000;

export class UapiServer implements AsyncDisposable {
  readonly path: string;
  /** Resolves when somebody has deleted the socket. */
  readonly deleted: Promise<void>;
  readonly #server: Server;
  readonly #connections = new Set<Socket>();
  readonly #looking: NodeJS.Timeout;
  readonly #inode: number;
  #tidying: NodeJS.Timeout | undefined;

  /** Opens the socket, readable for its owner alone. Throws Vl3Error('already-exists') when a device of the name is up. */
  static async listen(
    device: WireguardDevice,
    name: string,
    directory = UAPI_DIRECTORY,
  ): Promise<UapiServer> {
    const path = join(directory, `${name}.sock`);
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    await removeStale(path);
    const server = createServer({ allowHalfOpen: true });
    // Whoever sees the socket may connect at once, and wg deletes one that refuses: so it listens before it has its name.
    const unnamed = join(directory, `.${name}.${process.pid}`);
    unlinkIfThere(unnamed);
    const before = process.umask(0o077);
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(unnamed, () => resolve());
      });
      linkSync(unnamed, path);
    } catch (cause) {
      server.close();
      throw new Vl3Error('failed-precondition', `cannot open the control socket ${path}`, { cause });
    } finally {
      process.umask(before);
      unlinkIfThere(unnamed);
    }
    return new UapiServer(device, path, server);
  }

  private constructor(device: WireguardDevice, path: string, server: Server) {
    this.path = path;
    this.#server = server;
    this.#inode = statSync(path).ino;
    const deleted = Promise.withResolvers<void>();
    this.deleted = deleted.promise;
    this.#looking = setInterval(() => {
      if (!this.#isThere()) deleted.resolve();
    }, LOOK_MS);
    server.on('connection', (connection) => {
      this.#connections.add(connection);
      connection.once('close', () => {
        this.#connections.delete(connection);
        if (connection.bytesRead >= LARGE_REQUEST) this.#tidySoon();
      });
      void serve(device, connection);
    });
  }

  #tidySoon(): void {
    this.#tidying ??= setTimeout(() => {
      this.#tidying = undefined;
      compactMemory();
    }, QUIET_MS).unref();
    this.#tidying.refresh();
  }

  #isThere(): boolean {
    return tryStat(this.path)?.ino === this.#inode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#looking);
    clearTimeout(this.#tidying);
    // Node removes the socket's file when it closes: it must not be another's by now.
    const isOurs = this.#isThere();
    for (const connection of this.#connections) connection.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    if (isOurs) unlinkIfThere(this.path);
  }
}

/** A file that nobody listens on is what a killed device has left. */
const removeStale = async (path: string): Promise<void> => {
  if (tryStat(path) === undefined) return;
  const isTaken = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
  if (isTaken) {
    throw new Vl3Error(
      'already-exists',
      `a device is up at ${path}: end that one, or take another interface name`,
    );
  }
  unlinkIfThere(path);
};

const tryStat = (path: string): Stats | undefined => statSync(path, { throwIfNoEntry: false });

const unlinkIfThere = (path: string): void => {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
};

/** One client, to its end. Nothing is read of who does not take its answers, so that they do not pile up. */
const serve = async (device: WireguardDevice, connection: Socket): Promise<void> => {
  const parser = new RequestParser();
  let unfinished = '';
  connection.on('error', () => connection.destroy());
  connection.setEncoding('latin1');
  try {
    for await (const text of connection.iterator({ destroyOnReturn: false })) {
      const lines = (unfinished + String(text)).split('\n');
      unfinished = lines.pop() ?? '';
      if (unfinished.length > MAX_UNFINISHED_LINE) connection.destroy();
      for (const line of lines) {
        const request = parser.push(line);
        if (request === undefined || connection.write(answer(device, request), 'latin1')) continue;
        await Promise.race([once(connection, 'drain'), once(connection, 'close')]);
        if (connection.destroyed) return;
      }
    }
    connection.end();
  } catch {
    connection.destroy();
  }
};

const answer = (device: WireguardDevice, request: Request | RequestError): string => {
  if (request instanceof RequestError) return formatOutcome(request.errno, request.isGet);
  try {
    if (request.kind === 'get') return formatView(device.view);
    device.configure(request.change);
    return formatOutcome(0);
  } catch (error) {
    return formatOutcome(errnoOf(error), request.kind === 'get');
  } finally {
    if (request.kind === 'set') wipeSecrets(request.change);
  }
};

/** The device has copied what it needs. */
const wipeSecrets = ({ privateKey, peers }: DeviceChange): void =>
  wipe(privateKey ?? undefined, ...peers.map(({ presharedKey }) => presharedKey));

const errnoOf = (error: unknown): number => {
  if (!(error instanceof Vl3Error)) return EIO;
  if (error.code === 'already-exists') return EADDRINUSE;
  if (error.code === 'permission-denied') return EPERM;
  if (error.code === 'resource-exhausted') return ENOSPC;
  return error.code === 'internal' ? EIO : EINVAL;
};
