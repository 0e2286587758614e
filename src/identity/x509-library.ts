// The way to @peculiar/x509, which makes certificates and requests. It takes 100 ms to load and is needed once a day,
// so it is loaded when used; reading and verifying (certificate.ts, chain.ts) do without it.

type Metadata = Map<unknown, unknown>;
interface ReflectMetadata {
  readonly ownKeys: unknown;
  getMetadata?: (key: unknown, target: object) => unknown;
  getOwnMetadata?: (key: unknown, target: object) => unknown;
  defineMetadata?: (key: unknown, value: unknown, target: object) => void;
}

export const loadX509 = async () => {
  provideReflectMetadata(Reflect);
  return await import('@peculiar/x509');
};

/**
 * The library's dependency injection wants the abandoned metadata proposal and throws without it. These three
 * functions are all it calls; a real polyfill that is already there is left alone.
 */
const provideReflectMetadata = (reflect: ReflectMetadata): void => {
  if (reflect.getMetadata !== undefined) return;
  const all = new WeakMap<object, Metadata>();
  reflect.getOwnMetadata = (key, target) => all.get(target)?.get(key);
  reflect.getMetadata = (key, target) => {
    for (let at: object | null = target; at !== null; at = Object.getPrototypeOf(at)) {
      const own = all.get(at);
      if (own?.has(key)) return own.get(key);
    }
    return undefined;
  };
  reflect.defineMetadata = (key, value, target) => {
    const own = all.get(target) ?? new Map();
    all.set(target, own.set(key, value));
  };
};
