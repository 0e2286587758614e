// npm run reference: writes the reference into the README.

import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { withReference } from './reference.ts';

const readme = join(resolve(import.meta.dirname, '../..'), 'README.md');
writeFileSync(readme, withReference(readFileSync(readme, 'utf8')));
