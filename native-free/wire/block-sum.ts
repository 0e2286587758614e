// The checksum's inner loop as vector code: a WebAssembly module of one function, put together here from its instructions,
// for memory that is a WebAssembly.Memory, too. Four to five times as fast as the loop in checksum.ts over a full packet.

/** The sum of the 16-bit words, in host order, of `blocks` (1 to 1024) blocks of 64 bytes from `at` on, modulo 2^32. */
export type BlockSum = (at: number, blocks: number) => number;

export const BLOCK = 64;

/** Undefined where there is no vector code. */
export const blockSumOf = (memory: WebAssembly.Memory): BlockSum | undefined => {
  const module = compiledBlockSum();
  return module === undefined
    ? undefined
    : new WebAssembly.Instance(module, { m: { m: memory } }).exports['s'];
};

let compiled: WebAssembly.Module | undefined;

/**
 * Once a thread, and kept. V8 has one copy of the code for all threads of a process and frees it with the last of them; where
 * several ended at once, that has ended the process ("end > addr" in ThreadIsolation). So who starts threads holds one, too.
 */
export const compiledBlockSum = (): WebAssembly.Module | undefined => {
  try {
    compiled ??= new WebAssembly.Module(moduleBytes());
    return compiled;
  } catch (error) {
    if (error instanceof WebAssembly.CompileError) return undefined;
    throw error;
  }
};

// WebAssembly core specification 2.0, chapter 5 (binary format).
const MAGIC = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
const [TYPES, IMPORTS, FUNCTIONS, EXPORTS, CODE] = [1, 2, 3, 7, 10];
const [I32, V128, FUNCTION_TYPE, NO_RESULT, MEMORY_IMPORT] = [0x7f, 0x7b, 0x60, 0x40, 0x02];
const [LOOP, END, BRANCH_IF] = [0x03, 0x0b, 0x0d];
const [GET, SET, TEE, CONST, ADD, SUBTRACT] = [0x20, 0x21, 0x22, 0x41, 0x6a, 0x6b];
const SIMD = 0xfd;
const [LOAD, LANE, ADD_PAIRS, ADD_LANES] = [0x00, 0x1b, 0x7f, 0xae];

/** Parameters and locals: where it is, blocks left, and four accumulators of four 32-bit lanes each. */
const [AT, LEFT] = [0, 1];
const ACCUMULATORS = [2, 3, 4, 5];
const LANES = [0, 1, 2, 3];

const moduleBytes = (): Uint8Array<ArrayBuffer> =>
  Uint8Array.from([
    ...MAGIC,
    ...section(TYPES, list([[FUNCTION_TYPE, ...list([[I32], [I32]]), ...list([[I32]])]])),
    ...section(IMPORTS, list([[...name('m'), ...name('m'), MEMORY_IMPORT, 0, 0]])),
    ...section(FUNCTIONS, list([[0]])),
    ...section(EXPORTS, list([[...name('s'), 0, 0]])),
    ...section(CODE, list([sized([...list([[ACCUMULATORS.length, V128]]), ...instructions()])])),
  ]);

const instructions = (): number[] => [
  ...[LOOP, NO_RESULT],
  // Each accumulator takes 16 of the block's bytes, two words a lane.
  ...ACCUMULATORS.flatMap((accumulator, i) => [
    ...[GET, accumulator],
    ...[GET, AT, SIMD, LOAD, 0, i * 16],
    ...[SIMD, ADD_PAIRS],
    ...[SIMD, ...leb(ADD_LANES)],
    ...[SET, accumulator],
  ]),
  ...[GET, AT, CONST, ...signedLeb(BLOCK), ADD, SET, AT],
  ...[GET, LEFT, CONST, 1, SUBTRACT, TEE, LEFT, BRANCH_IF, 0],
  END,
  ...ACCUMULATORS.flatMap((accumulator, i) => [
    GET,
    accumulator,
    ...(i > 0 ? [SIMD, ...leb(ADD_LANES)] : []),
  ]),
  ...[SET, ACCUMULATORS[0] ?? 0],
  ...LANES.flatMap((lane) => [GET, ACCUMULATORS[0] ?? 0, SIMD, LANE, lane, ...(lane > 0 ? [ADD] : [])]),
  END,
];

/** LEB128, below 2^14. */
const leb = (value: number): number[] => (value < 0x80 ? [value] : [(value & 0x7f) | 0x80, value >>> 7]);
const signedLeb = (value: number): number[] =>
  value < 0x40 ? [value] : [(value & 0x7f) | 0x80, value >>> 7];

const sized = (bytes: readonly number[]): number[] => [...leb(bytes.length), ...bytes];
const list = (items: readonly (readonly number[])[]): number[] => [...leb(items.length), ...items.flat()];
const section = (id: number, bytes: readonly number[]): number[] => [id, ...sized(bytes)];
const name = (text: string): number[] => sized([...text].map((letter) => letter.charCodeAt(0)));
