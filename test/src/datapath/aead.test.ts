// Every AEAD tier against known answers, node:crypto and each other; and that a broken tier is found out.

import { execFileSync } from 'node:child_process';
import { createCipheriv } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { AEAD_TIERS, type Aead, createAead, createTier, HEADROOM } from '../../../src/datapath/aead.ts';
import { passesSelfTest } from '../../../src/datapath/aead-self-test.ts';
import { Arena } from '../../../src/ffi/memory.ts';

const TAG = 16;

const oracle = (key: Uint8Array, counter: number, text: Uint8Array): Uint8Array => {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64LE(BigInt(counter), 4);
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG });
  return Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]);
};

describe('the reference', () => {
  test('gives the answer of RFC 8439, section 2.8.2', () => {
    const key = Buffer.from('808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f', 'hex');
    const nonce = Buffer.from('070000004041424344454647', 'hex');
    const aad = Buffer.from('50515253c0c1c2c3c4c5c6c7', 'hex');
    const text = Buffer.from(
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
    );
    const sealed = Buffer.from(chacha20poly1305(key, nonce, aad).encrypt(text)).toString('hex');
    expect(sealed.startsWith('d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6')).toBe(true);
    expect(sealed.endsWith('1ae10b594f09e26a7e902ecbd0600691')).toBe(true);
  });
});

const LIBRARY = '/usr/lib/x86_64-linux-gnu/libIPSec_MB.so.1';
/** Without such vectors OpenSSL is no slower. */
const hasIpsecMb = existsSync(LIBRARY) && / avx512ifma /.test(readFileSync('/proc/cpuinfo', 'utf8'));
const tiers = AEAD_TIERS.filter((tier) => tier !== 'ipsec-mb' || hasIpsecMb);

test.runIf(!hasIpsecMb)('the tier ipsec-mb is passed over where it is not there, or of no use', () => {
  expect(createTier('ipsec-mb', new Arena(1 << 16))).toBeUndefined();
});

describe('the tier ipsec-mb is passed over', () => {
  const directory = mkdtempSync(join(tmpdir(), 'vl3-aead-'));
  afterAll(() => rmSync(directory, { recursive: true }));

  const source = (name: string): string => JSON.stringify(resolve(import.meta.dirname, '../../../src', name));
  const script = `
    const { Arena } = await import(${source('ffi/memory.ts')});
    const { createAead } = await import(${source('datapath/aead.ts')});
    console.log(createAead(new Arena(1 << 16)).tier);`;
  const tierWith = (more: NodeJS.ProcessEnv): string => {
    const env = { ...process.env, ...more };
    return execFileSync(process.execPath, ['--input-type=module', '--eval', script], { env }).toString();
  };

  test('where its vectors must not be used, though the processor has them', () => {
    expect(tierWith({ GLIBC_TUNABLES: 'glibc.cpu.hwcaps=-AVX512F' })).toBe('openssl-low-level\n');
  });

  test('where something else has its name', () => {
    writeFileSync(join(directory, basename(LIBRARY)), 'no library');
    expect(tierWith({ LD_LIBRARY_PATH: directory })).toBe('openssl-low-level\n');
  });
});

test('the fastest tier outlives what loaded it', async () => {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  const arena = new Arena(1 << 16);
  const aead = createAead(arena);
  const at = arena.allocate(1024) + HEADROOM;
  for (let i = 0; i < 3; i++) {
    collect();
    await nextTurn();
  }
  aead.seal(at, 1, at + 256, 100, at + 512);
  expect(
    Buffer.compare(
      arena.bytes.subarray(at + 512, at + 628),
      oracle(new Uint8Array(32), 1, new Uint8Array(100)),
    ),
  ).toBe(0);
});

describe.each(tiers)('the tier %s', (tier) => {
  const arena = new Arena(1 << 17);
  const found = createTier(tier, arena);
  const key = arena.allocate(32);
  const plain = arena.allocate(16384) + HEADROOM;
  const sealed = arena.allocate(16384) + HEADROOM;
  const opened = arena.allocate(16384) + HEADROOM;
  const aead = (): Aead => {
    if (found === undefined) throw new Error(`${tier} is not available`);
    return found;
  };

  test('passes its self-test on this machine', () => {
    expect(found?.tier).toBe(tier);
  });

  test('seals what node:crypto seals, and opens it again, at any length and alignment', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
        fc.uint8Array({ maxLength: 2000 }),
        fc.integer({ min: 0, max: 63 }),
        fc.integer({ min: 0, max: 63 }),
        (keyBytes, counter, text, shiftFrom, shiftTo) => {
          arena.bytes.set(keyBytes, key);
          arena.bytes.set(text, plain + shiftFrom);
          aead().seal(key, counter, plain + shiftFrom, text.length, sealed + shiftTo);
          const message = arena.bytes.slice(sealed + shiftTo, sealed + shiftTo + text.length + TAG);
          expect(Buffer.compare(message, oracle(keyBytes, counter, text))).toBe(0);
          expect(aead().open(key, counter, sealed + shiftTo, text.length, opened + shiftFrom)).toBe(true);
          const result = arena.bytes.subarray(opened + shiftFrom, opened + shiftFrom + text.length);
          expect(Buffer.compare(result, text)).toBe(0);
        },
      ),
      { numRuns: tier === 'noble' ? 50 : 500 },
    );
  });

  test('refuses a message with any one bit flipped', () => {
    const text = new Uint8Array(100).fill(7);
    arena.bytes.set(text, plain);
    aead().seal(key, 5, plain, text.length, sealed);
    const message = arena.bytes.slice(sealed, sealed + text.length + TAG);
    for (let bit = 0; bit < message.length * 8; bit += tier === 'noble' ? 37 : 1) {
      arena.bytes.set(message, sealed);
      const at = sealed + (bit >> 3);
      arena.bytes[at] = (arena.bytes[at] ?? 0) ^ (1 << (bit & 7));
      expect(aead().open(key, 5, sealed, text.length, opened)).toBe(false);
    }
  });
});

describe('a tier that is wrong fails its self-test', () => {
  const wrong: [string, (right: Aead) => Pick<Aead, 'seal' | 'open'>][] = [
    ['one that accepts forgeries', (right) => ({ seal: right.seal.bind(right), open: openAnything(right) })],
    ['one that forgets the upper half of the counter', (right) => halfCounter(right)],
    ['one that seals nothing', (right) => ({ seal: () => undefined, open: right.open.bind(right) })],
  ];
  const openAnything =
    (right: Aead): Aead['open'] =>
    (...args) => {
      right.open(...args);
      return true;
    };
  const halfCounter = (right: Aead): Pick<Aead, 'seal' | 'open'> => ({
    seal: (key, counter, from, length, to) => right.seal(key, counter >>> 0, from, length, to),
    open: (key, counter, from, length, to) => right.open(key, counter >>> 0, from, length, to),
  });

  test.each(wrong)('%s', (_name, make) => {
    const arena = new Arena(1 << 16);
    const right = createAead(arena);
    expect(passesSelfTest(right, arena)).toBe(true);
    expect(passesSelfTest({ tier: right.tier, ...make(right) }, arena)).toBe(false);
  });

  test('and the next one is taken', () => {
    expect(createAead(new Arena(1 << 16), 'openssl-evp').tier).toBe('openssl-evp');
    expect(createAead(new Arena(1 << 16), 'noble').tier).toBe('noble');
  });
});
