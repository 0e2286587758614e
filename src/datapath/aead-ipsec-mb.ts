// The fastest AEAD tier: libipsec-mb, one call a packet. All jobs of this kind are done when the call returns, so the ring
// of jobs is empty then and the same job is next again: what never changes of it is filled in once. The library does not
// verify a tag, it makes the one that ought to be there.
//
// struct IMB_JOB, 200 B (intel-ipsec-mb.h 1.3; lengths and offsets u64, kinds u32)
//
//   0 enc_keys*   8 dec_keys*   16 key_len   24 src*   32 dst*   40 cipher_start   48 msg_len_to_cipher   56 hash_start
//   64 msg_len_to_hash   72 iv*   80 iv_len   88 auth_tag*   96 auth_tag_len   104 aad*   112 aad_len
//   128 status   132 cipher_mode   136 cipher_direction   140 hash_alg   144 chain_order

import type { IpsecMb } from '../ffi/ipsec-mb.ts';
import type { Arena } from '../ffi/memory.ts';
import type { Aead } from './aead.ts';

const TAG = 16;
const KEY = 32;
const NONCE = 12;

const JOB = 200;
const ENC_KEYS = 0;
const DEC_KEYS = 8;
const KEY_LENGTH = 16;
const SOURCE = 24;
const DESTINATION = 32;
const CIPHER_LENGTH = 48;
const HASH_LENGTH = 64;
const IV = 72;
const IV_LENGTH = 80;
const AUTH_TAG = 88;
const AUTH_TAG_LENGTH = 96;
const AAD = 104;
const STATUS = 128;
const CIPHER_MODE = 132;
const CIPHER_DIRECTION = 136;
const HASH_ALGORITHM = 140;
const CHAIN_ORDER = 144;

const CIPHER_CHACHA20_POLY1305 = 19;
const AUTH_CHACHA20_POLY1305 = 29;
const STATUS_COMPLETED = 3;
const ENCRYPT = 1;
const DECRYPT = 2;
const CIPHER_THEN_HASH = 1;
const HASH_THEN_CIPHER = 2;

/** The job of this thread's manager: one for all that seals and opens here. */
interface Job {
  readonly view: DataView;
  /** Offsets in the library's arena. */
  readonly at: number;
  readonly nonce: number;
  readonly tag: number;
}

let prepared: { readonly job: Job | undefined } | undefined;

export class IpsecMbAead implements Aead {
  readonly tier = 'ipsec-mb';
  readonly #library: IpsecMb;
  /** Of the messages and keys. */
  readonly #view: DataView;
  readonly #base: number;
  readonly #jobView: DataView;
  readonly #job: number;
  readonly #nonce: number;
  readonly #tag: number;

  static create(arena: Arena, library: IpsecMb): IpsecMbAead | undefined {
    prepared ??= { job: isLow(library.arena) ? prepare(library) : undefined };
    const { job } = prepared;
    return job === undefined || !isLow(arena) ? undefined : new IpsecMbAead(arena, library, job);
  }

  private constructor(arena: Arena, library: IpsecMb, job: Job) {
    this.#library = library;
    this.#view = arena.view;
    this.#base = arena.address;
    this.#jobView = job.view;
    this.#job = job.at;
    this.#nonce = job.nonce;
    this.#tag = job.tag;
  }

