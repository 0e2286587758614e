// npm run demo: vl3 from nothing to one flat network across three clouds, and a workload of another company on it, proven
// step by step. Exits 0 only if all of it held, and leaves nothing behind unless asked to.

import { parseArgs } from 'node:util';
import { Lab } from '../lab/lab.ts';
import { removeDeadRuns, removeKept } from '../lab/ledger.ts';
import { Gossip } from './gossip.ts';
import { byForgery, byRoute, type Cast, throughBoth } from './isolation.ts';
import { Partner } from './partner.ts';
import { howToPlay } from './play.ts';
import { bigPing, httpRequest, marker, pingMatrix, streams } from './reachability.ts';
import { Report, Unfinished } from './report.ts';
import { onlyCiphertext } from './secrecy.ts';
import { compare, measure } from './throughput.ts';
import { World } from './world.ts';

const PREFIX = 'vl3d-';
const USAGE = `npm run demo -- [--keep] [-o json]   run the demo
npm run demo -- --clean              remove demos left running by --keep

  --rounds  how often the throughput is measured, 3 times if not said
  --keep    leave it running afterwards and say how to play with it
  -o json   the summary as JSON on standard output; the progress goes to standard error`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      keep: { type: 'boolean', default: false },
      clean: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '3' },
      output: { type: 'string', short: 'o', default: 'text' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  if (!['text', 'json'].includes(values.output)) throw new Error(`-o ${values.output}: say text or json`);
  const rounds = Number(values.rounds);
  if (!(Number.isInteger(rounds) && rounds > 0)) throw new Error(`--rounds ${values.rounds}: say a number`);
  if (process.getuid?.() !== 0)
    throw new Error('the demo makes network namespaces, which only root may: use sudo');
  if (values.clean) return clean();

  const report = new Report(values.output === 'json' ? process.stderr : process.stdout);
  report.say(
    'vl3: one flat, private network across clouds. Hosts here are network namespaces; the rest is real.',
  );
  const lab = Lab.create({ prefix: PREFIX });
  let world: World | undefined;
  try {
    world = await build(lab, report);
    await prove(world, report, rounds);
  } catch (error) {
    if (!(error instanceof Unfinished)) throw error;
  }
  if (!report.held) explain(report, world);
  if (values.keep && world) {
    lab.keep();
    report.say(howToPlay(world));
  } else {
    await report.prove('everything is removed again', async () => {
      await lab.close();
      return '';
    });
  }
  const failed = report.lines.filter((line) => !line.held).length;
  const verdict = failed === 0 ? 'all of it held' : `${failed} did not hold`;
  report.say(`\n${report.lines.length} steps, ${verdict}, ${report.seconds.toFixed(1)} s`);
  if (values.output === 'json')
    console.log(
      JSON.stringify(
        { run: lab.name, held: report.held, seconds: report.seconds, steps: report.lines },
        null,
        2,
      ),
    );
  process.exitCode = report.held ? 0 : 1;
}

async function build(lab: Lab, report: Report): Promise<World> {
  report.chapter('The world');
  const made: { world?: World } = {};
  await report.build('an internet and three clouds', async () => {
    made.world = await World.build(lab);
    return [
      '4 nodes',
      'alpha  a1 198.51.100.11, a2 198.51.100.12   public addresses; the registry is here too',
      'beta   b1 10.0.0.10                         one-to-one NAT: 203.0.113.10 from outside',
      'gamma  c1 10.0.0.10                         port-restricted NAT: nobody outside can call it',
    ].join('\n');
  });
  const { world } = made;
  if (!world) throw new Unfinished();
  await report.build('vl3 registry run', async () => {
    await world.startRegistry();
    return 'on 198.51.100.5:7443';
  });
  await report.build('vl3 network create', async () => {
    await world.createNetworks();
    return 'red (10.60.0.0/16, fd00:60::/48) and green (10.70.0.0/16)';
  });
  await report.build('vl3 token create, vl3 agent run', async () => {
    await world.startAgents();
    return 'a1, a2, b1 and c1 are enrolled';
  });
  await report.build('vl3 run, vl3 attach', async () => {
    await world.startPods();
    const names = world.pods.map((pod) => pod.name);
    return `${names.length} pods, red, green and both in every cloud`;
  });
  return world;
}

