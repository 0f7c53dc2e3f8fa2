/** Sessions of ONNX Runtime, for its packages for Node and for browsers. */

const CONSTRUCTORS = {
  bool: Uint8Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
  float16: Uint16Array, float32: Float32Array, float64: Float64Array,
};

function tensor(ort, { dtype, shape, bytes, strings }) {
  if (strings) return new ort.Tensor("string", strings, shape);
  const Elements = CONSTRUCTORS[dtype];
  if (Elements === undefined) throw new TypeError(`ONNX Runtime's tensors have no ${dtype} here`);
  return new ort.Tensor(dtype, new Elements(bytes.buffer), shape);
}

function array({ type, dims, data }) {
  if (type === "string") return { dtype: type, shape: dims, strings: data };
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { dtype: type, shape: dims, bytes };
}

let last;

/** Return a function that runs the model. The earlier session is released, or its memory would stay. */
export async function opened(ort, model, options, outputs) {
  await last?.release();
  last = undefined;
  const session = await ort.InferenceSession.create(model, { logSeverityLevel: 4, ...options });
  last = session;
  return async (arrays) => {
    const inputs = Object.entries(arrays).map(([name, value]) => [name, tensor(ort, value)]);
    const results = await session.run(Object.fromEntries(inputs), outputs);
    return Object.fromEntries(outputs.map((name) => [name, array(results[name])]));
  };
}
