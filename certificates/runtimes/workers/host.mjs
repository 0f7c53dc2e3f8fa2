/**
 * Handlers of a runtime's adapter under Node, for `graphs/processes/worker.mjs`: see `host.py`.
 *
 * ENVIRONMENT is the folder with the packages. An adapter has two functions: `versions(require)`, by
 * package, and `load(require, path, inputs, outputs)`, which returns a function from arrays by name
 * to arrays by name; `require` finds the packages.
 */

import { createRequire } from "node:module";
import { join } from "node:path";

export async function start(name, environment) {
  const require = createRequire(join(environment, "package.json"));
  const adapter = await import(new URL(name, import.meta.url));
  let run;
  const handlers = {
    async load(_, { path, inputs, outputs }) {
      run = await adapter.load(require, path, inputs, outputs);
      return {};
    },
    async run(values) {
      return { values: await run(values) };
    },
  };
  return { about: { versions: adapter.versions(require) }, handlers };
}
