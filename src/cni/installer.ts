// Puts vl3-cni onto a node: the program where the runtime looks for plugins, then one entry in the cluster's CNI
// configuration; both written beside and renamed. What has to be written is decided in native-free/cni/installation.

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  type Change,
  type ConfigFile,
  isConfigFile,
  OWN_FILE,
  PLUGIN_TYPE,
  planInstallation,
  planRemoval,
  pluginEntry,
} from '../../native-free/cni/installation.ts';
import { Vl3Error } from '../../native-free/error.ts';

export interface CniDirectories {
  /** Of the runtime's configuration, e.g. /etc/cni/net.d. */
  readonly netDirectory: string;
  /** Of the runtime's plugins, e.g. /opt/cni/bin. */
  readonly binDirectory: string;
}

export interface ProgramOptions extends CniDirectories {
  /** The built plugin. */
  readonly plugin: string;
  /** What runs it, as the node sees it. */
  readonly node: string;
  /** Copied into the directory of plugins first, and run from there. */
  readonly copyNode: string | undefined;
  /** Whether the node is seen here as it sees itself: then the plugin is tried before any pod depends on it. */
  readonly isHere: boolean;
}

/** Longer configurations are nobody's. */
const MAX_CONFIG_BYTES = 1024 * 1024;
const NODE_COPY = 'vl3-node';
const TRIAL_MS = 20_000;

/** Puts the program in its place. Answers what was written. Throws Vl3Error. */
export const installProgram = (options: ProgramOptions): string[] => {
  const { binDirectory, plugin, node, copyNode, isHere } = options;
  mustBeDirectory(binDirectory, '--bin-dir');
  if (!/^\/[^\s]{1,120}$/.test(node))
    throw new Vl3Error(
      'invalid-argument',
      `"${node}" cannot run the plugin: name Node by a whole path without blanks, at most 120 characters`,
    );
  const script = readPlugin(plugin);
  const written: string[] = [];
  if (copyNode !== undefined) {
    const target = join(binDirectory, NODE_COPY);
    const draft = join(binDirectory, draftOf(NODE_COPY));
    guarded(target, () => {
      copyFileSync(copyNode, draft, constants.COPYFILE_FICLONE);
      chmodSync(draft, 0o755);
      renameSync(draft, target);
    });
    written.push(target);
  }
  const target = join(binDirectory, PLUGIN_TYPE);
  replaceFile(target, `#!${node}\n${script}`, 0o755, isHere ? mustRun : undefined);
  return [...written, target];
};

/** A plugin that cannot be started fails every pod of the node. */
const mustRun = (path: string): void => {
  const { status, error } = spawnSync(path, {
    env: { CNI_COMMAND: 'VERSION' },
    input: '{"cniVersion":"1.0.0"}',
    timeout: TRIAL_MS,
  });
  if (status === 0) return;
  // What ends without having read its input has an error beside its exit code.
  const reason =
    status === null && error !== undefined && 'code' in error ? error.code : `exit code ${status}`;
  throw new Vl3Error(
    'failed-precondition',
    `the plugin does not run on this node (${reason}): name a Node that does with --node, or leave the plugin out: the agent attaches pods by its informer alone`,
  );
};

/** Whether all of the program is where it was put. */
export const hasProgram = ({ binDirectory, copyNode }: ProgramOptions): boolean =>
  [PLUGIN_TYPE, ...(copyNode === undefined ? [] : [NODE_COPY])].every((name) =>
    existsSync(join(binDirectory, name)),
  );

