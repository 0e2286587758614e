// What an agent has made on its node, as text that can be compared: namespaces, and in each the links, addresses,
// routes, neighbours and rules, without what differs from making to making; and the documents it keeps.

import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Host } from './host.ts';
import type { Node } from './node.ts';

/** All that the kernel holds of a node's networks and of these pods; one line each, sorted. */
export const footprint = async (node: Node, pods: readonly Host[] = []): Promise<string[]> => {
  const names = readdirSync('/run/netns').filter((name) => name.startsWith(node.netnsPrefix));
  const routers = names.map((name) => node.domain.lab.adopt(name, join('/run/netns', name)));
  const lines = await Promise.all([...routers, ...pods].map(contents));
  return lines.flat().sort();
};

const contents = async (host: Host): Promise<string[]> => {
  const script = `ip -details -oneline address; ip -oneline link
    ip route show table all; ip -6 route show table all; ip neighbour show nud permanent; ip rule; nft -nn list ruleset`;
  const text = await host.run(['sh', '-c', script]);
  return text
    .split('\n')
    .map((line) =>
      line
        // The kernel's numbers for interfaces, counters, and what is but its present mood.
        .replace(/^\d+: /, '')
        .replace(/@if\d+/g, '@')
        .replace(/packets \d+ bytes \d+/g, 'packets')
        .replace(/\b(linkdown|NO-CARRIER,?|LOWER_UP,?|tentative)/g, '')
        .replace(/\b(state|qdisc|qlen) \S+/g, '')
        .replace(/link-netns(id)? \S+/g, '')
        .replace(/\s+/g, ' ')
        .trim(),
    )
    .filter((line) => line !== '')
    .map((line) => `${host.name}: ${line}`);
};

/** The names of the documents in the agent's state, as "kind name", and of those of `kinds` the content. */
export const documents = (node: Node): { kind: string; name: string; value: unknown }[] => {
  const source = join(node.stateDir, 'agent.db');
  if (!existsSync(source)) return [];
  // A running agent has the file locked; a copy of it and its log is a database too.
  const copy = mkdtempSync(join(node.domain.lab.scratch, 'state-'));
  try {
    for (const end of ['', '-wal'])
      if (existsSync(source + end)) copyFileSync(source + end, join(copy, `agent.db${end}`));
    const database = new DatabaseSync(join(copy, 'agent.db'));
    try {
      return database
        .prepare('SELECT kind, name, value FROM document ORDER BY kind, name')
        .all()
        .map(({ kind, name, value }) => ({
          kind: String(kind),
          name: String(name),
          value: JSON.parse(String(value)),
        }));
    } finally {
      database.close();
    }
  } finally {
    rmSync(copy, { recursive: true });
  }
};
