// Where the plugin's entry goes: the layouts of the usual CNIs, and any conflist at all, byte for byte.

import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Change,
  type ConfigFile,
  OWN_FILE,
  PLUGIN_TYPE,
  planInstallation,
  planRemoval,
  pluginEntry,
} from '../../../native-free/cni/installation.ts';
import { parsePluginList } from '../../../native-free/cni/plugin-list.ts';

const FIXTURES = resolve(import.meta.dirname, '../../fixtures/cni');
const ENTRY = pluginEntry({ socket: undefined });
const fixture = (name: string): ConfigFile => ({ name, text: readFileSync(join(FIXTURES, name), 'utf8') });

const applied = (files: readonly ConfigFile[], changes: readonly Change[]): ConfigFile[] => {
  const left = files.filter(({ name }) => !changes.some((change) => change.name === name));
  return [
    ...left,
    ...changes.flatMap((one) => (one.kind === 'write' ? [{ name: one.name, text: one.text }] : [])),
  ];
};
const install = (files: readonly ConfigFile[]): ConfigFile[] => {
  const plan = planInstallation(files, ENTRY);
  if (plan.kind === 'nothing') throw new Error(plan.reason);
  return applied(files, plan.changes);
};
const types = ({ text }: ConfigFile): string[] =>
  JSON.parse(text).plugins.map(({ type }: { type: string }) => type);

describe('the layouts of', () => {
  const lists = readdirSync(FIXTURES).filter((name) => name.endsWith('.conflist'));
  expect(lists).toHaveLength(5);

  test.each(lists)(
    '%s gets one entry behind its own and nothing else, and is itself again without it',
    (name) => {
      const file = fixture(name);
      const [after] = install([file]);
      if (after === undefined) throw new Error('nothing was written');
      const before = JSON.parse(file.text);
      expect(JSON.parse(after.text)).toEqual({ ...before, plugins: [...before.plugins, ENTRY] });
      expect(planInstallation([after], ENTRY)).toMatchObject({ kind: 'found', main: name, changes: [] });
      expect(applied([after], planRemoval([after]))).toEqual([file]);
    },
  );

  test('Cilium is told by its plugin', () => {
    expect(planInstallation([fixture('05-cilium.conflist')], ENTRY)).toMatchObject({ owner: 'cilium-cni' });
  });

  test('a single plugin stays as it is, beside a list of it and ours that comes first', () => {
    const single = fixture('10-bridge.conf');
    const files = install([single]);
    expect(files[0]).toEqual(single);
    expect(files[1]?.name).toBe(OWN_FILE);
    expect(JSON.parse(files[1]?.text ?? '')).toEqual({
      cniVersion: '1.0.0',
      name: 'mynet',
      plugins: [
        { type: 'bridge', bridge: 'cni0', ipam: { type: 'host-local', subnet: '10.22.0.0/16' } },
        ENTRY,
      ],
    });
    expect(planInstallation(files, ENTRY)).toMatchObject({ main: '10-bridge.conf', changes: [] });
    expect(applied(files, planRemoval(files))).toEqual([single]);
    // Replaced by a list, it is followed there.
    const replaced = [...files.filter(({ name }) => name === OWN_FILE), fixture('10-flannel.conflist')];
    expect(install(replaced).map(({ name }) => name)).toEqual(['10-flannel.conflist']);
  });
});

test('the first file by name that a runtime takes is the one', () => {
  const files = [
    {
      name: '99-loopback.conflist',
      text: '{"cniVersion":"1.0.0","name":"lo","plugins":[{"type":"loopback"}]}',
    },
    fixture('10-calico.conflist'),
    { name: '00-broken.conflist', text: '{"name":"x",' },
    { name: '01-empty.conflist', text: '{"name":"x","plugins":[]}' },
    { name: '02-nameless.conflist', text: '{"plugins":[{"type":"x"}]}' },
    { name: '03-other.txt', text: '{"name":"y","plugins":[{"type":"y"}]}' },
    { name: 'calico-kubeconfig', text: 'apiVersion: v1' },
  ];
  expect(planInstallation(files, ENTRY)).toMatchObject({ main: '10-calico.conflist', owner: 'calico' });
  expect(planInstallation(files.slice(2, 5), ENTRY)).toMatchObject({ kind: 'nothing' });
  expect(planInstallation([], ENTRY)).toMatchObject({
    reason: expect.stringMatching(/no CNI configuration yet/),
  });
});

