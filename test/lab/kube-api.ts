// A small Kubernetes API server: the calls that vl3 and its tests make, with versions, pages, bookmarks, 410 Gone and RBAC.
// Run as a program in a namespace of the lab: `node kube-api.ts '{"port":6443,...}'`.

import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { parseAllDocuments } from 'yaml';
import { admit, type Write } from './kube-admission.ts';
import { type Change, type KubeObject, KubeStore, mergeByName, mergePatch } from './kube-store.ts';
import { KubeTokens } from './kube-tokens.ts';

export interface KubeApiOptions {
  port: number;
  /** Where objects are kept. */
  file: string;
  /** The rules that `agentToken` is held to; whoever has `adminToken` may do everything. */
  rbac: string;
  certificate: string;
  key: string;
  agentToken: string;
  adminToken: string;
  /** What tokens of service accounts are signed with; default: there are none. */
  accountKey?: string;
  /** Pages are no longer, whatever was asked for. */
  page?: number;
  bookmarkMs?: number;
}

class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const KINDS: Record<string, string> = {
  pods: 'Pod',
  namespaces: 'Namespace',
  events: 'Event',
  services: 'Service',
  configmaps: 'ConfigMap',
  serviceaccounts: 'ServiceAccount',
  validatingwebhookconfigurations: 'ValidatingWebhookConfiguration',
};
const TOKEN = /^\/api\/v1\/namespaces\/([^/]+)\/serviceaccounts\/([^/]+)\/token$/;
const WEBHOOKS = 'admissionregistration.k8s.io/v1';

interface Call {
  resource: string;
  isStatus: boolean;
  namespace: string;
  name: string;
  verb: string;
  query: URLSearchParams;
}

