// The control plane of a Kubernetes cluster in a namespace of the lab, as far as tests need one: an API server at its loopback,
// and a kubeconfig for the one account that is held to its rules. The API server is a small one of our own, or a real one
// where KUBE_APISERVER names it (with etcd from the path, or ETCD).

import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';
import type { Daemon } from './daemon.ts';
import { eventually } from './eventually.ts';
import type { Host } from './host.ts';
import type { KubeApiOptions } from './kube-api.ts';

const REAL = process.env['KUBE_APISERVER'];
const PORT = 6443;
const TOKEN = 'account-token';
const ADMIN = 'admin-token';
const PATIENCE = { timeout: 90_000, interval: 200 };

export interface ControlPlaneOptions {
  readonly host: Host;
  /** Made if it is missing; holds all that it keeps, `kubeconfig` among it. */
  readonly directory: string;
  /** An address of the host, no loopback one. */
  readonly address: string;
  /** The service account, of vl3-system. */
  readonly account: string;
  /** The file of the rules that it is held to. */
  readonly rbac: string;
}

export class ControlPlane {
  /** Whether the API server is Kubernetes' own. */
  static readonly isReal = REAL !== undefined;
  readonly #options: ControlPlaneOptions;
  readonly #host: Host;
  readonly #directory: string;
  #daemons: Daemon[] = [];

  private constructor(options: ControlPlaneOptions) {
    this.#options = options;
    this.#host = options.host;
    this.#directory = options.directory;
  }

  /** With the namespaces vl3-system and team-a. */
  static async start(options: ControlPlaneOptions): Promise<ControlPlane> {
    mkdirSync(options.directory, { recursive: true });
    const made = new ControlPlane(options);
    made.#writeKubeconfig();
    await made.start();
    for (const name of ['vl3-system', 'team-a']) await made.createNamespace(name);
    if (REAL !== undefined)
      await made.apply(readFileSync(options.rbac, 'utf8'), 'rbac.authorization.k8s.io/v1');
    return made;
  }

  /** Of the account, as a kubelet puts it into a pod; made anew. */
  serviceAccount(): { directory: string; host: string; port: number } {
    const directory = join(this.#directory, 'serviceaccount');
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'token'), TOKEN);
    copyFileSync(join(this.#directory, 'ca.crt'), join(directory, 'ca.crt'));
    return { directory, host: '127.0.0.1', port: PORT };
  }

  get #url(): string {
    return `https://127.0.0.1:${PORT}`;
  }