async function prove(world: World, report: Report, rounds: number): Promise<void> {
  const [redA, redB, redC] = [world.pod('red-a'), world.pod('red-b'), world.pod('red-c')];

  report.chapter('One flat network');
  await report.prove('ping, red over IPv4', () => pingMatrix(world, 'red', 'v4'));
  await report.prove('ping, red over IPv6', () => pingMatrix(world, 'red', 'v6'));
  await report.prove('ping, green over IPv4', () => pingMatrix(world, 'green', 'v4'));
  await report.prove('ping with 4000 bytes, in fragments, gamma to beta', () => bigPing(redC, redB));
  await report.prove('HTTP, gamma to beta', () => httpRequest(redC, redB, marker().text));
  await report.prove('iperf3', () =>
    streams([
      [redA, redB],
      [redB, redC],
      [redC, redA],
    ]),
  );

  report.chapter('Private');
  await report.prove('the internet sees ciphertext only', () => onlyCiphertext(world, redC, redB));
  // On one node of beta, so that no router namespace stands in between but the networks' own.
  const cast: Cast = {
    red: redB,
    both: world.pod('both-b'),
    green: world.pod('green-b'),
    otherRed: redA,
  };
  await report.prove('a red pod never reaches a green one', () => byRoute(cast));
  await report.prove('... nor through a pod on both', () => throughBoth(cast));
  await report.prove('... nor with a forged source', () => byForgery(cast));

  report.chapter('Fast');
  await report.prove('one TCP stream, alpha to beta', async () =>
    compare(await measure(world, redA, redB, rounds)),
  );

  report.chapter('What it is for: an unmodified cluster (serf) across clouds');
  const gossip = new Gossip();
  await gossip.start(world);
  await report.prove('one cluster on red', () => gossip.formed('red'));
  await report.prove('another on green', () => gossip.formed('green'));
  await report.prove('they never see each other', () => gossip.separate(world));

  report.chapter('Another company: partner.example, with a registry, a CA and address plans of its own');
  const company: { partner?: Partner } = {};
  await report.build('vl3 registry run, vl3 agent run', async () => {
    company.partner = await Partner.start(world);
    return 'its node d1 198.18.7.11';
  });
  const { partner } = company;
  if (!partner) throw new Unfinished();
  await report.build('vl3 federation invite, accept', () => partner.federate());
  await report.prove('without a rule nothing of it comes in', () => partner.nothingYet());
  await report.build('vl3 admission create: its ledger comes to red', () => partner.admitted(redB));
  await report.prove('... and nothing else of it, and to nothing else', () =>
    partner.andNothingElse(cast.green),
  );
  await report.prove('the same addresses on both sides', () => partner.overlap());
  await report.prove('vl3 federation revoke', () => partner.revoked(redB));
}

function explain(report: Report, world: World | undefined): void {
  report.chapter('What vl3 said last');
  for (const daemon of world?.daemons ?? []) {
    const lines = daemon.output().trimEnd().split('\n').slice(-6);
    if (lines.join('') === '') continue;
    report.say(`  ${daemon.log.split('/').pop()}`);
    for (const line of lines) report.say(`      ${line.slice(0, 400)}`);
  }
  report.say('\n  To look around where it failed: npm run demo -- --keep');
}

function clean(): void {
  const removed = [...removeDeadRuns(), ...removeKept(PREFIX)];
  console.log(removed.length === 0 ? 'no demo was left running' : `removed ${removed.join(', ')}`);
}

await main().catch((error: unknown) => {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
