// K2, K4: the CNI plugin, driven as a runtime drives it, against a real agent and registry.

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { formatNamespaceDefaults } from '../../native-free/cni/namespace-defaults.ts';
import { LocalClient } from '../../src/agent/local-client.ts';
import { BEFORE, cni } from '../lab/cni.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { Pod } from '../lab/pod.ts';

const RED = { 'vl3.io/networks': 'red' };

let domain: Domain;
let a1: Node;
let peer: Pod;
let made = 0;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  await domain.createNetwork('green', '--pool-v4', '10.70.0.0/16');
  a1 = await domain.startNode('a1');
  peer = await a1.pod('peer', 'red', 'green');
}, 120_000);

afterAll(() => domain?.close());

/** A container: a namespace that a runtime made. */
const container = async (): Promise<{ pod: Pod; container: string; netns: string }> => {
  made += 1;
  const pod = await Pod.create(domain.lab, `c${made}`, a1);
  return { pod, container: `${'0'.repeat(12)}${made}`, netns: pod.host.netns };
};
const interfacesOf = async (pod: Pod): Promise<string[]> => {
  const links: { ifname: string }[] = JSON.parse(await pod.host.run(['ip', '-json', 'link']));
  return links
    .map(({ ifname }) => ifname)
    .filter((name) => name !== 'lo')
    .sort();
};
const known = () => new LocalClient(a1.socket).attachments();
const attachments = async (): Promise<string[]> => (await known()).map(({ netns }) => netns);

describe('ADD and DEL', () => {
  test('put a pod on its networks behind what other plugins made, and take it off', async () => {
    const { pod, ...place } = await container();
    const call = {
      ...place,
      annotations: { 'vl3.io/networks': 'red?app=web, green/net1' },
      pod: { namespace: 'team-a', name: 'web-0' },
    };
    const { code, result } = await cni(a1, 'ADD', call);
    expect({ code, result }).toMatchObject({ code: 0, result: { cniVersion: '1.0.0', dns: BEFORE.dns } });
    expect(result.interfaces.slice(0, 2)).toEqual(BEFORE.interfaces);
    expect(result.interfaces.slice(2)).toEqual([
      { name: 'red', mac: expect.stringMatching(/^[0-9a-f:]{17}$/), sandbox: place.netns },
      { name: 'net1', mac: expect.any(String), sandbox: place.netns },
    ]);
    expect(result.ips[0]).toEqual(BEFORE.ips[0]);
    expect(result.ips.slice(1)).toEqual([
      { interface: 2, address: expect.stringMatching(/^10\.60\..*\/32$/), gateway: '10.60.0.1' },
      { interface: 2, address: expect.stringMatching(/^fd00:60:.*\/128$/), gateway: 'fe80::1' },
      { interface: 3, address: expect.stringMatching(/^10\.70\..*\/32$/), gateway: '10.70.0.1' },
    ]);
    expect(result.routes.slice(1)).toEqual([
      { dst: '10.60.0.0/16', gw: '10.60.0.1' },
      { dst: 'fd00:60::/48', gw: 'fe80::1' },
      { dst: '10.70.0.0/16', gw: '10.70.0.1' },
    ]);
    expect(await interfacesOf(pod)).toEqual(['net1', 'red']);
    expect(await pod.reaches(peer.v4('red'))).toBe(true);
    expect(await pod.reaches(peer.v4('green'))).toBe(true);
    expect(await peer.reaches(result.ips[2].address.split('/')[0])).toBe(true);

    // The agent says what it is called: by pod, with the labels asked for and its namespace.
    const shown = (await known()).find(({ network, netns }) => network === 'red' && netns === place.netns);
    expect(shown).toMatchObject({
      workload: 'web-0',
      labels: { app: 'web', 'io.kubernetes.pod.namespace': 'team-a' },
    });

    // Asked twice, it answers the same and makes nothing new.
    expect((await cni(a1, 'ADD', call)).result).toEqual(result);
    expect(await interfacesOf(pod)).toEqual(['net1', 'red']);

    // DEL by the container's names alone, and again when there is nothing left.
    for (let time = 0; time < 2; time++)
      expect(
        await cni(a1, 'DEL', { container: place.container, config: { prevResult: null } }),
      ).toMatchObject({
        code: 0,
        stdout: '',
      });
    expect(await interfacesOf(pod)).toEqual([]);
    expect(await attachments()).not.toContain(place.netns);
  });

  test('several pods at once get their own addresses', async () => {
    const places = await Promise.all(Array.from({ length: 6 }, container));
    const answers = await Promise.all(
      places.map(({ pod: _, ...place }) => cni(a1, 'ADD', { ...place, annotations: RED })),
    );
    expect(answers.map(({ code }) => code)).toEqual(places.map(() => 0));
    expect(new Set(answers.map(({ result }) => result.ips[1].address)).size).toBe(places.length);
    await Promise.all(places.map(({ container: id }) => cni(a1, 'DEL', { container: id })));
    for (const { pod } of places) expect(await interfacesOf(pod)).toEqual([]);
  });

  test('what can never be is refused with the reason, and nothing of it stays', async () => {
    const { pod, ...place } = await container();
    const pods = { namespace: 'team-a', name: 'web-1' };
    for (const [text, code, reason] of [
      ['red, Blue', 100, /vl3\.io\/networks, character 6: "Blue" is not the name.*\n {2}red, Blue\n {7}\^/s],
      ['red, blue', 100, /there is no network "blue"/],
      ['red, green@partner.example', 100, /character 12: "partner\.example" is not federated/],
      ['red, green?address=10.70.200.200', 100, /10\.70\.200\.200/],
    ] as const) {
      const call = { ...place, pod: pods, annotations: { 'vl3.io/networks': text } };
      const answer = await cni(a1, 'ADD', call);
      expect(answer).toMatchObject({ code: 1, result: { cniVersion: '1.0.0', code } });
      expect(answer.result.msg).toMatch(reason);
      expect(await interfacesOf(pod)).toEqual([]);
      expect(await attachments()).not.toContain(place.netns);
    }
  });

  test("the home domain may be named, and Network Service Mesh's annotation does as well", async () => {
    const { pod, ...place } = await container();
    const annotations = { 'networkservicemesh.io': 'kernel://red@test.example/nsm-1?app=web' };
    expect(await cni(a1, 'ADD', { ...place, annotations })).toMatchObject({ code: 0 });
    expect(await interfacesOf(pod)).toEqual(['nsm-1']);
    expect(await cni(a1, 'DEL', { container: place.container })).toMatchObject({ code: 0 });
  });

  test('a network that is not available is attached later, and holds up no other', async () => {
    const { pod, ...place } = await container();
    await domain.createNetwork('late', '--pool-v4', '10.80.0.0/16');
    await domain.stopRegistry();
    try {
      const annotations = { 'vl3.io/networks': 'late, green' };
      const { code, result } = await cni(a1, 'ADD', { ...place, annotations, config: { waitSeconds: 1 } });
      expect(code).toBe(0);
      expect(result.interfaces.slice(2)).toMatchObject([{ name: 'green' }]);
      expect(await cni(a1, 'CHECK', { ...place, annotations })).toMatchObject({ code: 0 });
    } finally {
      await domain.startRegistry();
    }
    await vi.waitFor(async () => expect(await interfacesOf(pod)).toEqual(['green', 'late']), SOON);
    await cni(a1, 'DEL', { container: place.container });
    expect(await interfacesOf(pod)).toEqual([]);
  });
});

