/** ONNX Runtime's package for Node: the native library, on CPU. */

import { opened } from "./session.mjs";

export function versions(require) {
  const { node } = require("onnxruntime-node").env.versions;
  return { "onnxruntime-node": node, node: process.versions.node };
}

export function load(require, path, inputs, outputs) {
  const options = { executionProviders: ["cpu"], intraOpNumThreads: 1 };
  return opened(require("onnxruntime-node"), path, options, outputs);
}
