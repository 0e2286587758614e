// K1 to K4 and the life of an installation with all of Kubernetes' own programs, kubelets among them: the kind quickstart as it is
// written, then what somebody does with the clusters that it makes, until nothing of vl3 is left. With KUBERNETES=/directory that
// holds the programs (test/lab/kind/programs.ts); kind, docker and images to pull have stand-ins.

import { rmSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { paragraphs, QUICKSTART } from '../deploy/quickstart.ts';
import type { Host } from '../lab/host.ts';
import type { KindCluster } from '../lab/kind/cluster.ts';
import { KindMachine } from '../lab/kind/machine.ts';
import type { KindNode } from '../lab/kind/node.ts';
import { hasKubernetes } from '../lab/kind/programs.ts';
import { Stream } from '../lab/stream.ts';

const LATER = { timeout: 180_000, interval: 500 };
const MINUTES = 600_000;

if (!hasKubernetes) console.log('KUBERNETES names no directory of its programs: nothing is tried with them');

describe.skipIf(!hasKubernetes)('two clusters', () => {
  let machine: KindMachine;
  const steps = hasKubernetes ? paragraphs() : [];
  const end = steps.pop();

  beforeAll(async () => {
    machine = await KindMachine.start();
  }, MINUTES);

  afterAll(async () => {
    if (process.env['VL3_TEST_LOGS'] !== undefined) console.log(machine.logs());
    // As it has people do.
    rmSync(join(QUICKSTART, 'west.json'), { force: true });
    await machine?.[Symbol.asyncDispose]();
  }, MINUTES);

  const shell = async (script: string): Promise<string> => {
    const { code, stdout, stderr } = await machine.shell(script, QUICKSTART);
    expect(code, `${script}\n${stdout}\n${stderr}`).toBe(0);
    return stdout;
  };
  const cluster = (name: string): KindCluster => {
    const found = machine.clusters.get(name);
    if (found === undefined) throw new Error(`there is no cluster ${name}`);
    return found;
  };
  const kubectl = (name: string, ...args: string[]): Promise<string> => cluster(name).kubectl(...args);
  const ofAgent = (name: string, ...args: string[]): Promise<string> =>
    kubectl(name, '--namespace', 'vl3-system', ...args);
  const agentOn = async (node: KindNode): Promise<string> => {
    const on = ['--field-selector', `spec.nodeName=${node.name},status.phase=Running`];
    const label = ['--selector', 'app.kubernetes.io/component=agent'];
    const name = node.name.split('-')[0] ?? '';
    return (await ofAgent(name, 'get', 'pods', ...on, ...label, '-o', 'name')).trim().split('\n')[0] ?? '';
  };
  const nodeOf = async (name: string, pod: string): Promise<KindNode> =>
    cluster(name).node((await kubectl(name, 'get', 'pod', pod, '-o', 'jsonpath={.spec.nodeName}')).trim());
  const statusOf = async (name: string, pod: string): Promise<{ name: string; ips: string[] }[]> => {
    const found = await kubectl(name, 'get', 'pod', pod, '-o', 'json');
    return JSON.parse(JSON.parse(found).metadata.annotations['vl3.io/network-status'] ?? '[]');
  };
  /** The pod's namespace, as its node has it: where its address on its network is. */
  const podHost = async (name: string, pod: string): Promise<Host> => {
    const node = await nodeOf(name, pod);
    const [address = ''] = (await statusOf(name, pod))[0]?.ips ?? [];
    const look = `for one in /run/netns/cni-*; do nsenter --net=$one ip -o address | grep -qF "inet ${address}/" && echo $one; done; true`;
    const [found = ''] = (await node.run('sh', '-c', look)).trim().split('\n');
    return machine.lab.adopt(pod, node.path(found));
  };
  const run = async (
    name: string,
    pod: string,
    annotations: object,
    command: string,
    more: object = {},
  ): Promise<void> => {
    const container = {
      name: 'main',
      image: 'docker.io/library/busybox:1.37',
      command: ['sh', '-c', command],
    };
    await cluster(name).apply({
      ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name: pod, namespace: 'default', annotations } },
      spec: { containers: [container], restartPolicy: 'Never', terminationGracePeriodSeconds: 0, ...more },
    });
  };
  const ready = (name: string, pod: string): Promise<string> =>
    kubectl(name, 'wait', '--for=condition=Ready', `pod/${pod}`, '--timeout=120s');

  test.each(steps)('$what', async ({ script }) => void (await shell(script)), MINUTES);

  describe('what somebody sees and does', () => {
    test('kubectl describe shows the networks of a pod', async () => {
      await vi.waitFor(async () => {
        expect(await kubectl('east', 'describe', 'pod', 'web')).toMatch(/vl3\.io\/network-status:\s+\[/);
      }, LATER);
      expect(await statusOf('east', 'web')).toMatchObject([{ name: 'red', interface: 'red' }]);
    });

    test('a wrong annotation is an event with the place', async () => {
      await kubectl('east', 'annotate', 'pod', 'web', 'vl3.io/networks=red, Green', '--overwrite');
      await vi.waitFor(async () => {
        expect(await kubectl('east', 'describe', 'pod', 'web')).toMatch(/InvalidAnnotation.*character 6/);
      }, LATER);
      await kubectl('east', 'annotate', 'pod', 'web', 'vl3.io/networks=red', '--overwrite');
    });

    test(
      'an agent that hangs is started again by its kubelet, which asks it',
      async () => {
        const node = await nodeOf('west', 'web');
        const agent = await agentOn(node);
        const restarts = async () =>
          Number(
            await ofAgent('west', 'get', agent, '-o', 'jsonpath={.status.containerStatuses[0].restartCount}'),
          );
        const before = await restarts();
        const [pid] = (await node.run('pgrep', '-f', 'cmd/vl3/main.js agent run')).trim().split('\n');
        await node.run('kill', '-STOP', pid ?? '');
        await vi.waitFor(async () => expect(await restarts()).toBeGreaterThan(before), {
          ...LATER,
          timeout: 240_000,
        });
        await ofAgent('west', 'rollout', 'status', 'daemonset/vl3-agent', '--timeout=120s');
      },
      MINUTES,
    );

    test(
      'an update of all nodes under a stream: no node is away for longer than its agent starts',
      async () => {
        const [from, to] = [await podHost('east', 'web'), await podHost('west', 'web')];
        const [address = ''] = (await statusOf('west', 'web'))[0]?.ips ?? [];
        /** The longest time without an answer, by 20 questions a second; a stream's own is up to twice as long. */
        const silence = async (what: string, work: () => Promise<unknown>): Promise<number> => {
          const stream = await Stream.open({ host: from }, { host: to }, address);
          const pings = from.start(['ping', '-n', '-D', '-i', '0.05', address]);
          await work();
          const { bytes } = stream.progress;
          await vi.waitFor(() => expect(stream.progress.bytes).toBeGreaterThan(bytes + 1_000_000), LATER);
          const { wrong, longestSilenceMs } = stream.progress;
          await pings.stop('SIGINT');
          await stream.close();
          expect(wrong).toBe(0);
          const answered = [...pings.output().matchAll(/^\[([\d.]+)\] \d+ bytes from/gm)].map(([, at]) =>
            Number(at),
          );
          const gaps = answered.map((at, i) => Math.round((at - (answered[i - 1] ?? at)) * 1000));
          const longest = Math.max(...gaps);
          console.log(
            `${what}: longest silence ${longest} ms, of a TCP stream ${longestSilenceMs} ms; load ${loadavg()[0]?.toFixed(1)}`,
          );
          return longest;
        };
        const one = await silence('one agent deleted, and made anew by its DaemonSet', async () => {
          await ofAgent('west', 'delete', await agentOn(await nodeOf('west', 'web')));
          await ofAgent('west', 'rollout', 'status', 'daemonset/vl3-agent', '--timeout=120s');
        });
        const all = await silence('a rolling update of all agents of both clusters', async () => {
          for (const name of ['east', 'west']) {
            await ofAgent(name, 'rollout', 'restart', 'daemonset/vl3-agent');
            await ofAgent(name, 'rollout', 'status', 'daemonset/vl3-agent', '--timeout=240s');
          }
        });
        // On a machine that others keep busy; that it is no sum over nodes is the point.
        expect(all).toBeLessThan(4 * one + 4000);
      },
      MINUTES,
    );
  });

  describe('with the plugin', () => {
    const conflist = '/etc/cni/net.d/10-kindnet.conflist';
    const before = new Map<string, string>();
    const upgrade = async (...values: string[]): Promise<void> => {
      const set = values.map((one) => `--set ${one}`).join(' ');
      await shell(`helm upgrade vl3 ../../../helm/vl3 --kube-context kind-east --namespace vl3-system --reuse-values ${set}
        kubectl --context kind-east --namespace vl3-system rollout status daemonset/vl3-agent --timeout=240s`);
    };

    test(
      'a pod has its networks before its first process, and one that asks for nothing starts as before',
      async () => {
        const [, worker] = cluster('east').nodes;
        if (worker === undefined) throw new Error('east has one node');
        for (const node of cluster('east').nodes) before.set(node.name, await node.run('cat', conflist));
        await upgrade('cni.enabled=true');
        await vi.waitFor(async () => expect(await worker.run('cat', conflist)).toContain('vl3-cni'), LATER);
        // The runtime reads it a moment later.
        await new Promise((resolve) => setTimeout(resolve, 3000));
        await run(
          'east',
          'early',
          { 'vl3.io/networks': 'red' },
          'ip -4 -o address show dev red && sleep 1000',
        );
        await run('east', 'plain', {}, 'ip -o link; sleep 1000');
        await Promise.all([ready('east', 'early'), ready('east', 'plain')]);
        expect(await kubectl('east', 'logs', 'early')).toMatch(/inet 10\.60\./);
        expect(await kubectl('east', 'logs', 'plain')).not.toMatch(/red/);
      },
      MINUTES,
    );

    test(
      'taken off again, it leaves the node as it was',
      async () => {
        await upgrade('cni.enabled=false', 'cni.remove=true');
        for (const node of cluster('east').nodes) {
          expect(await node.run('cat', conflist)).toBe(before.get(node.name));
          expect(await node.run('ls', '/opt/cni/bin')).not.toMatch(/vl3/);
        }
        await upgrade('cni.remove=false');
      },
      MINUTES,
    );
  });

  test(
    'with the webhook, what is wrong is refused as it is written',
    async () => {
      await shell(`helm upgrade vl3 ../../../helm/vl3 --kube-context kind-east --namespace vl3-system --reuse-values --set webhook.enabled=true
      kubectl --context kind-east --namespace vl3-system rollout status deployment/vl3-webhook --timeout=240s`);
      await expect(
        kubectl('east', 'annotate', 'pod', 'web', 'vl3.io/networks=red, Green', '--overwrite'),
      ).rejects.toThrow(/networks\.vl3\.io.*denied the request: vl3\.io\/networks, character 6/);
      expect(await statusOf('east', 'web')).toHaveLength(1);
    },
    MINUTES,
  );

  describe('taken off and put on again', () => {
    /** Of vl3, that is: Kubernetes' own proxy names what serves vl3-system. */
    const traces = async (node: KindNode): Promise<string> =>
      await node.run(
        ...['sh', '-c'],
        `ls /run/netns | grep ^vl3- || true
         find /var/lib/vl3 -mindepth 2; find /var/lib/vl3 -type f; find /run/vl3 -mindepth 1
         ls /opt/cni/bin | grep vl3 || true; grep -l vl3 /etc/cni/net.d/* || true
         mount | grep -E ' (/run/netns/vl3-|/run/vl3[ /]|/var/lib/vl3)' || true
         pgrep -af 'vl3 (agent|cni|webhook)' || true
         ip -o link | grep vl3 || true; nft list tables | grep vl3 || true`,
      );
    const linksOf = async (name: string, pod: string): Promise<string> =>
      await kubectl(name, 'exec', pod, '--', 'ip', '-o', 'link');

    test(
      'cleaned, no node has anything of it but two empty directories, and pods their own network alone',
      async () => {
        for (const name of ['east', 'west']) {
          await shell(`helm upgrade vl3 ../../../helm/vl3 --kube-context kind-${name} --namespace vl3-system --reuse-values --set agent.clean=true --set webhook.enabled=false
          kubectl --context kind-${name} --namespace vl3-system rollout status daemonset/vl3-agent --timeout=240s`);
          for (const node of cluster(name).nodes) expect(await traces(node)).toBe('');
          expect(await linksOf(name, 'web')).not.toMatch(/red/);
          expect(await linksOf(name, 'web')).toMatch(/eth0/);
        }
      },
      MINUTES,
    );

    test(
      'uninstalled, no object of it is left but the volume with the domain’s CA',
      async () => {
        for (const name of ['east', 'west']) {
          await shell(
            `helm uninstall vl3 --kube-context kind-${name} --namespace vl3-system --wait --timeout 2m`,
          );
          const kinds = (await kubectl(name, 'api-resources', '--verbs=list', '-o', 'name'))
            .trim()
            .split('\n');
          const every = ['get', kinds.join(','), '--all-namespaces', '--ignore-not-found', '-o', 'name'];
          const kept = name === 'east' ? 'persistentvolumeclaim/state-vl3-registry-0' : '';
          await vi.waitFor(async () => {
            const found = await kubectl(name, ...every, '--selector', 'app.kubernetes.io/name=vl3');
            expect(found.trim()).toBe(kept);
          }, LATER);
          for (const node of cluster(name).nodes) expect(await traces(node)).toBe('');
        }
      },
      MINUTES,
    );

    test(
      'installed anew, it is the same domain, and pods are back on their network',
      async () => {
        for (const { script } of steps.filter(({ script: one }) => /^helm install/m.test(one)))
          await shell(script.replaceAll('--create-namespace', ''));
        for (const name of ['east', 'west'])
          await vi.waitFor(
            async () => expect((await statusOf(name, 'web')).map(({ ips }) => ips.length)).toEqual([1]),
            LATER,
          );
        const [address = ''] = (await statusOf('west', 'web'))[0]?.ips ?? [];
        await vi.waitFor(
          async () =>
            expect(await kubectl('east', 'exec', 'web', '--', 'wget', '-qO-', `http://${address}:8080`)).toBe(
              'web\n',
            ),
          LATER,
        );
      },
      MINUTES,
    );
  });

  test(
    'and away with it',
    async () => {
      await shell(end?.script ?? '');
      expect(machine.clusters.size).toBe(0);
    },
    MINUTES,
  );
});
