// Removes everything an agent made on this node: router namespaces with their TUNs and pods' interfaces, its state, its
// socket. The agent must not be running.

import { existsSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { NAMESPACE_DEFAULTS } from '../../native-free/cni/namespace-defaults.ts';
import { Vl3Error } from '../../native-free/error.ts';
import { NETWORK } from '../../native-free/reconcile/documents.ts';
import { routerName } from '../netns/names.ts';
import { listRouters, readRouter, removeRouter } from '../netns/router.ts';
import { Tools } from '../netns/tool.ts';
import { lockPrefix } from './prefix-lock.ts';
import { checkPrivilege } from './privilege.ts';
import { AgentState } from './state.ts';

export interface CleanOptions {
  readonly stateDirectory: string;
  readonly runDirectory: string;
  readonly netnsPrefix: string;
}

/** Damaged state names no networks, and goes with the rest: what is in the kernel tells whose it is. */
const savedNetworks = (directory: string, logger: Logger): string[] => {
  if (!existsSync(join(directory, 'agent.db'))) return [];
  try {
    using state = new AgentState(directory);
    return state.list(NETWORK).map(({ name }) => name);
  } catch (error) {
    if (!(error instanceof Vl3Error) || error.code !== 'internal') throw error;
    logger.warn({ reason: error.message }, 'the state is damaged and is removed unread');
    return [];
  }
};

/**
 * What an agent keeps in its state directory, and what a crash leaves of that. Nothing else goes: whoever names the wrong
 * directory must not lose what is in it.
 */
const STATE_FILES = [
  'agent.db',
  'agent.db-wal',
  'agent.db-shm',
  'agent.db-journal',
  'enrolling-key.pem',
  '.enrolling-key.pem.new',
  'identity.json',
  '.identity.json.new',
];

const removeFile = (path: string): boolean => {
  if (!existsSync(path)) return false;
  try {
    rmSync(path);
    return true;
  } catch (cause) {
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    throw new Vl3Error(
      'failed-precondition',
      `cannot remove ${path} (${reason}): mend that and run vl3 agent clean again`,
      { cause },
    );
  }
};

/** Others may keep something there too: only an empty directory goes. */
const removeEmpty = (directory: string): boolean => {
  try {
    rmdirSync(directory);
    return true;
  } catch {
    return false;
  }
};

/** What was removed, one phrase each. Throws Vl3Error when an agent is using the state or the prefix. */
export const cleanNode = async (options: CleanOptions, logger: Logger): Promise<string[]> => {
  checkPrivilege();
  await using _lock = await lockPrefix(options.netnsPrefix);
  const removed: string[] = [];
  const tools = new Tools();
  const routers = new Set<string>();
  for (const network of savedNetworks(options.stateDirectory, logger))
    routers.add(routerName(options.netnsPrefix, network));
  const present = await listRouters(options.netnsPrefix);
  for (const router of present) {
    // A namespace that merely begins alike, and holds nothing of vl3, is somebody else's.
    if (!routers.has(router) && (await readRouter(tools, router))?.rules === undefined) continue;
    await removeRouter(tools, router);
    removed.push(`network namespace ${router}`);
    logger.info({ router }, 'router namespace removed');
  }
  const files = [
    ...STATE_FILES.map((name) => join(options.stateDirectory, name)),
    join(options.runDirectory, 'agent.sock'),
    join(options.runDirectory, NAMESPACE_DEFAULTS),
  ];
  removed.push(...files.filter(removeFile));
  removed.push(...[options.stateDirectory, options.runDirectory].filter(removeEmpty));
  return removed;
};
