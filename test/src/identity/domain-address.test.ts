import { expect, test } from 'vitest';
import { formatDomainAddress, parseDomainAddress } from '../../../src/identity/domain-address.ts';

const address = {
  registries: ['registry.example:7443', '192.0.2.1:7443', '[2001:db8::1]:7443'],
  trustDomain: 'aws-prod.example',
  caFingerprint: new Uint8Array(32).map((_, i) => i),
};
const CA = 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8';
const TEXT = `vl3://aws-prod.example?ca=${CA}&registry=registry.example:7443&registry=192.0.2.1:7443&registry=[2001:db8::1]:7443`;

test("a domain's address is one readable line, and reads back", () => {
  expect(formatDomainAddress(address)).toBe(TEXT);
  expect(parseDomainAddress(` ${TEXT}\n`)).toEqual(address);
});

test.each([
  '',
  'vl3j1.abc',
  'https://aws-prod.example',
  `vl3://?ca=${CA}&registry=a`,
  `vl3://Two Words?ca=${CA}&registry=a`,
  'vl3://a?registry=b',
  `vl3://a?ca=${CA}`,
  `vl3://a?ca=${CA.slice(1)}&registry=b`,
  // The last character says nothing that 32 bytes could hold.
  `vl3://a?ca=${CA.slice(0, -1)}9&registry=b`,
  `vl3://a?ca=${CA}&ca=${CA}&registry=b`,
  `vl3://a?ca=${CA}&registry=b&more=c`,
  `vl3://a?ca=${CA}&registry=b:99999`,
  `vl3://a?ca=${CA}&registry=http://b`,
  `vl3://a?ca=${CA}${'&registry=b'.repeat(17)}`,
  `vl3://a?ca=${CA}&registry=${'b'.repeat(9000)}`,
])('what is none is refused: %s', (text) => {
  expect(() => parseDomainAddress(text)).toThrow(/vl3 registry domain|is not a registry's address/);
});
