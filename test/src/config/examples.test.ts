// The annotated examples: they load, say the defaults, and leave no setting out.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { agentSettings } from '../../../src/config/agent-settings.ts';
import { caSettings } from '../../../src/config/ca-settings.ts';
import { parseConfigFile } from '../../../src/config/config-file.ts';
import { registrySettings } from '../../../src/config/registry-settings.ts';
import { resolveSettings } from '../../../src/config/resolve.ts';
import { type ProgramSettings, type SettingsSchema, settingsOf } from '../../../src/config/setting.ts';
import { webhookSettings } from '../../../src/config/webhook-settings.ts';

const scratch = mkdtempSync(join(tmpdir(), 'vl3-examples-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const programs: ProgramSettings<SettingsSchema>[] = [
  agentSettings,
  registrySettings,
  caSettings,
  webhookSettings,
];

describe.each(programs.map((program) => [program.program, program] as const))(
  'the example of %s',
  (name, program) => {
    const path = resolve(import.meta.dirname, '../../../deploy/examples', `${name}.yaml`);
    const text = readFileSync(path, 'utf8');
    const settings = settingsOf(program);
    /** With every setting that is commented out put in. */
    const whole = text.replace(/^# (?=[a-z-]+: \S+$|[a-z-]+: \[.*\]$)/gm, '');

    test('loads, and says of each setting that has a default just that', () => {
      const values = parseConfigFile(path, text, settings);
      for (const one of settings) {
        if (typeof one.default === 'string') expect(values.get(one.key)?.raw, one.key).toBe(one.default);
        else if (!one.isRequired) expect(values.has(one.key), one.key).toBe(false);
      }
      expect(() => resolveSettings(program, { environment: {}, flags: new Map(), file: path })).not.toThrow();
    });

    test('has every setting, and what it shows for each is a good value', () => {
      const file = join(scratch, `${name}.yaml`);
      writeFileSync(file, whole);
      const { effective } = resolveSettings(program, { environment: {}, flags: new Map(), file });
      const set = effective.filter(({ origin }) => origin === 'file').map(({ key }) => key);
      expect(set.sort()).toEqual(settings.map(({ key }) => key).sort());
    });
  },
);
