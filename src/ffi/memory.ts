// Memory with an address that never changes: what system calls and the AEAD read and write. An arena is one thread's;
// it hands out aligned regions, at start, and never takes them back. Offsets are relative to the arena. It is mapped
// below 2 GB where that can be had: such addresses are small integers to V8, and an FFI call with them allocates
// nothing and is some 10 ns shorter. V8 puts the memory of WebAssembly elsewhere: an arena for vector code is mapped
// there, too, the same pages at two places.

import {
  addressOf,
  close,
  errno,
  errnoName,
  ftruncate,
  MAP_32BIT,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  MFD_CLOEXEC,
  MFD_NOEXEC_SEAL,
  memfdCreate,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
  viewOf,
} from './libc.ts';

const PAGE = 4096;
const WASM_PAGE = 65536;

export class Arena {
  readonly buffer: ArrayBuffer;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** The address of offset 0. */
  readonly address: number;
  /** The same memory, to WebAssembly, if it was asked for and can be had. */
  readonly alias: WebAssembly.Memory | undefined;
  #next = 0;

  constructor(length: number, isForVectors = false) {
    const size = Math.ceil(length / PAGE) * PAGE;
    const twice = isForVectors ? mapTwice(size) : undefined;
    this.address = twice?.address ?? mapOnce(size);
    this.alias = twice?.alias;
    this.buffer = viewOf(this.address, size);
    this.bytes = new Uint8Array(this.buffer);
    this.view = new DataView(this.buffer);
  }

  /** Hands out `length` zeroed bytes at a multiple of `align` (64: a cache line). Returns the offset. */
  allocate(length: number, align = 64): number {
    const offset = Math.ceil(this.#next / align) * align;
    if (offset + length > this.bytes.length) throw new RangeError(`arena of ${this.bytes.length} B is full`);
    this.#next = offset + length;
    return offset;
  }

  /** Writes the address of `target` (an offset in this arena) as a 64-bit pointer at `offset`. */
  setPointer(offset: number, target: number): void {
    this.setUint64(offset, this.address + target);
  }

  /** Writes an integer below 2^53 as 64 bits. */
  setUint64(offset: number, value: number): void {
    const high = Math.floor(value / 0x1_0000_0000);
    this.view.setUint32(offset, value - high * 0x1_0000_0000, true);
    this.view.setUint32(offset + 4, high, true);
  }

  /** Reads 64 bits; exact below 2^53. */
  getUint64(offset: number): number {
    return this.view.getUint32(offset, true) + this.view.getUint32(offset + 4, true) * 0x1_0000_0000;
  }

  /** Gives the memory back. The last thing its thread does with it: a later access ends the process. */
  unmap(): void {
    munmap(this.address, this.bytes.length);
  }
}

const mapOnce = (length: number): number => {
  const address = map(length, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  if (address === -1) throw new Error(`cannot map ${length} B of memory: ${errnoName(errno())}`);
  return address;
};

/** Undefined where the kernel or V8 will not have it. */
const mapTwice = (length: number): { address: number; alias: WebAssembly.Memory } | undefined => {
  const sealed = memfdCreate('vl3-arena', MFD_CLOEXEC | MFD_NOEXEC_SEAL);
  const fd = sealed < 0 ? memfdCreate('vl3-arena', MFD_CLOEXEC) : sealed;
  if (fd < 0) return undefined;
  try {
    if (ftruncate(fd, length) !== 0) return undefined;
    const pages = Math.ceil(length / WASM_PAGE);
    const alias = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const place = addressOf(new Uint8Array(alias.buffer));
    if (mmap(place, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !== place)
      return undefined;
    const address = map(length, MAP_SHARED, fd);
    return address === -1 ? undefined : { address, alias };
  } catch (error) {
    // No address space for it.
    if (error instanceof RangeError) return undefined;
    throw error;
  } finally {
    close(fd);
  }
};

/** Low if it can be; -1: nowhere. */
const map = (length: number, flags: number, fd: number): number => {
  const protection = PROT_READ | PROT_WRITE;
  const low = process.arch === 'x64' ? mmap(0, length, protection, flags | MAP_32BIT, fd, 0) : -1;
  return low === -1 ? mmap(0, length, protection, flags, fd, 0) : low;
};
