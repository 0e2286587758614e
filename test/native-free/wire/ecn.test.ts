import { expect, test } from 'vitest';
import { CE, ECT_0, ECT_1, enterTunnel, leaveTunnel, NOT_ECT } from '../../../native-free/wire/ecn.ts';

test('the outer header takes over the mark of the inner one', () => {
  expect([NOT_ECT, ECT_1, ECT_0, CE].map(enterTunnel)).toEqual([NOT_ECT, ECT_1, ECT_0, CE]);
});

// RFC 6040, figure 4; a line an inner mark, its columns the outer ones Not-ECT, ECT(0), ECT(1), CE.
test.each([
  ['Not-ECT', NOT_ECT, [NOT_ECT, NOT_ECT, NOT_ECT, -1]],
  ['ECT(0)', ECT_0, [ECT_0, ECT_0, ECT_1, CE]],
  ['ECT(1)', ECT_1, [ECT_1, ECT_1, ECT_1, CE]],
  ['CE', CE, [CE, CE, CE, CE]],
])('an inner %s leaves the tunnel as the RFC has it', (_, inner, expected) => {
  expect([NOT_ECT, ECT_0, ECT_1, CE].map((outer) => leaveTunnel(inner, outer))).toEqual(expected);
});
