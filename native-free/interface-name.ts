// What a pod's interface may be called: by the kernel, by the folders of /proc/sys, and because some belong to the pod.

/** IFNAMSIZ less the terminating zero. */
export const MAX_INTERFACE_NAME = 15;

// "all" and "default" are folders beside the interfaces in /proc/sys; the others belong to the pod.
const RESERVED = new Set(['lo', 'eth0', 'all', 'default']);

/** What is wrong with it and the remedy, in a sentence; undefined: nothing. */
export const interfaceNameProblem = (name: string): string | undefined => {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(name) || name.length > MAX_INTERFACE_NAME)
    return `"${name}" can't name an interface: use 1 to ${MAX_INTERFACE_NAME} letters, digits, "-", "_" or ".", starting with a letter or digit`;
  if (RESERVED.has(name)) return `an interface can't be called "${name}": choose another name`;
  return undefined;
};
