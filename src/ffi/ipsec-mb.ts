// Intel's multi-buffer crypto library for IPsec (libipsec-mb), where the machine has it, through the FFI library. It seals
// with vectors of 512 bits, cipher and authenticator in one call. A manager of it is a block of memory with its table of
// functions and its ring of jobs; this one lies in an arena, so that jobs are filled in without a call. Job layouts are in
// src/datapath/aead-ipsec-mb.ts.
//
// struct IMB_MGR (intel-ipsec-mb.h 1.3)   8 features u64   56 used_arch u32   952 get_next_burst*   968 submit_burst_nocheck*

import koffi from 'koffi';
import { Arena } from './memory.ts';

/** By soname and version, since both structs differ from one version to the next. */
const LIBRARY = 'libIPSec_MB.so.1';
const VERSION_1_3 = 0x0103;

const POINTER = 'uintptr_t';
/** Of glibc: u32 EAX, EBX, ECX, EDX of a CPUID leaf, as the processor has it and then what of it may be used (sys/platform/x86.h). */
const CPUID_LEAF_7 = 1;
const USABLE_EBX = 5;
/** AVX-512 F, DQ, IFMA, CD, BW and VL. */
const AVX512 = ((1 << 16) | (1 << 17) | (1 << 21) | (1 << 28) | (1 << 30) | (1 << 31)) >>> 0;

const FEATURES = 8;
const USED_ARCHITECTURE = 56;
const GET_NEXT_BURST = 952;
const SUBMIT_BURST_NOCHECK = 968;
const ARCHITECTURE_AVX512 = 5;
const FEATURE_AVX512_IFMA = 1 << 17;
const FEATURE_SELF_TEST_PASS = 1 << 21;
const RESET = 1;

/** `jobs`: the address of an array of `count` pointers to jobs. Returns how many of them are done. */
type Burst = (manager: number, count: number, jobs: number) => number;

export interface IpsecMb {
  /** Where the manager is. */
  readonly arena: Arena;
  /** The arguments of the functions below: the manager, and a list of one pointer to a job. */
  readonly manager: number;
  readonly list: number;
  /** Fills the list with the jobs that are to be submitted next. */
  readonly getNextBurst: Burst;
  /** Carries out the jobs in the list, and fills it with those that are done. */
  readonly submitBurst: Burst;
  /** Without it, the library would be unloaded under its functions. */
  readonly library: object;
}

const LIST = 8;
const SPARE = 4096;

let loaded: { readonly value: IpsecMb | undefined } | undefined;

/**
 * This thread's manager. Undefined where the library is missing or of another version, fails its own self-test, or has
 * nothing faster for this processor than OpenSSL has: with 256 bits its Poly1305 takes one number at a time.
 *
 * The library goes by what the processor has, and dies where the kernel or a hypervisor does not let it be used, so glibc is asked
 * before.
 */
export const loadIpsecMb = (): IpsecMb | undefined => {
  loaded ??= { value: load() };
  return loaded.value;
};

/** Gives the manager back. The last thing its thread does with it. */
export const unloadIpsecMb = (): void => {
  loaded?.value?.arena.unmap();
  loaded = { value: undefined };
};

/** Throws where glibc cannot tell. */
const mayUseAvx512 = (): boolean => {
  const leaf: (index: number) => number = koffi
    .load(null)
    .func('__x86_get_cpuid_feature_leaf', POINTER, ['uint']);
  const words: Uint32Array = koffi.decode(leaf(CPUID_LEAF_7), koffi.array('uint32_t', 8, 'Typed'));
  return ((words[USABLE_EBX] ?? 0) & AVX512) >>> 0 === AVX512;
};

const load = (): IpsecMb | undefined => {
  if (process.arch !== 'x64') return undefined;
  try {
    if (!mayUseAvx512()) return undefined;
    const library = koffi.load(LIBRARY);
    const version: () => number = library.func('imb_get_version', 'uint', []);
    if (version() >>> 8 !== VERSION_1_3) return undefined;
    const size: () => number = library.func('imb_get_mb_mgr_size', 'size_t', []);
    const setPointers: (memory: number, flags: number, reset: number) => number = library.func(
      'imb_set_pointers_mb_mgr',
      POINTER,
      [POINTER, 'uint64_t', 'uint'],
    );
    const init: (manager: number, architecture: number) => undefined = library.func(
      'init_mb_mgr_auto',
      'void',
      [POINTER, POINTER],
    );
    const arena = new Arena(size() + SPARE);
    const manager = arena.allocate(size());
    const list = arena.allocate(LIST);
    const { view } = arena;
    setPointers(arena.address + manager, 0, RESET);
    init(arena.address + manager, 0);
    const features = view.getUint32(manager + FEATURES, true);
    const isFast =
      view.getUint32(manager + USED_ARCHITECTURE, true) === ARCHITECTURE_AVX512 &&
      (features & FEATURE_AVX512_IFMA) !== 0 &&
      (features & FEATURE_SELF_TEST_PASS) !== 0;
    if (!isFast) {
      arena.unmap();
      return undefined;
    }
    const burst = koffi.proto('uint32_t (uintptr_t manager, uint32_t count, uintptr_t jobs)');
    const at = (offset: number): Burst => koffi.decode(arena.getUint64(manager + offset), burst);
    return {
      arena,
      manager: arena.address + manager,
      list: arena.address + list,
      getNextBurst: at(GET_NEXT_BURST),
      submitBurst: at(SUBMIT_BURST_NOCHECK),
      library,
    };
  } catch {
    return undefined;
  }
};