test.each<[string, string, RegExp]>([
  [
    '10-old.conflist',
    '{"cniVersion":"0.2.0","name":"x","plugins":[{"type":"a"}]}',
    /version "0\.2\.0".*informer alone/,
  ],
  ['10-none.conflist', '{"name":"x","plugins":[{"type":"a"}]}', /is of CNI version ""/],
  ['10-new.conflist', '{"cniVersion":"2.0.0","name":"x","plugins":[{"type":"a"}]}', /version "2\.0\.0"/],
  [
    '10-any.conflist',
    '{"cniVersions":["1.1.0","2.0.0"],"name":"x","plugins":[{"type":"a"}]}',
    /"1\.1\.0", "2\.0\.0"/,
  ],
  ['10-old.conf', '{"cniVersion":"0.2.0","name":"x","type":"a"}', /version "0\.2\.0"/],
  ['00-multus.conf', '{"cniVersion":"0.3.1","name":"m","type":"multus"}', /is of Multus.*informer alone/],
  ['00-multus.conf', '{"cniVersion":"0.3.1","name":"m","type":"multus-shim"}', /is of Multus/],
  ['-first.conf', '{"cniVersion":"0.3.1","name":"x","type":"a"}', /comes before 0-vl3\.conflist/],
])('%s is left alone, since every pod would depend on it: %s', (name, text, reason) => {
  const files = [
    { name, text },
    { ...fixture('10-flannel.conflist'), name: '99-flannel.conflist' },
  ];
  expect(planInstallation(files, ENTRY)).toEqual({ kind: 'nothing', reason: expect.stringMatching(reason) });
});

test('a list of ours comes before whatever else there may be', () => {
  const single = { name: '00-a.conf', text: '{"cniVersion":"0.3.1","name":"x","type":"a"}' };
  expect(
    install([single])
      .map(({ name }) => name)
      .toSorted(),
  ).toEqual([OWN_FILE, single.name]);
});

test('an entry that is another, stands elsewhere or twice is replaced by the one', () => {
  const old = '{"type":"vl3-cni","socket":"/old"}';
  for (const plugins of [`{"type":"a"},${old}`, `${old} , {"type":"a"}`, `${old},{"type":"a"},${old}`]) {
    const [after] = install([
      { name: '10-x.conflist', text: `{"cniVersion":"1.0.0","name":"x","plugins":[${plugins}]}` },
    ]);
    expect(after === undefined ? [] : JSON.parse(after.text).plugins).toEqual([{ type: 'a' }, ENTRY]);
  }
});

test('any conflist, however it is written, is itself again byte for byte', () => {
  const blank = fc.stringMatching(/^[ \t\r\n]{0,3}$/);
  const text = fc.constantFrom('x', 'a"b', '}]', '\\', '{"plugins":[', '\u{1f600}');
  const plugin = fc.record({
    type: fc.constantFrom('bridge', 'portmap'),
    other: fc.oneof(text, fc.jsonValue({ maxDepth: 2 })),
  });
  const list = fc.record({
    plugins: fc.array(plugin, { minLength: 1, maxLength: 3 }),
    extra: fc.jsonValue(),
    space: blank,
    last: fc.boolean(),
  });
  fc.assert(
    fc.property(list, ({ plugins, extra, space, last }) => {
      const shown = plugins.map((one) => JSON.stringify(one, null, space)).join(`${space},${space}`);
      const member = `${space}"plugins"${space}:${space}[${space}${shown}${space}]${space}`;
      const others = `${space}"name":"x","cniVersion":"1.0.0","extra":${JSON.stringify(extra)}`;
      const whole = `${space}{${last ? `${others},${member}` : `${member},${others}`}}${space}`;
      const file = { name: '10-x.conflist', text: whole };
      const [after] = install([file]);
      if (after === undefined) throw new Error('nothing was written');
      expect(types(after)).toEqual([...plugins.map(({ type }) => type), PLUGIN_TYPE]);
      expect(applied([after], planRemoval([after]))).toEqual([file]);
    }),
  );
});

test('of two members called plugins the last one counts, as for every reader of JSON', () => {
  const text = '{"name":"x","plugins":[{"type":"a"}],"plugins":[{"type":"b"}]}';
  const edited = parsePluginList(text)?.with(ENTRY) ?? '';
  expect(JSON.parse(edited).plugins).toEqual([{ type: 'b' }, ENTRY]);
});
