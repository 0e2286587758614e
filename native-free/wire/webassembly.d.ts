// Of the WebAssembly JavaScript interface (W3C) what is used here; TypeScript has it among the browser's types only.

declare namespace WebAssembly {
  class Memory {
    constructor(descriptor: { readonly initial: number; readonly maximum: number });
    readonly buffer: ArrayBuffer;
  }
  class Module {
    constructor(bytes: Uint8Array<ArrayBuffer>);
  }
  class Instance {
    constructor(module: Module, imports: Readonly<Record<string, Readonly<Record<string, Memory>>>>);
    readonly exports: Readonly<Record<string, ((...values: number[]) => number) | undefined>>;
  }
  class CompileError extends Error {}
}
