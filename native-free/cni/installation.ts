// Where vl3-cni stands in a node's CNI configuration: behind the plugins that the runtime takes, which are those of the
// first file by name. Decides what is to be written; reading and writing is src/cni/installer.ts. Files of others are only
// ever changed by one entry.

import { isObject, type JsonObject } from './json.ts';
import { hasType, parsePluginList } from './plugin-list.ts';
import { asVersion, SUPPORTED_VERSIONS } from './version.ts';

export const PLUGIN_TYPE = 'vl3-cni';

/**
 * Made beside a main configuration that is a single plugin's (.conf) and has no room for another; sorts before all whose
 * names begin with two digits, as they do.
 */
export const OWN_FILE = '0-vl3.conflist';

export interface ConfigFile {
  readonly name: string;
  readonly text: string;
}

export type Change =
  | { readonly kind: 'write'; readonly name: string; readonly text: string }
  | { readonly kind: 'remove'; readonly name: string };

export type Installation =
  | {
      readonly kind: 'found';
      /** The file that the runtime takes, and whose it is. */
      readonly main: string;
      readonly owner: string;
      /** None: all is as it ought to be. */
      readonly changes: readonly Change[];
    }
  | { readonly kind: 'nothing'; readonly reason: string };

export interface EntryOptions {
  /** Undefined: the plugin's default. */
  readonly socket: string | undefined;
}

/** What is put into the conflist. A cluster does not depend on vl3: neither its nodes' readiness nor its pods' addresses. */
export const pluginEntry = ({ socket }: EntryOptions): JsonObject & { readonly type: string } => ({
  type: PLUGIN_TYPE,
  capabilities: { 'io.kubernetes.cri.pod-annotations': true },
  agentRequired: false,
  reportAddresses: false,
  ...(socket === undefined ? {} : { socket }),
});

/** What there is to do so that the entry stands where the runtime looks. */
export const planInstallation = (
  files: readonly ConfigFile[],
  entry: JsonObject & { readonly type: string },
): Installation => {
  const ours = files.find(({ name }) => name === OWN_FILE);
  for (const file of inOrder(files)) {
    const list = parsePluginList(file.text);
    if (list !== undefined && isTaken(file)) {
      const problem = versionProblem(file);
      if (problem !== undefined) return { kind: 'nothing', reason: problem };
      const text = list.with(entry);
      const changes: Change[] = text === file.text ? [] : [{ kind: 'write', name: file.name, text }];
      // The main plugin had a .conf once.
      if (ours !== undefined) changes.push({ kind: 'remove', name: OWN_FILE });
      return { kind: 'found', main: file.name, owner: list.plugins[0]?.type ?? '', changes };
    }
    const single = file.name.endsWith('.conflist') ? undefined : singlePlugin(file.text);
    if (single === undefined) continue;
    const problem = versionProblem(file) ?? singleProblem(file.name, single.type);
    if (problem !== undefined) return { kind: 'nothing', reason: problem };
    const text = beside(single, entry);
    const changes: Change[] = text === ours?.text ? [] : [{ kind: 'write', name: OWN_FILE, text }];
    return { kind: 'found', main: file.name, owner: single.type, changes };
  }
  const reason =
    files.length === 0
      ? "there is no CNI configuration yet: the cluster's own plugin has to be installed first"
      : `none of ${files.map(({ name }) => name).join(', ')} is a CNI configuration: the cluster's own plugin has to be installed first`;
  return { kind: 'nothing', reason };
};

/** What there is to do so that no entry is left, in whichever file. */
export const planRemoval = (files: readonly ConfigFile[]): Change[] =>
  files.flatMap((file): Change[] => {
    if (file.name === OWN_FILE) return [{ kind: 'remove', name: file.name }];
    const list = parsePluginList(file.text);
    if (list === undefined || !list.has(PLUGIN_TYPE)) return [];
    return [{ kind: 'write', name: file.name, text: list.without(PLUGIN_TYPE) }];
  });

/** Whether a runtime reads files of such a name. */
export const isConfigFile = (name: string): boolean =>
  /\.(conf|conflist|json)$/.test(name) && !name.startsWith('.');

const inOrder = (files: readonly ConfigFile[]): ConfigFile[] =>
  files
    .filter(({ name }) => isConfigFile(name) && name !== OWN_FILE)
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));

/** A runtime takes a list with a name, from a .conflist. */
const isTaken = ({ name, text }: ConfigFile): boolean => {
  const list: unknown = JSON.parse(text);
  return (
    name.endsWith('.conflist') && isObject(list) && typeof list['name'] === 'string' && list['name'] !== ''
  );
};

/** A plugin that does not speak its configuration's version fails, and with it every pod: also those that ask for nothing. */
const versionProblem = ({ name, text }: ConfigFile): string | undefined => {
  const configuration: unknown = JSON.parse(text);
  if (!isObject(configuration)) return undefined;
  const { cniVersion, cniVersions } = configuration;
  const named = [cniVersion, ...(Array.isArray(cniVersions) ? cniVersions : [])].filter(
    (one) => typeof one === 'string',
  );
  // Of several a runtime takes the greatest that it knows: all of them may be it.
  if (named.length > 0 && named.every((one) => asVersion(one) !== undefined)) return undefined;
  return `${name} is of CNI version "${named.join('", "')}", and vl3-cni speaks ${SUPPORTED_VERSIONS.join(', ')}: ${WITHOUT}`;
};

/** Multus takes the first file by name for the cluster's own plugin, and would call itself from a list that comes before it. */
const singleProblem = (name: string, type: string): string | undefined => {
  if (type.startsWith('multus'))
    return `${name} is of Multus, which makes it from the file that comes first: have it made as a conflist, or ${WITHOUT}`;
  if (name < OWN_FILE)
    return `${name} comes before ${OWN_FILE}, which would have to be taken instead: call it otherwise, or ${WITHOUT}`;
  return undefined;
};

const WITHOUT = 'leave the plugin out: the agent attaches pods by its informer alone';

const singlePlugin = (text: string): (JsonObject & { readonly type: string }) | undefined => {
  try {
    const plugin: unknown = JSON.parse(text);
    return hasType(plugin) ? plugin : undefined;
  } catch {
    return undefined;
  }
};

/** A list of the single plugin and the entry. */
const beside = (plugin: JsonObject, entry: JsonObject): string => {
  const { cniVersion, name, ...rest } = plugin;
  return `${JSON.stringify({ cniVersion, name, plugins: [rest, entry] }, null, 2)}\n`;
};
