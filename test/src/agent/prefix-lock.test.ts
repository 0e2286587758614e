import { expect, test } from 'vitest';
import { lockPrefix } from '../../../src/agent/prefix-lock.ts';

test('a prefix is held by one at a time, and free again afterwards', async () => {
  const prefix = `vl3t-${process.pid}-`;
  {
    await using _held = await lockPrefix(prefix);
    await expect(lockPrefix(prefix)).rejects.toMatchObject({
      code: 'failed-precondition',
      message: expect.stringContaining(`--netns-prefix ${prefix}: stop it first`),
    });
    await using _other = await lockPrefix(`${prefix}other-`);
  }
  await using _again = await lockPrefix(prefix);
});