describe('a pod that asks for nothing', () => {
  const untouched = { cniVersion: '1.0.0', ...BEFORE };
  const nowhere = { socket: '/nonexistent/agent.sock' };

  test.each<[string, Record<string, string> | null | undefined]>([
    ['no annotation of vl3', { other: 'x' }],
    ['an empty annotation', { 'vl3.io/networks': ' ' }],
    ['a runtime that passes no annotations', undefined],
  ])('is as it was, with %s, the agent up or not', async (_, annotations) => {
    const { pod, ...place } = await container();
    for (const config of [{}, nowhere]) {
      const given = annotations === undefined ? {} : { annotations };
      expect((await cni(a1, 'ADD', { ...place, ...given, config })).result).toEqual(untouched);
      expect(await cni(a1, 'CHECK', { ...place, ...given, config })).toMatchObject({ code: 0, stdout: '' });
      expect(await cni(a1, 'DEL', { ...place, ...given, config })).toMatchObject({ code: 0, stdout: '' });
    }
    expect(await interfacesOf(pod)).toEqual([]);
  });
});

describe("a namespace's annotation", () => {
  const file = () => join(a1.runDir, 'namespaces.json');
  const teamA = { pod: { namespace: 'team-a', name: 'web' }, annotations: {} };

  beforeAll(() => {
    writeFileSync(file(), formatNamespaceDefaults(new Map([['team-a', RED]])));
  });
  afterAll(() => rmSync(file(), { force: true }));

  test("is its pods' default, and a pod's own beats it, also when it is empty", async () => {
    const { pod, ...place } = await container();
    const names = async (call: object) => {
      const { result } = await cni(a1, 'ADD', { ...place, ...teamA, ...call });
      await cni(a1, 'DEL', place);
      return result.interfaces.slice(2).map(({ name }: { name: string }) => name);
    };
    expect(await names({})).toEqual(['red']);
    expect(await names({ annotations: { 'vl3.io/networks': 'green' } })).toEqual(['green']);
    expect(await names({ annotations: { 'vl3.io/networks': '' } })).toEqual([]);
    expect(await names({ pod: { namespace: 'team-b', name: 'web' } })).toEqual([]);
    // What the file says is not known where it says nothing that can be read.
    expect(await names({ config: { namespaceDefaults: '/etc/hostname' } })).toEqual([]);
    expect(await interfacesOf(pod)).toEqual([]);
  });
});

