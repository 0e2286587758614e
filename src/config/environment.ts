// Settings in the environment: VL3_AGENT_…, VL3_REGISTRY_…; lists are separated by commas. A name that is none is
// refused, but for those that Kubernetes sets for a service of the program's name.

import { Vl3Error } from '../../native-free/error.ts';
import { nearest } from './nearest.ts';
import type { Raw, Setting } from './setting.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

const SET_BY_KUBERNETES = /_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)$/;

/** The variable that names the configuration file. */
export const configVariable = (prefix: string): string => `${prefix}CONFIG`;

/** What is set, by key; an empty variable counts as unset. */
export const readEnvironment = (
  environment: Environment,
  prefix: string,
  settings: readonly Setting[],
): Map<string, Raw> => {
  const known = [...settings.map((one) => one.environment), configVariable(prefix)];
  for (const name of Object.keys(environment)) {
    if (!name.startsWith(prefix) || known.includes(name) || SET_BY_KUBERNETES.test(name)) continue;
    throw new Vl3Error(
      'invalid-argument',
      `environment: there is no setting ${name}: did you mean ${nearest(name, known)}?`,
    );
  }
  const values = new Map<string, Raw>();
  for (const { key, environment: name, isList } of settings) {
    const value = environment[name];
    if (value === undefined || value === '') continue;
    values.set(key, isList ? value.split(',').map((one) => one.trim()) : value);
  }
  return values;
};