  seal(key: number, counter: number, from: number, length: number, to: number): void {
    const view = this.#jobView;
    const job = this.#job;
    view.setUint32(job + CIPHER_DIRECTION, ENCRYPT, true);
    view.setUint32(job + CHAIN_ORDER, CIPHER_THEN_HASH, true);
    view.setUint32(job + ENC_KEYS, this.#base + key, true);
    view.setUint32(job + AUTH_TAG, this.#base + to + length, true);
    this.#run(counter, from, length, to);
  }

  open(key: number, counter: number, from: number, length: number, to: number): boolean {
    const jobView = this.#jobView;
    const job = this.#job;
    const tag = this.#tag;
    jobView.setUint32(job + CIPHER_DIRECTION, DECRYPT, true);
    jobView.setUint32(job + CHAIN_ORDER, HASH_THEN_CIPHER, true);
    jobView.setUint32(job + DEC_KEYS, this.#base + key, true);
    jobView.setUint32(job + ENC_KEYS, this.#base + key, true);
    jobView.setUint32(job + AUTH_TAG, this.#library.arena.address + tag, true);
    this.#run(counter, from, length, to);
    const view = this.#view;
    const end = from + length;
    return (
      ((view.getUint32(end, true) ^ jobView.getUint32(tag, true)) |
        (view.getUint32(end + 4, true) ^ jobView.getUint32(tag + 4, true)) |
        (view.getUint32(end + 8, true) ^ jobView.getUint32(tag + 8, true)) |
        (view.getUint32(end + 12, true) ^ jobView.getUint32(tag + 12, true))) ===
      0
    );
  }

  #run(counter: number, from: number, length: number, to: number): void {
    const view = this.#jobView;
    const job = this.#job;
    view.setUint32(job + SOURCE, this.#base + from, true);
    view.setUint32(job + DESTINATION, this.#base + to, true);
    view.setUint32(job + CIPHER_LENGTH, length, true);
    view.setUint32(job + HASH_LENGTH, length, true);
    const high = Math.floor(counter / 0x1_0000_0000);
    view.setUint32(this.#nonce + 4, counter - high * 0x1_0000_0000, true);
    view.setUint32(this.#nonce + 8, high, true);
    const { manager, list, submitBurst } = this.#library;
    const isDone =
      submitBurst(manager, 1, list) === 1 && view.getUint32(job + STATUS, true) === STATUS_COMPLETED;
    if (!isDone) throw new Error('libipsec-mb has not done its job');
  }
}

/** So that the upper halves of pointers are zero and stay so. */
const isLow = ({ address, bytes }: Arena): boolean => address + bytes.length <= 2 ** 32;

/** Undefined if the ring of jobs is not what this file takes it for. */
const prepare = (library: IpsecMb): Job | undefined => {
  const { arena, manager, list, submitBurst } = library;
  const nonce = arena.allocate(64);
  const tag = nonce + TAG;
  // What the library's self-test has left in the ring goes with the first one.
  for (let attempt = 0; attempt < 2; attempt++) {
    const at = nextJob(library);
    fill(arena, at, nonce, tag);
    if (submitBurst(manager, 1, list) !== 1) return undefined;
    if (nextJob(library) === at) return { view: arena.view, at, nonce, tag };
  }
  return undefined;
};

/** Offset in the library's arena. */
const nextJob = ({ arena, manager, list, getNextBurst }: IpsecMb): number => {
  if (getNextBurst(manager, 1, list) !== 1) throw new Error('libipsec-mb has no job left');
  return arena.getUint64(list - arena.address) - arena.address;
};

/** A job that seals nothing, with all that the jobs to come have in common. */
const fill = (arena: Arena, job: number, nonce: number, tag: number): void => {
  arena.bytes.fill(0, job, job + JOB);
  for (const field of [ENC_KEYS, DEC_KEYS, SOURCE, DESTINATION, IV, AAD])
    arena.setPointer(job + field, nonce);
  arena.setPointer(job + AUTH_TAG, tag);
  arena.setUint64(job + KEY_LENGTH, KEY);
  arena.setUint64(job + IV_LENGTH, NONCE);
  arena.setUint64(job + AUTH_TAG_LENGTH, TAG);
  arena.view.setUint32(job + CIPHER_MODE, CIPHER_CHACHA20_POLY1305, true);
  arena.view.setUint32(job + CIPHER_DIRECTION, ENCRYPT, true);
  arena.view.setUint32(job + HASH_ALGORITHM, AUTH_CHACHA20_POLY1305, true);
  arena.view.setUint32(job + CHAIN_ORDER, CIPHER_THEN_HASH, true);
};
