// The versions of the CNI specification that are spoken.

/** Results are written in any of these; in 0.3.0 as in 0.3.1, which some clusters' plugins still name. */
export const SUPPORTED_VERSIONS = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type CniVersion = (typeof SUPPORTED_VERSIONS)[number];

export const NEWEST_VERSION = '1.1.0';

/** CHECK came with 0.4.0, GC and STATUS with 1.1.0. */
export const FIRST_VERSION = {
  ADD: '0.3.0',
  DEL: '0.3.0',
  CHECK: '0.4.0',
  GC: '1.1.0',
  STATUS: '1.1.0',
} as const satisfies Record<string, CniVersion>;

/** A configuration that names no version is of the first one. */
export const UNNAMED_VERSION = '0.1.0';

export const asVersion = (text: string): CniVersion | undefined =>
  SUPPORTED_VERSIONS.find((version) => version === text);

export const isAtLeast = (version: CniVersion, other: CniVersion): boolean =>
  SUPPORTED_VERSIONS.indexOf(version) >= SUPPORTED_VERSIONS.indexOf(other);
