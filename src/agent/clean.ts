// Removes everything an agent made on this node: router namespaces with their TUNs and pods' interfaces, its state, its
// socket. The agent must not be running.

import { existsSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { listRouters, readRouter, removeRouter } from '../netns/router.ts';
import { Tools } from '../netns/tool.ts';
import { NETWORK } from './documents.ts';
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
    routers.add(`${options.netnsPrefix}${network}`);
  const present = await listRouters(options.netnsPrefix);
  for (const router of present) {
    // A namespace that merely begins alike, and holds nothing of vl3, is somebody else's.
    if (!routers.has(router) && (await readRouter(tools, router))?.rules === undefined) continue;
    await removeRouter(tools, router);
    removed.push(`network namespace ${router}`);
    logger.info({ router }, 'router namespace removed');
  }
  for (const path of [options.stateDirectory, join(options.runDirectory, 'agent.sock')]) {
    if (!existsSync(path)) continue;
    rmSync(path, { recursive: true });
    removed.push(path);
  }
  if (removeEmpty(options.runDirectory)) removed.push(options.runDirectory);
  return removed;
};