export function startKubeApi(options: KubeApiOptions) {
  const store = new KubeStore(options.file);
  const tokens = options.accountKey === undefined ? undefined : new KubeTokens(options.accountKey, store);
  const rules = rulesOf(readFileSync(options.rbac, 'utf8'));
  const watches = new Set<ServerResponse>();

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(request.url ?? '/', 'http://api');
    const token = request.headers.authorization?.replace(/^Bearer /, '');
    if (token !== options.agentToken && token !== options.adminToken) throw new Refusal(401, 'Unauthorized');
    if (url.pathname === '/test/compact') {
      store.compact();
      return answer(response, 200, {});
    }
    if (url.pathname === '/test/cut') {
      for (const watch of watches) watch.destroy();
      return answer(response, 200, {});
    }
    const published = tokens?.published(url.pathname);
    if (published !== undefined) {
      const isTaken = request.headers.accept?.includes(tokens?.typeOf(url.pathname) ?? '');
      if (!isTaken) throw new Refusal(406, 'Not Acceptable');
      return answer(response, 200, published);
    }
    const [, of = '', account = ''] = TOKEN.exec(url.pathname) ?? [];
    if (account !== '' && tokens !== undefined && token === options.adminToken) {
      const made = tokens.request(of, account, (await readBody(request)) as never);
      if (made === undefined) throw new Refusal(409, 'the pod that the token is bound to is another');
      return answer(response, 201, made);
    }
    const call = callOf(request.method ?? '', url);
    const what = call.isStatus ? `${call.resource}/status` : call.resource;
    const allowed = [`${call.verb} ${what}`, `${call.verb} ${what} ${call.name}`];
    if (token === options.agentToken && !rules.some((rule) => allowed.includes(rule)))
      throw new Refusal(403, `${what} is forbidden: cannot ${call.verb}`);
    if (call.verb === 'watch') return watch(call, response);
    const body = await readBody(request);
    const done = await carryOut(call, body, request, response);
    answer(response, call.verb === 'create' ? 201 : 200, done);
  };

  const carryOut = async (
    call: Call,
    body: unknown,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<unknown> => {
    const { resource, namespace, name, verb } = call;
    if (verb === 'list') return list(call);
    if (verb === 'create') {
      const made = named(call, body as KubeObject);
      const write: Write = { operation: 'CREATE', resource, namespace, object: made, oldObject: undefined };
      await admitted(write, response);
      return create(call, made);
    }
    const found = store.get(resource, namespace, name);
    if (found === undefined) throw new Refusal(404, `${resource} "${name}" not found`);
    if (verb === 'get') return found;
    if (verb === 'delete') {
      store.delete(resource, found);
      return found;
    }
    const type = request.headers['content-type'];
    const isStrategic = resource === 'validatingwebhookconfigurations';
    if (type !== `application/${isStrategic ? 'strategic-merge' : 'merge'}-patch+json`)
      throw new Refusal(415, `the body of a patch is ${type}`);
    const patched = (isStrategic ? mergeByName(found, body) : mergePatch(found, body)) as KubeObject;
    if (patched.metadata.resourceVersion !== found.metadata.resourceVersion)
      throw new Refusal(409, 'the object has been modified; please apply your changes to the latest version');
    if (patched.metadata.uid !== found.metadata.uid)
      throw new Refusal(409, 'the UID in the precondition differs');
    // A patch of the status changes what the pod shows, not what it is to be.
    const object = call.isStatus && found.spec ? { ...patched, spec: found.spec } : patched;
    const write: Write = { operation: 'UPDATE', resource, namespace, object, oldObject: found };
    if (!call.isStatus) await admitted(write, response);
    return store.replace(resource, found, object);
  };

  const admitted = async (write: Write, response: ServerResponse): Promise<void> => {
    const { warnings, denied } = await admit(store, write);
    const lines = warnings.map((one) => `299 - ${JSON.stringify(one)}`);
    if (lines.length > 0) response.setHeader('warning', lines);
    if (denied !== undefined) throw new Refusal(denied.status, denied.message);
  };

  const named = ({ namespace }: Call, body: KubeObject): KubeObject => {
    const { generateName } = body.metadata as { generateName?: string };
    const name = body.metadata.name ?? `${generateName}${store.version}`;
    const metadata = { ...body.metadata, name, ...(namespace === '' ? {} : { namespace }) };
    return { ...body, metadata };
  };

  const create = ({ resource }: Call, object: KubeObject): KubeObject => {
    const { name, namespace = '' } = object.metadata;
    if (store.get(resource, namespace, name) !== undefined)
      throw new Refusal(409, `"${name}" already exists`);
    const apiVersion = resource === 'validatingwebhookconfigurations' ? WEBHOOKS : 'v1';
    return store.create(resource, { ...object, apiVersion, kind: KINDS[resource] ?? '' });
  };

  const list = ({ resource, namespace, query }: Call): unknown => {
    const [version = String(store.version), from = '0'] = (query.get('continue') ?? '')
      .split(' ')
      .filter(Boolean);
    if (query.has('continue') && store.since(Number(version), resource) === undefined)
      throw new Refusal(410, 'The provided continue parameter is too old');
    const all = store
      .list(resource)
      .filter((one) => matches(one, query) && (namespace === '' || one.metadata.namespace === namespace));
    const limit = query.has('limit') ? Math.min(Number(query.get('limit')), options.page ?? 500) : all.length;
    const end = Number(from) + limit;
    const more = end < all.length ? { continue: `${version} ${end}` } : {};
    return {
      apiVersion: 'v1',
      kind: `${KINDS[resource]}List`,
      metadata: { resourceVersion: version, ...more },
      items: all.slice(Number(from), end),
    };
  };

  const watch = ({ resource, query }: Call, response: ServerResponse): void => {
    response.writeHead(200, { 'content-type': 'application/json' });
    const send = (type: string, object: unknown) => response.write(`${JSON.stringify({ type, object })}\n`);
    const missed = store.since(Number(query.get('resourceVersion')), resource);
    if (missed === undefined) {
      send('ERROR', { kind: 'Status', status: 'Failure', code: 410, reason: 'Expired', message: 'too old' });
      response.end();
      return;
    }
    const tell = (change: Change): void => {
      if (change.resource !== resource) return;
      const [was, is] = [change.before, change.after].map((one) => one !== undefined && matches(one, query));
      if (is) send(was ? 'MODIFIED' : 'ADDED', change.after);
      else if (was) send('DELETED', change.before);
    };
    missed.forEach(tell);
    const stop = store.watch(tell);
    watches.add(response);
    const bookmark = setInterval(() => {
      if (query.get('allowWatchBookmarks') !== 'true') return;
      const metadata = { resourceVersion: String(store.version) };
      send('BOOKMARK', { apiVersion: 'v1', kind: KINDS[resource], metadata });
    }, options.bookmarkMs ?? 500);
    const end = setTimeout(() => response.end(), Number(query.get('timeoutSeconds') ?? 300) * 1000);
    response.on('close', () => {
      stop();
      watches.delete(response);
      clearInterval(bookmark);
      clearTimeout(end);
    });
    response.flushHeaders();
  };

  const tls = { cert: readFileSync(options.certificate), key: readFileSync(options.key) };
  const server = createServer(tls, (request, response) => {
    serve(request, response).catch((error: unknown) => {
      const code = error instanceof Refusal ? error.status : 500;
      answer(response, code, {
        kind: 'Status',
        status: 'Failure',
        code,
        message: error instanceof Error ? error.message : String(error),
      });
    });
  });
  server.listen(options.port, '127.0.0.1');
  return { server, store };
}

