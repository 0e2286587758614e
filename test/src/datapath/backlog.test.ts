// Where packets that egress has read wait, against a plain queue.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BACKLOG, Backlog } from '../../../src/datapath/backlog.ts';
import { WorkerDevice } from '../../../src/datapath/device-table.ts';
import { Arena } from '../../../src/ffi/memory.ts';

const device = new WorkerDevice(0, [-1], 0, 1420, 'none');

test('packets leave in the order in which they came, and none is read to where another waits', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(2), { size: 'max', maxLength: 100 }), (steps) => {
      const arena = new Arena(Backlog.ARENA);
      const backlog = new Backlog(arena);
      const waiting: { offset: number; length: number }[] = [];
      let length = 0;
      for (const step of steps) {
        const isPush = step > 0;
        expect(waiting.map(({ offset }) => offset)).not.toContain(backlog.free);
        if (isPush && !backlog.isFull) {
          length += 1;
          waiting.push({ offset: backlog.free, length });
          backlog.push(device, length);
        } else if (!isPush && !backlog.isEmpty) {
          const { offset, length, device: from } = backlog;
          expect({ offset, length }).toEqual(waiting.shift());
          expect(from).toBe(device);
          backlog.shift();
        }
        expect([backlog.isEmpty, backlog.isFull]).toEqual([waiting.length === 0, waiting.length === BACKLOG]);
      }
      arena.unmap();
    }),
  );
});