describe('an agent that is not there', () => {
  const config = { socket: '/nonexistent/agent.sock' };

  test('has pods that ask refused for now, says so as STATUS, and never holds up DEL', async () => {
    const { pod, ...place } = await container();
    const add = await cni(a1, 'ADD', { ...place, annotations: RED, config });
    expect(add).toMatchObject({ code: 1, result: { cniVersion: '1.0.0', code: 11 } });
    expect(add.result.msg).toMatch(/agent on this node cannot be reached \(\/nonexistent.*ENOENT/);
    expect(await interfacesOf(pod)).toEqual([]);
    expect(await cni(a1, 'DEL', { ...place, annotations: RED, config })).toMatchObject({
      code: 0,
      stdout: '',
      stderr: expect.stringMatching(/DEL is left to the agent/),
    });
    const newest = { cniVersion: '1.1.0' };
    expect(await cni(a1, 'STATUS', { config: { ...config, ...newest } })).toMatchObject({
      result: { code: 50 },
    });
    expect(await cni(a1, 'STATUS', { config: { ...config, ...newest, agentRequired: false } })).toMatchObject(
      {
        code: 0,
      },
    );
    expect(await cni(a1, 'STATUS', { config: newest })).toMatchObject({ code: 0, stdout: '' });
  });

  test('takes away what a DEL could not tell it once the namespace is gone', async () => {
    const { pod, ...place } = await container();
    expect(await cni(a1, 'ADD', { ...place, annotations: RED })).toMatchObject({ code: 0 });
    await a1.agent.stop('SIGKILL');
    expect(await cni(a1, 'DEL', { ...place, annotations: RED })).toMatchObject({ code: 0 });
    await domain.lab.run(['ip', 'netns', 'delete', pod.host.netns.slice('/run/netns/'.length)]);
    await a1.start();
    await vi.waitFor(async () => expect(await attachments()).not.toContain(place.netns), SOON);
  });
});

describe('CHECK', () => {
  test('holds what was made against what is there', async () => {
    const { pod, ...place } = await container();
    const call = { ...place, annotations: { 'vl3.io/networks': 'red/net1' } };
    const { result } = await cni(a1, 'ADD', call);
    const check = (more: object = {}) =>
      cni(a1, 'CHECK', { ...call, config: { prevResult: result }, ...more });
    expect(await check()).toMatchObject({ code: 0, stdout: '' });
    await pod.host.ip('link set net1 down');
    const down = await check();
    expect(down).toMatchObject({ code: 1, result: { code: 101 } });
    expect(down.result.msg).toMatch(/net1 is not as it was made/);
    await pod.host.ip('link set net1 up', `address del ${result.ips[1].address} dev net1`);
    expect((await check()).result.msg).toMatch(/address replace 10\.60\./);
    await cni(a1, 'ADD', call);
    expect(await check()).toMatchObject({ code: 0 });
    expect((await check({ annotations: { 'vl3.io/networks': 'green' } })).result.msg).toMatch(/not on green/);
    await cni(a1, 'DEL', place);
    expect((await check()).result.msg).toMatch(/not on red/);
  });
});

describe('GC', () => {
  test('takes off what the plugin made for containers that are gone, and nothing else', async () => {
    const [kept, lost, other] = [await container(), await container(), await container()];
    const byHand = await a1.pod('by-hand', 'red');
    for (const { pod: _, ...place } of [kept, lost]) await cni(a1, 'ADD', { ...place, annotations: RED });
    await cni(a1, 'ADD', {
      container: other.container,
      netns: other.netns,
      annotations: RED,
      config: { name: 'podman' },
    });
    const valid = [{ containerID: kept.container, ifname: 'eth0' }];
    const config = { cniVersion: '1.1.0', 'cni.dev/valid-attachments': valid };
    expect(await cni(a1, 'GC', { config })).toMatchObject({ code: 0, stdout: '' });
    expect(await interfacesOf(kept.pod)).toEqual(['red']);
    expect(await interfacesOf(lost.pod)).toEqual([]);
    expect(await interfacesOf(other.pod)).toEqual(['red']);
    expect(await interfacesOf(byHand)).toEqual(['red']);
    // Not even when none is valid any more.
    await cni(a1, 'GC', { config: { ...config, 'cni.dev/valid-attachments': [] } });
    expect(await interfacesOf(kept.pod)).toEqual([]);
    expect(await interfacesOf(byHand)).toEqual(['red']);
    // Nothing says that all are invalid.
    expect(await cni(a1, 'GC', { config: { cniVersion: '1.1.0' } })).toMatchObject({
      code: 1,
      result: { code: 7 },
    });
    await cni(a1, 'DEL', { container: other.container, config: { name: 'podman' } });
  });
});
