/**
 * Runs a runtime's adapter under Node, for whoever writes to its input: what `host.py` is for Python,
 * with the same messages, those of `channel.py`.
 *
 * Started as `node host.mjs ADAPTER ENVIRONMENT`, with answers going to file descriptor 3, since what
 * libraries print is no answer. ENVIRONMENT is the folder with the packages.
 *
 * An adapter is a module with two functions: `versions(require)`, by package, and
 * `load(require, path, inputs, outputs)`, which gives a function from arrays by name to arrays by
 * name; `require` finds the packages. An array is `{dtype, shape, bytes}`, and one of strings, which
 * has no bytes, `{dtype, shape, strings}`.
 */

import { readSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const REQUESTS = 0;
const ANSWERS = 3;
const LENGTH = 8;

const ITEM_SIZES = {
  bool: 1, int8: 1, uint8: 1, int16: 2, uint16: 2, int32: 4, uint32: 4, int64: 8, uint64: 8,
  float16: 2, bfloat16: 2, float32: 4, float64: 8,
};

class End extends Error {}

/** The next bytes, in a buffer of their own: its start is aligned for every element type. */
function exactly(count) {
  const content = new Uint8Array(new ArrayBuffer(count));
  for (let done = 0; done < count; ) {
    const read = readSync(REQUESTS, content, done, count - done, null);
    if (read === 0) throw new End();
    done += read;
  }
  return content;
}

function write(content) {
  for (let done = 0; done < content.length; ) {
    done += writeSync(ANSWERS, content, done, content.length - done);
  }
}

function received({ dtype, shape, strings }) {
  if (strings) return { dtype, shape, strings };
  const count = shape.reduce((product, length) => product * length, 1);
  return { dtype, shape, bytes: exactly(count * ITEM_SIZES[dtype]) };
}

function receive() {
  const length = Number(Buffer.from(exactly(LENGTH)).readBigUInt64LE());
  const { values, ...message } = JSON.parse(Buffer.from(exactly(length)).toString());
  const arrays = Object.entries(values).map(([name, described]) => [name, received(described)]);
  return { message, arrays: Object.fromEntries(arrays) };
}

function send(message, arrays) {
  const described = Object.entries(arrays).map(([name, { bytes, ...value }]) => [name, value]);
  const header = Buffer.from(JSON.stringify({ ...message, values: Object.fromEntries(described) }));
  const length = Buffer.alloc(LENGTH);
  length.writeBigUInt64LE(BigInt(header.length));
  write(Buffer.concat([length, header]));
  for (const { bytes } of Object.values(arrays)) if (bytes) write(bytes);
}

/** What was thrown, in words: compiled code throws numbers, too. */
function said(error) {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

async function main([name, environment]) {
  const require = createRequire(join(environment, "package.json"));
  let adapter, run;
  for (;;) {
    const { message, arrays } = receive();
    let about = {};
    let results = {};
    try {
      if (adapter === undefined) {
        adapter = await import(new URL(name, import.meta.url));
        about = { versions: adapter.versions(require) };
      } else if ("path" in message) {
        run = await adapter.load(require, message.path, message.inputs, message.outputs);
      } else {
        results = await run(arrays);
      }
    } catch (error) {
      send({ error: said(error) }, {});
      continue;
    }
    send({ ok: true, ...about }, results);
  }
}

main(process.argv.slice(2)).catch((error) => {
  if (!(error instanceof End)) throw error;
  process.exit(0);
});
