// Archives of images that a container runtime loads, each of one layer. Where there is no registry to pull from, they stand in
// for what quickstarts name.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { makeImage } from '../image.ts';
import { PAUSE } from './node.ts';

const DOCKERFILE = resolve(import.meta.dirname, '../../../deploy/container/Dockerfile');

interface ImageConfig {
  Env?: readonly string[];
  User?: string;
  Entrypoint?: readonly string[];
  Cmd?: readonly string[];
}

/** Packs a directory; answers the archive. */
const pack = (directory: string, tag: string, config: ImageConfig): string => {
  const place = `${directory}.image`;
  mkdirSync(place);
  const layer = join(place, 'layer.tar');
  execFileSync('tar', ['-C', directory, '--numeric-owner', '-cf', layer, '.']);
  const digest = createHash('sha256').update(readFileSync(layer)).digest('hex');
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const rootfs = { type: 'layers', diff_ids: [`sha256:${digest}`] };
  writeFileSync(join(place, 'config.json'), JSON.stringify({ architecture, os: 'linux', config, rootfs }));
  const manifest = [{ Config: 'config.json', RepoTags: [tag], Layers: ['layer.tar'] }];
  writeFileSync(join(place, 'manifest.json'), JSON.stringify(manifest));
  const archive = `${directory}.tar`;
  execFileSync('tar', ['-C', place, '-cf', archive, 'manifest.json', 'config.json', 'layer.tar']);
  rmSync(place, { recursive: true });
  return archive;
};

/** What pods wait in. */
export const makePause = (scratch: string): string => {
  const directory = join(scratch, 'pause');
  mkdirSync(directory);
  copyFileSync('/bin/busybox', join(directory, 'busybox'));
  return pack(directory, PAUSE, { Entrypoint: ['/busybox', 'sleep', '1000000'] });
};

/** Of Debian's busybox, under any name. */
export const makeBusybox = (scratch: string, tag: string): string => {
  const directory = join(scratch, 'busybox');
  for (const name of ['bin', 'tmp', 'proc', 'sys', 'dev', 'etc'])
    mkdirSync(join(directory, name), { recursive: true });
  copyFileSync('/bin/busybox', join(directory, 'bin/busybox'));
  const programs = execFileSync('/bin/busybox', ['--list'], { encoding: 'utf8' }).trim().split('\n');
  for (const name of programs) if (name !== 'busybox') symlinkSync('busybox', join(directory, 'bin', name));
  return pack(directory, tag, { Env: ['PATH=/bin'], Cmd: ['sh'] });
};

/** vl3's, with what the last stage of its Dockerfile says of how it is run. */
export const makeVl3 = (scratch: string, tag: string): string => {
  const directory = join(scratch, `vl3-${createHash('sha256').update(tag).digest('hex').slice(0, 8)}`);
  makeImage(directory);
  return pack(directory, tag, lastStage(readFileSync(DOCKERFILE, 'utf8')));
};

const lastStage = (dockerfile: string): ImageConfig => {
  const stage = dockerfile.slice(dockerfile.lastIndexOf('\nFROM ')).replaceAll('\\\n', ' ');
  const said = (word: string): string => {
    const found = new RegExp(`^${word} (.+)$`, 'm').exec(stage)?.[1];
    if (found === undefined) throw new Error(`the Dockerfile's last stage has no ${word}`);
    return found;
  };
  return {
    Env: said('ENV').split(/\s+/),
    User: said('USER'),
    Entrypoint: JSON.parse(said('ENTRYPOINT')),
    Cmd: JSON.parse(said('CMD')),
  };
};