  #writeKubeconfig(): void {
    this.#makeCertificates();
    const ca = { 'certificate-authority': join(this.#directory, 'ca.crt') };
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'lab', cluster: { server: this.#url, ...ca } }],
      users: [{ name: 'account', user: { token: TOKEN } }],
      contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'account' } }],
      'current-context': 'lab',
    };
    // JSON is YAML.
    writeFileSync(join(this.#directory, 'kubeconfig'), JSON.stringify(config));
  }

  #makeCertificates(): void {
    const openssl = (...args: string[]) =>
      execFileSync('openssl', args, { cwd: this.#directory, stdio: 'ignore' });
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
    openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=lab-ca');
    const names = ['-subj', '/CN=api', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key'];
    openssl('req', '-x509', ...key, '-keyout', 'api.key', '-out', 'api.crt', ...names, ...signed);
    openssl('genrsa', '-out', 'sa.key', '2048');
    const account = `system:serviceaccount:vl3-system:${this.#options.account}`;
    const groups = 'system:serviceaccounts,system:serviceaccounts:vl3-system,system:authenticated';
    const tokens = [`${ADMIN},admin,1,"system:masters"`, `${TOKEN},${account},2,"${groups}"`];
    writeFileSync(join(this.#directory, 'tokens.csv'), `${tokens.join('\n')}\n`);
  }

  /** Starts the API server on what it has; resolves once it answers. */
  async start(): Promise<void> {
    this.#daemons = REAL === undefined ? [this.#startSmall()] : this.#startReal(REAL);
    await eventually(async () => {
      const dead = this.#daemons.find(({ running }) => !running);
      if (dead !== undefined) throw new Error(dead.output());
      await this.request('GET', '/api/v1/namespaces');
    }, PATIENCE);
  }

  #startSmall(): Daemon {
    const options: KubeApiOptions = {
      port: PORT,
      file: join(this.#directory, 'objects.json'),
      rbac: this.#options.rbac,
      certificate: join(this.#directory, 'api.crt'),
      key: join(this.#directory, 'api.key'),
      agentToken: TOKEN,
      adminToken: ADMIN,
      accountKey: join(this.#directory, 'sa.key'),
      page: 2,
    };
    const program = resolve(import.meta.dirname, 'kube-api.ts');
    return this.#host.start([process.execPath, program, JSON.stringify(options)]);
  }

  #startReal(program: string): Daemon[] {
    const at = (name: string): string => join(this.#directory, name);
    const etcd = this.#host.start([
      process.env['ETCD'] ?? 'etcd',
      ...['--data-dir', at('etcd'), '--listen-peer-urls', 'http://127.0.0.1:2380'],
      ...[
        '--listen-client-urls',
        'http://127.0.0.1:2379',
        '--advertise-client-urls',
        'http://127.0.0.1:2379',
      ],
    ]);
    const flags = {
      'etcd-servers': 'http://127.0.0.1:2379',
      'secure-port': PORT,
      'bind-address': '127.0.0.1',
      'advertise-address': this.#options.address,
      'endpoint-reconciler-type': 'none',
      'service-cluster-ip-range': '10.96.0.0/16',
      'cert-dir': at('certs'),
      'tls-cert-file': at('api.crt'),
      'tls-private-key-file': at('api.key'),
      'service-account-key-file': at('sa.key'),
      'service-account-signing-key-file': at('sa.key'),
      'service-account-issuer': 'https://lab.example',
      'token-auth-file': at('tokens.csv'),
      'authorization-mode': 'RBAC',
      // Nobody makes the service accounts that this would ask for.
      'disable-admission-plugins': 'ServiceAccount',
    };
    const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
    return [etcd, this.#host.start([program, ...args])];
  }

  /** Ends the API server; what it has stays. */
  async stop(): Promise<void> {
    for (const daemon of this.#daemons.toReversed()) await daemon.stop('SIGKILL');
  }

  /** As an admin. */
  async request(method: string, path: string, body?: unknown): Promise<unknown> {
    return JSON.parse(await this.ask(method, path, body));
  }

  /** The text of the answer. */
  async ask(method: string, path: string, body?: unknown): Promise<string> {
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const ca = ['--cacert', join(this.#directory, 'ca.crt')];
    const headers = ['-H', `Authorization: Bearer ${ADMIN}`, '-H', `Content-Type: ${type}`];
    const given = body === undefined ? [] : ['--data-binary', '@-'];
    const output = await this.#host.run(
      [
        'curl',
        '-sS',
        '--max-time',
        '20',
        '-X',
        method,
        ...ca,
        ...headers,
        ...given,
        '-w',
        '\n%{http_code}',
        `${this.#url}${path}`,
      ],
      body === undefined ? {} : { input: JSON.stringify(body) },
    );
    const at = output.lastIndexOf('\n');
    const status = Number(output.slice(at));
    if (status < 200 || status > 299) throw new Error(`${method} ${path}: ${status}\n${output.slice(0, at)}`);
    return output.slice(0, at);
  }

  /** Objects of one API, each in its place. */
  async apply(yaml: string, api: string): Promise<void> {
    for (const document of parseAllDocuments(yaml)) {
      const object = document.toJS();
      if (object?.apiVersion !== api) continue;
      await this.request('POST', `/apis/${api}/${object.kind.toLowerCase()}s`, object);
    }
  }

  /** Of the API server. */
  async version(): Promise<string> {
    if (REAL === undefined) return 'a small one of our own';
    const { gitVersion } = (await this.request('GET', '/version')) as { gitVersion: string };
    return `kube-apiserver ${gitVersion}`;
  }

  async createNamespace(name: string, annotations: Record<string, string> = {}): Promise<void> {
    const object = { apiVersion: 'v1', kind: 'Namespace', metadata: { name, annotations } };
    await this.request('POST', '/api/v1/namespaces', object);
  }
}
