// resolv.conf(5): what is read of a machine's own, and the one that is written for a workload. Lines that are not understood
// are passed over, as libraries do.

import { parseAddress } from '../ipam/prefix.ts';

export interface ResolvConf {
  readonly servers: readonly string[];
  readonly search: readonly string[];
}

/** glibc asks no more than these. */
const MAX_SERVERS = 3;
/** Older libraries take no more. */
const MAX_SEARCH = 6;

export const parseResolvConf = (text: string): ResolvConf => {
  const servers: string[] = [];
  let search: readonly string[] = [];
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line
      .replace(/[#;].*$/, '')
      .trim()
      .split(/\s+/);
    const [first] = values;
    if (keyword === 'nameserver' && first !== undefined && isAddress(first) && servers.length < MAX_SERVERS)
      servers.push(first);
    // The last one counts.
    if (keyword === 'search' || keyword === 'domain')
      search = values.slice(0, keyword === 'search' ? undefined : 1);
  }
  return { servers, search };
};

/** Each line but the comment's is a library's to understand: glibc's and musl's both do. */
export const formatResolvConf = ({ servers, search }: ResolvConf): string =>
  [
    '# Written by vl3 for this namespace.',
    ...(search.length === 0 ? [] : [`search ${search.slice(0, MAX_SEARCH).join(' ')}`]),
    ...servers.slice(0, MAX_SERVERS).map((server) => `nameserver ${server}`),
    '',
  ].join('\n');

/** With a zone, as link-local ones have. */
const isAddress = (text: string): boolean => {
  try {
    parseAddress(text.split('%')[0] ?? '');
    return true;
  } catch {
    return false;
  }
};