/** The plugin's text without a first line that says what runs it. */
const readPlugin = (path: string): string => {
  try {
    return readFileSync(path, 'utf8').replace(/^#!.*\n/, '');
  } catch (cause) {
    throw new Vl3Error(
      'failed-precondition',
      `there is no built plugin at ${path}: build it with "npm run build" and run vl3 from dist/, or name it with --plugin`,
      { cause },
    );
  }
};

export interface EntryPut {
  readonly main: string;
  readonly owner: string;
  readonly changed: readonly string[];
}

/** Puts the entry in its place, or finds it there. Throws Vl3Error('failed-precondition') while there is no place for it. */
export const installEntry = (netDirectory: string, socket: string | undefined): EntryPut => {
  const plan = planInstallation(readConfigFiles(netDirectory), pluginEntry({ socket }));
  if (plan.kind === 'nothing') throw new Vl3Error('failed-precondition', `${netDirectory}: ${plan.reason}`);
  const { main, owner, changes } = plan;
  return { main, owner, changed: apply(netDirectory, changes) };
};

/** Takes every entry out, and what a crash left of putting one in. Answers which files changed. */
export const removeEntry = (netDirectory: string): string[] => {
  if (!existsSync(netDirectory)) return [];
  const files = readConfigFiles(netDirectory);
  const changed = apply(netDirectory, planRemoval(files));
  const drafts = [OWN_FILE, ...files.map(({ name }) => name)]
    .map((name) => join(netDirectory, draftOf(name)))
    .filter((path) => existsSync(path));
  for (const path of drafts) guarded(path, () => rmSync(path));
  return [...changed, ...drafts];
};

/** Removes the program: after the entry, or a runtime would look for it in vain. */
export const removeProgram = (binDirectory: string): string[] =>
  [PLUGIN_TYPE, NODE_COPY, draftOf(PLUGIN_TYPE), draftOf(NODE_COPY)]
    .map((name) => join(binDirectory, name))
    .filter((path) => existsSync(path))
    .map((path) => {
      guarded(path, () => rmSync(path));
      return path;
    });

/** Cilium set others' configurations aside on this node: it does so while its cni.exclusive is true. */
export const hasCiliumBackups = (netDirectory: string): boolean =>
  readdirSync(netDirectory).some((name) => name.endsWith('.cilium_bak'));

const readConfigFiles = (directory: string): ConfigFile[] => {
  mustBeDirectory(directory, '--net-dir');
  return readdirSync(directory)
    .filter(isConfigFile)
    .flatMap((name) => {
      const path = join(directory, name);
      try {
        const { size } = statSync(path);
        return size > MAX_CONFIG_BYTES ? [] : [{ name, text: readFileSync(path, 'utf8') }];
      } catch {
        // It went meanwhile, or is none.
        return [];
      }
    });
};

const apply = (directory: string, changes: readonly Change[]): string[] =>
  changes.map((change) => {
    const path = join(directory, change.name);
    if (change.kind === 'remove') guarded(path, () => rmSync(path, { force: true }));
    else replaceFile(path, change.text, modeOf(path) ?? 0o600);
    return path;
  });

const modeOf = (path: string): number | undefined => {
  const found = statSync(path, { throwIfNoEntry: false });
  return found === undefined ? undefined : found.mode & 0o7777;
};

/** All of it or nothing, whoever reads and whatever breaks; the name of the draft is none that a runtime reads. */
const replaceFile = (name: string, text: string, mode: number, mustDo?: (draft: string) => void): void => {
  // A link goes on being one.
  const path = existsSync(name) ? realpathSync(name) : name;
  const at = path.lastIndexOf('/');
  const draft = `${path.slice(0, at)}/${draftOf(path.slice(at + 1))}`;
  guarded(path, () => {
    const descriptor = openSync(draft, 'w', mode);
    try {
      writeFileSync(descriptor, text);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    chmodSync(draft, mode);
    try {
      mustDo?.(draft);
    } catch (error) {
      rmSync(draft);
      throw error;
    }
    renameSync(draft, path);
  });
};

const draftOf = (name: string): string => `.${name}.new`;

const guarded = (path: string, write: () => void): void => {
  try {
    write();
  } catch (cause) {
    if (cause instanceof Vl3Error) throw cause;
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    throw new Vl3Error(
      'failed-precondition',
      `cannot write ${path} (${reason}): mend that and run it again`,
      {
        cause,
      },
    );
  }
};

const mustBeDirectory = (path: string, option: string): void => {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return;
  throw new Vl3Error(
    'failed-precondition',
    `there is no directory ${path}: name the runtime's with ${option}`,
  );
};
