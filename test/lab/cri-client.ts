// What a kubelet asks of its container runtime to run a pod's sandbox (CRI, runtime.v1): written by hand, since vl3 itself never
// asks for it.

import { connect } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';

export interface SandboxConfig {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly attempt: number;
  readonly annotations: Readonly<Record<string, string>>;
  readonly logDirectory: string;
  readonly cgroupParent: string;
}

const [LENGTH, VARINT] = [2, 0];

type Field = readonly [number: number, value: string | number | Uint8Array];

const message = (...fields: readonly Field[]): Uint8Array => {
  const writer = new BinaryWriter();
  for (const [number, value] of fields) {
    if (typeof value === 'number') writer.tag(number, VARINT).uint32(value);
    else if (typeof value === 'string') writer.tag(number, LENGTH).string(value);
    else writer.tag(number, LENGTH).bytes(value);
  }
  return writer.finish();
};

const map = (number: number, entries: Readonly<Record<string, string>>): Field[] =>
  Object.entries(entries).map(([key, value]): Field => [number, message([1, key], [2, value])]);

const configOf = (of: SandboxConfig): Uint8Array => {
  const { uid, namespace, name, attempt, annotations, logDirectory, cgroupParent } = of;
  const labels = {
    'io.kubernetes.pod.name': name,
    'io.kubernetes.pod.namespace': namespace,
    'io.kubernetes.pod.uid': uid,
  };
  return message(
    [1, message([1, name], [2, uid], [3, namespace], [4, attempt])],
    [2, name],
    [3, logDirectory],
    ...map(6, labels),
    ...map(7, annotations),
    [8, message([1, cgroupParent])],
  );
};

/** The sandbox's id. Rejects with the runtime's words. */
export const runPodSandbox = async (socket: string, config: SandboxConfig): Promise<string> => {
  const reader = new BinaryReader(await call(socket, 'RunPodSandbox', message([1, configOf(config)])));
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 1) return reader.string();
    reader.skip(type);
  }
  throw new Error('a sandbox without an id');
};

export const stopPodSandbox = (socket: string, id: string): Promise<Uint8Array> =>
  call(socket, 'StopPodSandbox', message([1, id]));

export const removePodSandbox = (socket: string, id: string): Promise<Uint8Array> =>
  call(socket, 'RemovePodSandbox', message([1, id]));

/** Rejects while it does not answer. */
export const runtimeVersion = (socket: string): Promise<Uint8Array> =>
  call(socket, 'Version', message([1, 'v1']));

/** Whether the runtime has the image: one that was imported beside it is seen a moment later. */
export const hasImage = async (socket: string, image: string): Promise<boolean> =>
  (await call(socket, 'ImageStatus', message([1, message([1, image])]), 'ImageService')).length > 0;

const call = async (
  socket: string,
  method: string,
  body: Uint8Array,
  service = 'RuntimeService',
): Promise<Uint8Array> => {
  const session = connect('http://localhost', { createConnection: () => connectSocket(socket) });
  try {
    return await new Promise((resolve, reject) => {
      session.once('error', reject);
      const stream = session.request({
        ':method': 'POST',
        ':path': `/runtime.v1.${service}/${method}`,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      const chunks: Uint8Array[] = [];
      let failure: string | undefined;
      const see = (headers: Record<string, unknown>): void => {
        const status = headers['grpc-status'];
        if (status !== undefined && status !== '0')
          failure = decodeURIComponent(String(headers['grpc-message'] ?? `status ${String(status)}`));
      };
      stream.on('response', see);
      stream.on('trailers', see);
      stream.on('data', (chunk: Uint8Array) => chunks.push(chunk));
      stream.once('error', reject);
      stream.once('end', () =>
        failure === undefined
          ? resolve(new Uint8Array(Buffer.concat(chunks)).subarray(5))
          : reject(new Error(`${method}: ${failure}`)),
      );
      const head = Buffer.alloc(5);
      head.writeUInt32BE(body.length, 1);
      stream.end(Buffer.concat([head, body]));
    });
  } finally {
    session.destroy();
  }
};
