// Where a namespace's own resolver is: on its loopback, but not at 127.0.0.1, which the command may want for itself.

export const RESOLVER_ADDRESS = '127.0.0.53';
