/** ONNX Runtime Web: the WebAssembly of browsers, run under Node. */

import { readFileSync } from "node:fs";

import { opened } from "./session.mjs";

export function versions(require) {
  const { web } = require("onnxruntime-web").env.versions;
  return { "onnxruntime-web": web, node: process.versions.node, v8: process.versions.v8 };
}

export function load(require, path, inputs, outputs) {
  const ort = require("onnxruntime-web");
  ort.env.wasm.numThreads = 1;
  return opened(ort, readFileSync(path), { executionProviders: ["wasm"] }, outputs);
}
