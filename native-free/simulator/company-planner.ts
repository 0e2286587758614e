// Adds to a plan what two companies' admins do: rules that come and go, labels that change, a partner with nodes of its own that is
// invited and revoked. With dice of its own, so that the rest of a seed's plan stays what it was.

import type { NodePlan, Plan, RulePlan, Step } from './plan.ts';
import { Random } from './random.ts';

const APPS = ['web', 'ledger'];
const STEP_MS = 6000;
/** Nothing lasts for longer here: a partner's SVIDs and bundles must not end. */
const LONGEST_MS = 20_000;

export const withCompanies = (plan: Plan): Plan => {
  const random = new Random(`companies ${plan.seed}`);
  if (plan.pace !== 'lively' || random.chance(0.3)) return plan;
  const hasPartner = random.chance(0.6);
  const nodes: NodePlan[] = hasPartner
    ? Array.from({ length: random.between(1, 3) }, (_, i) => ({
        name: `f${i + 1}`,
        site: undefined,
        isForeign: true,
        isRogue: i === 0 && random.chance(0.4),
      }))
    : [];
  const planner = new CompanyPlanner(random, plan, nodes);
  const until = Math.max(30_000, ...plan.steps.map(({ at }) => at));
  const steps: Step[] = [];
  for (let at = random.between(0, STEP_MS); at < until; at += random.between(0, STEP_MS))
    for (const action of planner.next()) steps.push({ ...action, at });
  // A store that lost its memory has lost its rules and partners with it, and that is another matter.
  const others = plan.steps.filter(({ kind }) => !/^(back-up|restore|roll-back|empty)-registry$/.test(kind));
  return {
    ...plan,
    nodes: [...plan.nodes, ...nodes],
    steps: [...others, ...steps].sort((one, other) => one.at - other.at),
  };
};

type Actions = readonly (Step extends infer S ? (S extends Step ? Omit<S, 'at'> : never) : never)[];

class CompanyPlanner {
  readonly #random: Random;
  readonly #plan: Plan;
  readonly #nodes: readonly NodePlan[];
  readonly #pods: string[];
  readonly #rules = new Set<string>();
  #started = 0;
  #isInvited = false;

  constructor(random: Random, plan: Plan, nodes: readonly NodePlan[]) {
    this.#random = random;
    this.#plan = plan;
    this.#nodes = nodes;
    this.#pods = plan.steps.flatMap((step) => (step.kind === 'start-pod' ? [step.pod] : []));
  }

  next(): Actions {
    const random = this.#random;
    if (this.#nodes.length > 0 && random.chance(0.5)) return this.#partner();
    return random.chance(0.5) ? this.#label() : this.#rule('home');
  }

  #label(): Actions {
    const random = this.#random;
    const labels = random.chance(0.8) ? { app: random.pick(APPS) } : {};
    return this.#pods.length === 0 ? [] : [{ kind: 'label', pod: random.pick(this.#pods), labels }];
  }

  #rule(from: RulePlan['from']): Actions {
    const random = this.#random;
    const network = from === 'partner' ? this.#shared : random.pick(this.#plan.networks);
    const rule = from === 'home' && random.chance(0.4) ? 'home' : `${from}-${random.between(1, 3)}`;
    const isThere =
      this.#rules.has(`${network} ${rule}`) || (rule === 'home' && !this.#rules.has(`${network} no home`));
    const mark = rule === 'home' ? `${network} no home` : `${network} ${rule}`;
    if (isThere === (rule === 'home')) this.#rules.add(mark);
    else this.#rules.delete(mark);
    if (isThere) return [{ kind: 'delete-rule', network, rule }];
    if (rule === 'home') return [{ kind: 'create-rule', network, rule, plan: { from } }];
    const app = random.pick(APPS);
    const selects = random.pick([
      { labels: { app } },
      { workload: `labels.app == "${app}" || workload.startsWith("q")` },
      {},
    ]);
    return [{ kind: 'create-rule', network, rule, plan: { from, ...selects, isDryRun: random.chance(0.1) } }];
  }

  /** Where the partner may come to. */
  get #shared(): string {
    return this.#plan.networks[0] ?? 'red';
  }

  #partner(): Actions {
    const random = this.#random;
    const node = random.pick(this.#nodes).name;
    const forMs = random.between(500, LONGEST_MS);
    if (!this.#isInvited) {
      this.#isInvited = true;
      return [{ kind: 'invite-partner' }, ...this.#rule('partner')];
    }
    switch (random.between(0, 11)) {
      case 0:
        this.#isInvited = false;
        return [{ kind: 'revoke-partner' }];
      case 1:
      case 2:
        return this.#rule('partner');
      case 3:
        return [{ kind: 'rotate-ca' }];
      case 4:
        return [{ kind: 'kill-partner', forMs }];
      case 5:
        return [{ kind: 'pretend', node: random.pick(this.#plan.nodes).name }];
      case 6:
        return [{ kind: 'kill-agent', node }];
      case 7:
        return [{ kind: 'cut-registry', nodes: [node], isOneWay: false, forMs }];
      default: {
        const pod = `q${++this.#started}`;
        this.#pods.push(pod);
        return [{ kind: 'start-pod', pod, node, networks: [this.#shared] }, ...this.#label()];
      }
    }
  }
}
