// What the settings of agent and registry have in common.

import type { SettingFacts } from './setting.ts';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const;

export const METRICS_DESCRIPTION: SettingFacts = {
  placeholder: '<address:port>',
  description: 'where /metrics, /healthz and /readyz are served, without encryption; best a loopback address',
  otherwise: 'nowhere',
};
