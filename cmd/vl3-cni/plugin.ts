// The CNI plugin: environment and standard input in, result and exit code out. It decides whether a pod is vl3's business
// at all; everything else is the agent's. Touches neither process nor files: what it needs of them is passed in.

import {
  type AddAnswer,
  type CheckAnswer,
  type Owner,
  PATHS,
  type Wanted,
} from '../../native-free/cni/agent-messages.ts';
import { type Call, type Configuration, type Environment, readCall } from '../../native-free/cni/call.ts';
import { CNI_CODE, CniError } from '../../native-free/cni/cni-error.ts';
import { defaultsOf } from '../../native-free/cni/namespace-defaults.ts';
import { previousResult, withInterfaces } from '../../native-free/cni/result.ts';
import { NEWEST_VERSION, SUPPORTED_VERSIONS } from '../../native-free/cni/version.ts';
import { askedOf, asksForSome } from '../../native-free/kube/asked.ts';

export interface World {
  readonly env: Environment;
  /** Throws CniError. */
  readonly input: () => string;
  /** Undefined when it cannot be read. */
  readonly readFile: (path: string) => string | undefined;
  /** Asks the agent. Throws CniError, with the code of trying again later when it is not there. */
  readonly ask: <T>(socket: string, path: string, body: unknown, timeoutMs: number) => Promise<T>;
  /** For whoever reads the runtime's log. */
  readonly warn: (line: string) => void;
}

export interface Outcome {
  /** Of the process; 1 goes with an error on standard output. */
  readonly code: 0 | 1;
  readonly output: string;
}

type OfContainer = Extract<Call, { readonly command: 'ADD' | 'CHECK' }>;

/** What the agent may take beyond waiting for a network: many pods start at once. */
const PATIENCE_MS = 60_000;
/** A DEL must not hold up the end of a pod: the agent also finds out by itself. */
const DEL_MS = 10_000;
const STATUS_MS = 5_000;

export const runPlugin = async (world: World): Promise<Outcome> => {
  let version: string = NEWEST_VERSION;
  try {
    const call = readCall(world.env, world.input(), (one) => {
      version = one;
    });
    const answer = await carryOut(call, world);
    return { code: 0, output: answer === undefined ? '' : JSON.stringify(answer) };
  } catch (error) {
    const { code, message, details } = asCniError(error);
    const shown = { cniVersion: version, code, msg: message, ...(details === undefined ? {} : { details }) };
    return { code: 1, output: JSON.stringify(shown) };
  }
};

const asCniError = (error: unknown): CniError =>
  error instanceof CniError
    ? error
    : new CniError(
        CNI_CODE.internal,
        `vl3-cni failed: ${error instanceof Error ? error.message : String(error)}`,
      );

/** Undefined: success without a result. */
const carryOut = async (call: Call, world: World): Promise<unknown> => {
  switch (call.command) {
    case 'VERSION':
      return { cniVersion: call.version ?? NEWEST_VERSION, supportedVersions: SUPPORTED_VERSIONS };
    case 'ADD':
      return await add(call, world);
    case 'CHECK':
      return await check(call, world);
    case 'DEL':
      return await del(call, world);
    case 'GC': {
      const { socket, name } = call.configuration;
      return void (await world.ask(socket, PATHS.gc, { cniNetwork: name, valid: call.valid }, PATIENCE_MS));
    }
    case 'STATUS':
      return await status(call.configuration, world);
  }
};

const add = async (call: OfContainer, world: World): Promise<unknown> => {
  const { configuration, netns } = call;
  // Before anything is made.
  const before = previousResult(configuration);
  const wanted = wantedBy(call, world);
  if (wanted === undefined) return before;
  const waitMs = configuration.waitSeconds * 1000;
  const request = { ...requestOf(call, wanted), waitMs };
  const { interfaces } = await world.ask<AddAnswer>(
    configuration.socket,
    PATHS.add,
    request,
    waitMs + PATIENCE_MS,
  );
  return withInterfaces(configuration, netns, interfaces);
};

const check = async (call: OfContainer, world: World): Promise<undefined> => {
  const { configuration } = call;
  previousResult(configuration);
  const wanted = wantedBy(call, world);
  if (wanted === undefined) return;
  const { faults } = await world.ask<CheckAnswer>(
    configuration.socket,
    PATHS.check,
    requestOf(call, wanted),
    PATIENCE_MS,
  );
  const [first, ...others] = faults;
  if (first !== undefined)
    throw new CniError(CNI_CODE.notAsMade, first, others.length === 0 ? undefined : others.join('\n'));
};

/** Always done: what an agent that is not there still has, it takes away once the namespace is gone. */
const del = async (call: Extract<Call, { command: 'DEL' }>, world: World): Promise<undefined> => {
  const { configuration } = call;
  try {
    await world.ask(configuration.socket, PATHS.del, { owner: ownerOf(call) }, DEL_MS);
  } catch (error) {
    world.warn(`vl3-cni: DEL is left to the agent: ${asCniError(error).message}`);
  }
};

const status = async (configuration: Configuration, world: World): Promise<undefined> => {
  if (!configuration.agentRequired) return;
  try {
    await world.ask(configuration.socket, PATHS.status, undefined, STATUS_MS);
  } catch (error) {
    throw new CniError(CNI_CODE.notAvailable, asCniError(error).message);
  }
};

/** What this pod asks for; undefined: nothing, or nothing is known, and the agent's informer attaches it later. */
const wantedBy = ({ configuration, pod }: OfContainer, world: World): Wanted | undefined => {
  const { annotations, networks, defaultsFile } = configuration;
  if (annotations !== undefined) {
    // Its own decides; only without one does its namespace's matter, and only then is that looked for.
    const asked =
      askedOf(annotations, undefined) ?? askedOf({}, namespaceDefaults(defaultsFile, pod?.namespace, world));
    if (asked !== undefined) return asksForSome(asked) ? asked : undefined;
  }
  if (networks === undefined || networks.trim() === '') return undefined;
  return { by: 'configuration', key: 'vl3.io/networks', text: networks };
};

const namespaceDefaults = (path: string, namespace: string | undefined, world: World) => {
  if (namespace === undefined) return undefined;
  const text = world.readFile(path);
  return text === undefined ? undefined : defaultsOf(text, namespace);
};

const requestOf = (call: OfContainer, wanted: Wanted) => ({
  owner: ownerOf(call),
  netns: call.netns,
  ...(call.pod === undefined ? {} : { pod: call.pod }),
  wanted,
});

const ownerOf = ({ configuration, container }: Pick<OfContainer, 'configuration' | 'container'>): Owner => ({
  cniNetwork: configuration.name,
  ...container,
});
