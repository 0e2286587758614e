// The API's timestamps as the commands show them.

import { type Timestamp, timestampMs } from '@bufbuild/protobuf/wkt';

/** ISO 8601; empty: never. */
export const iso = (time: Timestamp | undefined): string =>
  time === undefined ? '' : new Date(timestampMs(time)).toISOString();

/** Unix ms; 0: never. */
export const milliseconds = (time: Timestamp | undefined): number =>
  time === undefined ? 0 : timestampMs(time);
