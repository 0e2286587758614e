// "host:port" as people write it, with an IPv6 address in brackets: 203.0.113.7:51820, [2001:db8::7]:51820,
// registry.example:7443. Not here: whether the host is one (each reader knows what it accepts).

export interface HostPort {
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
}

export const formatHostPort = ({ host, port }: HostPort): string =>
  `${host.includes(':') ? `[${host}]` : host}:${port}`;
