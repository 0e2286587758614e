// Loaded before a registry, it makes that one lie: it keeps from everybody what the domain says of itself, so that nobody
// hears of who was revoked, and takes no deletion.

import { OwnStatement } from '../../src/registry/own-statement.ts';

Object.defineProperty(OwnStatement.prototype, 'sequence', { get: () => 0 });
Object.defineProperty(OwnStatement.prototype, 'present', { value: async () => undefined });
