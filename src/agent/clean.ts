// Removes everything an agent made on this node: router namespaces with their TUNs and pods' interfaces, its state, its
// socket. The agent must not be running.

import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { listRouters, readRouter, removeRouter } from '../netns/router.ts';
import { Tools } from '../netns/tool.ts';
import { NETWORK } from './documents.ts';
import { AgentState } from './state.ts';

export interface CleanOptions {
  readonly stateDirectory: string;
  readonly runDirectory: string;
  readonly netnsPrefix: string;
}

/** What was removed, one phrase each. Throws Vl3Error when an agent is using the state. */
export const cleanNode = async (options: CleanOptions, logger: Logger): Promise<string[]> => {
  const removed: string[] = [];
  const tools = new Tools();
  const routers = new Set<string>();
  if (existsSync(join(options.stateDirectory, 'agent.db'))) {
    using state = new AgentState(options.stateDirectory);
    for (const { name } of state.list(NETWORK)) routers.add(`${options.netnsPrefix}${name}`);
  }
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
  return removed;
};
