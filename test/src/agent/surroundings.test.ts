import { expect, test } from 'vitest';
import { Surroundings } from '../../../src/agent/surroundings.ts';
import { Tools } from '../../../src/netns/tool.ts';

test('a name to advertise that does not resolve is said, and holds nothing up', async () => {
  const advertised = [{ address: 'nobody.invalid' }, { address: '203.0.113.7', port: 4500 }];
  const surroundings = await Surroundings.discover({ advertised, port: 51820 }, { tools: new Tools() });
  expect(surroundings.problems).toEqual([
    '"nobody.invalid" cannot be resolved: give --advertise an address, or a name that resolves',
  ]);
  expect(surroundings.endpoints).toContainEqual(
    expect.objectContaining({ address: '203.0.113.7', port: 4500 }),
  );
});

test('a name to advertise that resolves is announced by its address', async () => {
  const advertised = [{ address: 'vpn.example', port: 4500 }];
  const resolve = async (name: string) => ({ address: name === 'vpn.example' ? '203.0.113.9' : '' });
  const surroundings = await Surroundings.discover(
    { advertised, port: 51820 },
    { tools: new Tools(), resolve },
  );
  expect(surroundings.problems).toEqual([]);
  expect(surroundings.endpoints).toEqual([
    expect.objectContaining({ address: '203.0.113.9', port: 4500, scope: 'public' }),
  ]);
});

test('a name to advertise that is where nobody can reach this node is said, and not announced', async () => {
  const advertised = [{ address: 'localhost', port: 4500 }];
  const surroundings = await Surroundings.discover({ advertised, port: 51820 }, { tools: new Tools() });
  expect(surroundings.problems).toEqual([
    expect.stringMatching(/^"localhost" is (127\.0\.0\.1|::1), which no other machine can reach: give --adv/),
  ]);
  expect(surroundings.endpoints.filter(({ port }) => port === 4500)).toEqual([]);
});
