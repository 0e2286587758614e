// A backup on the wire, and back.

import { create } from '@bufbuild/protobuf';
import {
  BackupHeaderSchema,
  type BackupResponse,
  BackupResponseSchema,
} from '../api/generated/vl3/v1/admin_pb.js';
import type { BackupPart } from './backup.ts';

export const backupMessage = (part: BackupPart): BackupResponse => {
  if (part.kind === 'data') {
    return create(BackupResponseSchema, { part: { case: 'data', value: part.data } });
  }
  if (part.kind === 'checksum') {
    return create(BackupResponseSchema, { part: { case: 'checksum', value: part.sha256 } });
  }
  const header = create(BackupHeaderSchema, {
    storeId: part.storeId,
    revision: BigInt(part.revision),
    bytes: BigInt(part.bytes),
  });
  return create(BackupResponseSchema, { part: { case: 'header', value: header } });
};

/** What this vl3 does not know it passes over: a newer registry may say more. */
export async function* backupParts(messages: AsyncIterable<BackupResponse>): AsyncGenerator<BackupPart> {
  for await (const { part } of messages) {
    if (part.case === 'data') yield { kind: 'data', data: part.value };
    else if (part.case === 'checksum') yield { kind: 'checksum', sha256: part.value };
    else if (part.case === 'header') {
      const { storeId, revision, bytes } = part.value;
      yield { kind: 'header', storeId, revision: Number(revision), bytes: Number(bytes) };
    }
  }
}
