// The result of an ADD: what the plugins before this one made, unchanged, and vl3's interfaces behind it, in the words of
// the configuration's version (CNI specification 1.1, section 5, "Success").

import type { Configuration } from './call.ts';
import { CNI_CODE, CniError } from './cni-error.ts';
import { type JsonObject, optional } from './json.ts';
import { isAtLeast } from './version.ts';

/** One of the pod's interfaces, as the agent made it. */
export interface MadeInterface {
  readonly name: string;
  readonly mac: string;
  readonly mtu: number;
  /** With prefix length. */
  readonly addresses: readonly { readonly address: string; readonly gateway?: string }[];
  readonly routes: readonly { readonly destination: string; readonly gateway: string }[];
}

/** Throws CniError when there is no result to go on from. */
export const previousResult = ({ prevResult, version }: Configuration): JsonObject => {
  if (prevResult === undefined) {
    throw new CniError(
      CNI_CODE.badConfiguration,
      'vl3-cni goes on from another plugin\'s result, and there is no "prevResult": put it behind the plugin that makes the pod\'s interface',
    );
  }
  return { ...prevResult, cniVersion: version };
};

/** The result with the interfaces behind it. Throws CniError. */
export const withInterfaces = (
  configuration: Configuration,
  netns: string,
  made: readonly MadeInterface[],
): JsonObject => {
  const before = previousResult(configuration);
  const { version, reportAddresses } = configuration;
  const interfaces = optional.objects(before, 'interfaces') ?? [];
  const ips = optional.objects(before, 'ips') ?? [];
  const routes = optional.objects(before, 'routes') ?? [];
  const added = made.map(({ name, mac, mtu }) => ({
    name,
    mac,
    ...(isAtLeast(version, '1.1.0') ? { mtu } : {}),
    sandbox: netns,
  }));
  if (!reportAddresses) return { ...before, interfaces: [...interfaces, ...added] };
  return {
    ...before,
    interfaces: [...interfaces, ...added],
    ips: [
      ...ips,
      ...made.flatMap(({ addresses }, index) =>
        addresses.map(({ address, gateway }) => ({
          // Gone with 1.0.0.
          ...(isAtLeast(version, '1.0.0') ? {} : { version: address.includes(':') ? '6' : '4' }),
          interface: interfaces.length + index,
          address,
          ...(gateway === undefined ? {} : { gateway }),
        })),
      ),
    ],
    routes: [
      ...routes,
      ...made.flatMap((one) =>
        one.routes.map(({ destination, gateway }) => ({ dst: destination, gw: gateway })),
      ),
    ],
  };
};
