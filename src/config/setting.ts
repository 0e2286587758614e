// What a setting is: a zod field that reads it as people write it (text, the same in a file, the environment and a
// flag), and what they are told about it. A program's settings are one zod object of these: the only place where a
// setting is added. Not here: where values come from (resolve.ts).

import { z } from 'zod';

/** As it is written: one value, or several for a setting that takes a list. */
export type Raw = string | readonly string[];

export interface SettingFacts {
  /** What stands for the value in help, e.g. "<port>". */
  readonly placeholder: string;
  readonly description: string;
  /** What holds when it is not set and has no default, e.g. "the host name". */
  readonly otherwise?: string;
  /** Its environment variable, where that is not the prefix and the key. */
  readonly environment?: string;
  /** A path: on the command line it may be relative, to the directory the command was given in. */
  readonly isPath?: boolean;
  /** Never shown. */
  readonly isSecret?: boolean;
}

const facts = z.registry<SettingFacts>();

/** A setting of this field, described. */
export const setting = <Field extends z.ZodType>(field: Field, about: SettingFacts): Field => {
  facts.add(field, about);
  return field;
};

export type SettingsSchema = z.ZodObject<Record<string, z.ZodType>>;

/** The settings of one program. */
export interface ProgramSettings<Schema extends SettingsSchema> {
  /** What comes after `vl3`, e.g. "agent". */
  readonly program: string;
  readonly environmentPrefix: string;
  /** Read when it is there and no other is named. */
  readonly file: string;
  readonly schema: Schema;
}

/** A setting with everything that is known of it. */
export interface Setting extends SettingFacts {
  /** Its key in the file, and its flag without the dashes. */
  readonly key: string;
  readonly environment: string;
  readonly field: z.ZodType;
  readonly isList: boolean;
  readonly isRequired: boolean;
  readonly default?: Raw;
}

const isRaw = (value: unknown): value is Raw =>
  typeof value === 'string' || (Array.isArray(value) && value.every((one) => typeof one === 'string'));

const innermost = (field: z.core.$ZodType): z.core.$ZodType =>
  field instanceof z.ZodOptional || field instanceof z.ZodPrefault ? innermost(field.def.innerType) : field;

/** All settings of a program, in the order they were written down. */
export const settingsOf = ({ schema, environmentPrefix }: ProgramSettings<SettingsSchema>): Setting[] =>
  Object.entries(schema.shape).map(([key, field]) => {
    const about = facts.get(field);
    if (about === undefined) throw new Error(`the setting ${key} is not described`);
    const byDefault: unknown = field instanceof z.ZodPrefault ? field.def.defaultValue : undefined;
    return {
      environment: `${environmentPrefix}${key.replaceAll('-', '_').toUpperCase()}`,
      ...about,
      key,
      field,
      isList: innermost(field) instanceof z.ZodArray,
      isRequired: !field.safeParse(undefined).success,
      ...(isRaw(byDefault) ? { default: byDefault } : {}),
    };
  });
