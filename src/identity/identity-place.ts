// Where an identity comes from that is not the registry's to give: a SPIFFE agent's socket, or a directory of files.

import { isAbsolute } from 'node:path';
import { Vl3Error } from '../../native-free/error.ts';
import { IdentitySource, type IdentitySourceDeps, type OfferFeed } from './identity-source.ts';
import type { Wanted } from './svid.ts';
import { SVID_FILE_NAMES, type SvidFileNames, SvidFiles } from './svid-files.ts';
import { WorkloadApi } from './workload-api.ts';

export type IdentityPlace =
  | { readonly kind: 'workload-api'; readonly socket: string }
  | { readonly kind: 'files'; readonly directory: string; readonly names?: SvidFileNames };

/** Of sockets (sun_path). */
const MAX_SOCKET_PATH = 107;

/** "unix:///run/spire/agent.sock", as in SPIFFE_ENDPOINT_SOCKET, or "/run/vl3-svid". Throws Vl3Error('invalid-argument'). */
export const parseIdentityPlace = (text: string): IdentityPlace => {
  const socket = /^unix:(?:\/\/)?(\/[^?#]*)$/.exec(text)?.[1];
  if (socket !== undefined && !socket.endsWith('/') && Buffer.byteLength(socket) <= MAX_SOCKET_PATH)
    return { kind: 'workload-api', socket };
  if (isAbsolute(text)) return { kind: 'files', directory: text };
  throw new Vl3Error(
    'invalid-argument',
    text.startsWith('tcp:')
      ? 'only a socket of this machine tells a SPIFFE agent who asks: write it like unix:///run/spire/agent.sock'
      : 'write a socket like unix:///run/spire/agent.sock, or the whole path of a directory of files',
  );
};

/** "svid.pem,svid_key.pem,svid_bundle.pem". Throws Vl3Error('invalid-argument'). */
export const parseFileNames = (text: string): SvidFileNames => {
  const [certificate, key, bundle, ...more] = text.split(',').map((one) => one.trim());
  const names = [certificate, key, bundle];
  const areNames = names.every(
    (one) => one !== undefined && /^[\w.-]{1,100}$/.test(one) && !/^\.+$/.test(one),
  );
  if (certificate === undefined || key === undefined || bundle === undefined || more.length > 0 || !areNames)
    throw new Vl3Error(
      'invalid-argument',
      `write the names of three files in that directory, certificate, key and bundle, like ${Object.values(SVID_FILE_NAMES).join(',')}`,
    );
  return { certificate, key, bundle };
};

export const formatIdentityPlace = (place: IdentityPlace): string =>
  place.kind === 'files' ? place.directory : `unix://${place.socket}`;

/** Begins at once; the owner disposes of it. */
export const openIdentitySource = (
  place: IdentityPlace,
  wanted: Wanted,
  deps: IdentitySourceDeps,
): IdentitySource => new IdentitySource(feedOf(place), wanted, deps);

const feedOf = (place: IdentityPlace): OfferFeed =>
  place.kind === 'files' ? new SvidFiles(place) : new WorkloadApi(place);
