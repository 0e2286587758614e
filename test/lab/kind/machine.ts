// The machine of somebody who follows the kind quickstart: a host of the lab with helm and kubectl as they are, and with stand-ins
// for kind and docker, which make clusters of Kubernetes' own programs and an image of what the Dockerfile puts together.

import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { delimiter, join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { parse } from 'yaml';
import { z } from 'zod';
import type { Host, Result } from '../host.ts';
import { type Cloud, Internet } from '../internet.ts';
import { Lab } from '../lab.ts';
import { KindCluster } from './cluster.ts';
import { makeBusybox, makePause, makeVl3 } from './images.ts';

const PROGRAMS = resolve(import.meta.dirname, '../../../deploy/setup/tools/node_modules/.programs');
/** What pods of the quickstart wait in. */
const BUSYBOX = 'docker.io/library/busybox:1.37';
const PATIENCE_MS = 580_000;

const config = z.object({ kind: z.literal('Cluster'), nodes: z.array(z.object({ role: z.string() })) });

/** Hands its words and its directory to the test that made it. */
const stub = (name: string, socket: string): string => `#!/bin/sh
{ printf '%s\\0' ${name} "$PWD" "$@"; } | curl -sS --fail-with-body --max-time 570 --unix-socket ${socket} --data-binary @- http://test/
`;

export class KindMachine implements AsyncDisposable {
  readonly lab: Lab;
  readonly host: Host;
  readonly clusters = new Map<string, KindCluster>();
  readonly #cloud: Cloud;
  readonly #server: Server;
  readonly #images = new Map<string, string>();
  #first = 20;

  private constructor(lab: Lab, host: Host, cloud: Cloud) {
    this.lab = lab;
    this.host = host;
    this.#cloud = cloud;
    this.#server = createServer((request, response) => {
      void (async () => {
        const [program = '', directory = '', ...args] = (await text(request)).split('\0').slice(0, -1);
        const said = await this.#carryOut(program, directory, args);
        response.writeHead(200).end(said === '' ? '' : `${said}\n`);
      })().catch((error: unknown) => response.writeHead(500).end(`${String(error)}\n`));
    });
  }

  static async start(): Promise<KindMachine> {
    const lab = Lab.create();
    const internet = await Internet.create(lab);
    const cloud = await internet.publicCloud('198.51.100');
    const { host } = await cloud.node('machine', 5);
    const machine = new KindMachine(lab, host, cloud);
    mkdirSync(machine.#at('bin'));
    for (const name of ['kind', 'docker']) {
      writeFileSync(machine.#at('bin', name), stub(name, machine.#at('socket')));
      chmodSync(machine.#at('bin', name), 0o755);
    }
    machine.#writeKubeconfig();
    await new Promise<void>((listening) => machine.#server.listen(machine.#at('socket'), listening));
    return machine;
  }

  /** Runs a script there; what it sets is there in the next one, too. */
  async shell(script: string, directory: string): Promise<Result> {
    const state = this.#at('state');
    const kept = existsSync(state) ? `. ${state}\n` : '';
    const whole = `${kept}cd ${directory}\nset -ea\n${script}\nset +x\nexport -p >${state}\n`;
    return await this.host.tryRun(['sh', '-c', whole], { timeoutMs: PATIENCE_MS, env: this.#environment });
  }

  async kubectl(kubeconfig: string, args: readonly string[], input?: string): Promise<string> {
    const command = [join(PROGRAMS, 'kubectl/kubectl'), '--kubeconfig', kubeconfig, ...args];
    const env = this.#environment;
    return await this.host.run(command, {
      timeoutMs: PATIENCE_MS,
      env,
      ...(input === undefined ? {} : { input }),
    });
  }

  /** An image of vl3 as it is now, under a tag: what its Dockerfile puts together, or what was built of it (VL3_IMAGE). */
  buildImage(tag: string): void {
    const name = tag.includes('/') ? tag : `docker.io/library/${tag}`;
    this.#images.set(tag, process.env['VL3_IMAGE'] ?? makeVl3(this.lab.scratch, name));
  }

  logs(): string {
    return [...this.clusters.values()].map((one) => one.logs()).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    for (const cluster of this.clusters.values()) cluster.close();
    await this.lab.close();
  }

  #at(...path: string[]): string {
    return join(this.lab.scratch, ...path);
  }

  get #environment(): Record<string, string> {
    const path = [this.#at('bin'), join(PROGRAMS, 'helm'), join(PROGRAMS, 'kubectl'), process.env['PATH']];
    return {
      PATH: path.join(delimiter),
      HOME: this.lab.scratch,
      KUBECONFIG: this.#at('kubeconfig'),
    };
  }

  /** With a context for each cluster. */
  #writeKubeconfig(): void {
    const all = [...this.clusters.values()].map(({ kubeconfig }) =>
      JSON.parse(readFileSync(kubeconfig, 'utf8')),
    );
    const [clusters, users, contexts] = ['clusters', 'users', 'contexts'].map((key) =>
      all.flatMap((one) => one[key]),
    );
    const merged = { apiVersion: 'v1', kind: 'Config', clusters, users, contexts, 'current-context': '' };
    writeFileSync(this.#at('kubeconfig'), JSON.stringify(merged));
  }

  async #carryOut(program: string, directory: string, args: readonly string[]): Promise<string> {
    const words = args.filter((one) => !one.startsWith('-')).join(' ');
    const option = (name: string): string => {
      const value = args[args.indexOf(name) + 1];
      if (!args.includes(name) || value === undefined) throw new Error(`${program}: no ${name} is given`);
      return value;
    };
    if (program === 'docker' && args[0] === 'build') {
      readFileSync(resolve(directory, option('-f')));
      readFileSync(resolve(directory, args.at(-1) ?? '', 'package.json'));
      this.buildImage(option('-t'));
      return '';
    }
    if (program === 'docker' && args[0] === 'inspect') {
      // Of all that docker knows, this is what is asked for.
      if (option('-f') !== '{{.NetworkSettings.Networks.kind.IPAddress}}')
        throw new Error('docker: unknown format');
      return this.#node(args.at(-1) ?? '').address;
    }
    if (program === 'kind' && words.startsWith('create cluster')) {
      const { nodes } = config.parse(parse(readFileSync(resolve(directory, option('--config')), 'utf8')));
      await this.#create(
        option('--name'),
        nodes.map(({ role }) => role),
      );
      return '';
    }
    if (program === 'kind' && words.startsWith('load docker-image')) {
      const archive = this.#images.get(args[2] ?? '');
      if (archive === undefined) throw new Error(`kind: there is no image ${args[2]}`);
      for (const node of this.#cluster(option('--name')).nodes) await node.load(archive);
      return '';
    }
    if (program === 'kind' && words.startsWith('delete cluster')) {
      const name = option('--name');
      this.#cluster(name).close();
      this.clusters.delete(name);
      return '';
    }
    throw new Error(`${program} ${args.join(' ')}: the lab has no stand-in for that`);
  }

  async #create(name: string, roles: readonly string[]): Promise<void> {
    if (!this.#images.has('pause')) {
      this.#images.set('pause', makePause(this.lab.scratch));
      this.#images.set('busybox', makeBusybox(this.lab.scratch, BUSYBOX));
    }
    const images = ['pause', 'busybox'].flatMap((one) => this.#images.get(one) ?? []);
    const cluster = new KindCluster({
      ...{ lab: this.lab, cloud: this.#cloud, name, roles, first: this.#first, images },
      kubectl: (...asked) => this.kubectl(...asked),
    });
    this.#first += 10;
    this.clusters.set(name, cluster);
    await cluster.create();
    this.#writeKubeconfig();
  }

  #cluster(name: string): KindCluster {
    const found = this.clusters.get(name);
    if (found === undefined) throw new Error(`kind: there is no cluster ${name}`);
    return found;
  }

  #node(name: string) {
    for (const { nodes } of this.clusters.values())
      for (const node of nodes) if (node.name === name) return node;
    throw new Error(`docker: there is no container ${name}`);
  }
}
