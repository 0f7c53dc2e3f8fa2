/**
 * Worker under Node: what `worker.py` is under Python, with the same messages, those of `messages.py`.
 *
 * Started as `node worker.mjs HANDLERS ARGUMENT...`. Responses go to file descriptor 3, since Node
 * cannot redirect what libraries print to the standard output. HANDLERS is the path of a module with
 * a function `start(...arguments)`, which returns `{ about, handlers }`. A handler is called with the
 * values and the params of a request, and returns `{ result, values }`.
 *
 * A value is null, a list of values, or an array: `{ dtype, shape, bytes }`, or
 * `{ dtype, shape, strings }` for strings.
 */

import { readSync, writeSync } from "node:fs";
import { pathToFileURL } from "node:url";

const REQUESTS = 0;
const RESPONSES = 3;
const LENGTH = 8;

const ITEM_SIZES = {
  bool: 1, int8: 1, uint8: 1, int16: 2, uint16: 2, int32: 4, uint32: 4, int64: 8, uint64: 8,
  float16: 2, bfloat16: 2, float32: 4, float64: 8, complex64: 8, complex128: 16,
};

/** ml_dtypes stores each element of these in one byte. */
const BYTE_TYPES = /^(float8_|float4_|u?int[24]$)/;

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
    done += writeSync(RESPONSES, content, done, content.length - done);
  }
}

function received(value) {
  if (value === null) return null;
  if (Array.isArray(value)) return value.map(received);
  const { dtype, shape, strings } = value;
  if (strings) return { dtype, shape, strings };
  const size = ITEM_SIZES[dtype] ?? (BYTE_TYPES.test(dtype) ? 1 : undefined);
  if (size === undefined) throw new TypeError(`Node has no element type ${dtype}`);
  const count = shape.reduce((product, axis) => product * axis, 1);
  return { dtype, shape, bytes: exactly(count * size) };
}

function receive() {
  const length = Number(Buffer.from(exactly(LENGTH)).readBigUInt64LE());
  const { values, ...request } = JSON.parse(Buffer.from(exactly(length)).toString());
  const arrays = Object.entries(values).map(([name, value]) => [name, received(value)]);
  return { ...request, values: Object.fromEntries(arrays) };
}

function described(value) {
  if (value === null || value === undefined) return null;
  if (Array.isArray(value)) return value.map(described);
  const { bytes, ...header } = value;
  return header;
}

/** The bytes that follow the header, array by array. */
function contents(value) {
  if (Array.isArray(value)) return value.flatMap(contents);
  return value?.bytes ? [value.bytes] : [];
}

function send(message, values = {}) {
  const all = Object.entries(values);
  const headers = Object.fromEntries(all.map(([name, value]) => [name, described(value)]));
  const header = Buffer.from(JSON.stringify({ ...message, values: headers }));
  const length = Buffer.alloc(LENGTH);
  length.writeBigUInt64LE(BigInt(header.length));
  write(Buffer.concat([length, header]));
  for (const [, value] of all) contents(value).forEach(write);
}

/** The error of a response. WebAssembly throws numbers, too, which have no type. */
function told(error) {
  if (error instanceof Error) return { type: error.name, message: error.message };
  return { type: "", message: String(error) };
}

async function main([path, ...parameters]) {
  let started;
  try {
    const { start } = await import(pathToFileURL(path));
    started = await start(...parameters);
  } catch (error) {
    send({ error: told(error) });
    return;
  }
  send({ result: started.about });
  for (;;) {
    const { method, params, values } = receive();
    let response;
    try {
      response = await started.handlers[method](values, params);
    } catch (error) {
      send({ error: told(error) });
      continue;
    }
    send({ result: response.result ?? {} }, response.values);
  }
}

main(process.argv.slice(2)).catch((error) => {
  if (!(error instanceof End)) throw error;
  process.exit(0);
});
