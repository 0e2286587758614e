// The option that names the agent's socket, shared by the commands that talk to the agent on this node.

import { Option } from 'commander';
import type { Context } from './context.ts';

export const DEFAULT_RUN_DIRECTORY = '/run/vl3';

export const socketOption = (context: Context): Option =>
  new Option('--socket <path>', "the agent's socket (environment: VL3_SOCKET)").default(
    context.env['VL3_SOCKET'] || `${DEFAULT_RUN_DIRECTORY}/agent.sock`,
  );
