// Loaded before an agent's program: it announces what is not its own on networks of other domains. VL3_TEST_LIE says what: the
// prefix of another node, or names that its domain was not given.

import { Federations } from '../../src/agent/federations.ts';
import { OwnRecord } from '../../src/agent/own-record.ts';

const { VL3_TEST_LIE: lie } = process.env;

if (lie === 'names') {
  const { get } = Federations.prototype;
  Federations.prototype.get = function (trustDomain) {
    const known = get.call(this, trustDomain);
    return known && { ...known, names: ['red1'] };
  };
} else if (lie !== undefined) {
  const { content } = OwnRecord.prototype;
  OwnRecord.prototype.content = function () {
    const own = content.call(this);
    return { ...own, prefixes: [{ prefix: lie, leasedAt: 1 }, ...own.prefixes] };
  };
}
