// What the agent needs to be allowed, found out before it makes anything: a token is used up by enrolling.

import { readFileSync } from 'node:fs';
import { Vl3Error } from '../../native-free/error.ts';

// linux/capability.h
const NEEDED = { CAP_NET_ADMIN: 12n, CAP_SYS_ADMIN: 21n };

/** Throws Vl3Error('permission-denied') that names what is missing. `status` as in /proc/self/status. */
export const checkPrivilege = (status = readFileSync('/proc/self/status', 'utf8')): void => {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  const missing = Object.entries(NEEDED).flatMap(([name, bit]) => ((effective >> bit) & 1n ? [] : [name]));
  if (missing.length === 0) return;
  throw new Vl3Error(
    'permission-denied',
    `no privilege to make interfaces and namespaces: run this as root, or with ${missing.join(' and ')}`,
  );
};