const matches = (object: KubeObject, query: URLSearchParams): boolean => {
  const selector = query.get('fieldSelector');
  if (selector === null) return true;
  const [, node] = /^spec\.nodeName=(.*)$/.exec(selector) ?? [];
  if (node === undefined) throw new Refusal(400, `field selector ${selector}`);
  return object.spec?.nodeName === node;
};

const VERBS: Record<string, string> = { POST: 'create', PATCH: 'patch', DELETE: 'delete' };

const callOf = (method: string, { pathname, searchParams: query }: URL): Call => {
  const found =
    /^\/api\/v1\/namespaces\/(?<namespace>[^/]+)\/(?<resource>pods|events|services|configmaps|serviceaccounts)(\/(?<name>[^/]+)(?<status>\/status)?)?$/.exec(
      pathname,
    ) ??
    /^\/api\/v1\/(?<resource>pods|namespaces)(\/(?<name>[^/]+))?$/.exec(pathname) ??
    /^\/apis\/admissionregistration\.k8s\.io\/v1\/(?<resource>validatingwebhookconfigurations)(\/(?<name>[^/]+))?$/.exec(
      pathname,
    );
  if (found === null) throw new Refusal(404, `there is no ${pathname} here`);
  const { namespace = '', resource = '', name = '', status } = found.groups ?? {};
  const get = name === '' ? (query.get('watch') === 'true' ? 'watch' : 'list') : 'get';
  return { namespace, resource, isStatus: status !== undefined, name, query, verb: VERBS[method] ?? get };
};

interface Rule {
  resources: string[];
  verbs: string[];
  resourceNames?: string[];
}

/** "verb resource", or "verb resource name", of every ClusterRole in the text. */
const rulesOf = (text: string): string[] =>
  parseAllDocuments(text)
    .map((document) => document.toJS())
    .filter((one) => one?.kind === 'ClusterRole')
    .flatMap(({ rules }: { rules: Rule[] }) => rules)
    .flatMap(({ resources, verbs, resourceNames }) =>
      resources.flatMap((one) =>
        verbs.flatMap((verb) => resourceNames?.map((name) => `${verb} ${one} ${name}`) ?? `${verb} ${one}`),
      ),
    );

const readBody = async (request: IncomingMessage): Promise<unknown> => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return chunks.length === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString('utf8'));
};

const answer = (response: ServerResponse, status: number, body: unknown): void => {
  if (response.headersSent) return;
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
};

if (import.meta.main) startKubeApi(JSON.parse(process.argv[2] ?? '{}'));
