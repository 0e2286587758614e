// What a CNI plugin answers when it cannot do what it was asked (CNI specification 1.1, section 5, "Error"). Not a
// Vl3Error: codes are the specification's, and the plugin imports nothing that it does not need to start.

export const CNI_CODE = {
  incompatibleVersion: 1,
  badEnvironment: 4,
  io: 5,
  notDecoded: 6,
  badConfiguration: 7,
  tryAgainLater: 11,
  /** STATUS: ADD cannot be served. */
  notAvailable: 50,
  // From 100 on they are the plugin's own.
  /** What is asked for can never be, or not while things are as they are. */
  refused: 100,
  /** CHECK: an interface is not as it was made. */
  notAsMade: 101,
  internal: 999,
} as const;

export class CniError extends Error {
  readonly code: number;
  readonly details: string | undefined;

  constructor(code: number, message: string, details?: string) {
    super(message);
    this.name = 'CniError';
    this.code = code;
    this.details = details;
  }
}
