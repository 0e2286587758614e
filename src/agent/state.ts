// What an agent keeps across restarts and crashes. Session keys and counters are never here.

import { DocumentDatabase } from '../document-database.ts';

export class AgentState extends DocumentDatabase {
  /** Opens or creates `<directory>/agent.db`. Throws Vl3Error: 'internal' when the file is damaged, else 'failed-precondition'. */
  constructor(directory: string) {
    super(directory, {
      file: 'agent.db',
      owner: 'agent',
      remedy: 'run "vl3 agent clean" and enrol anew',
    });
  }
}
