// What the twin counts and the workers count, name by name.

/** What the twin calls it, and what the workers do. */
export const NAMES: Readonly<Record<string, string>> = {
  'out malformed-packet': 'out dropped:malformed',
  'out no-peer': 'out dropped:no-peer',
  'out no-endpoint': 'out dropped:no-endpoint',
  'out staged-overflow': 'out dropped:staged-overflow',
  'out handshake-given-up': 'out dropped:given-up',
  'in malformed-message': 'in dropped:malformed',
  'in unknown-index': 'in dropped:unknown-index',
  'in keypair-expired': 'in dropped:expired',
  'in unauthentic': 'in dropped:forged',
  'in replayed-counter': 'in dropped:replayed',
  'in malformed-packet': 'in dropped:bad-inside',
  'in wrong-source': 'in dropped:wrong-source',
  'in congested': 'in dropped:congested',
};
/** Each message that came has one of these. */
export const ENDS = [
  'in packets',
  'in handshakes',
  'in dropped:malformed',
  'in dropped:unknown-index',
  'in dropped:expired',
  'in dropped:forged',
  'in dropped:replayed',
  'in dropped:bad-mac1',
  'in dropped:flooded',
  'in dropped:queue-full',
];
