// Overwrites secrets that are not needed any more. What a runtime has copied or moved by itself is out of reach; what is held in
// arrays is not.

export const wipe = (...secrets: readonly (Uint8Array | undefined)[]): void => {
  for (const secret of secrets) secret?.fill(0);
};
