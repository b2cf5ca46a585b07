/*
 * ONNX Runtime's side of onnxruntime.sh.
 *
 * node onnxruntime_predict.js DIRECTORY THREADS BATCH COUNT   runs DIRECTORY/model.onnx on the first COUNT
 * examples of DIRECTORY/*.raw, BATCH at a time, and prints the microseconds an example, of the CPU and of
 * the clock, once the session is made and has run a batch. BATCH 0: prints the fastest of several instead.
 */
"use strict";
const fs = require("fs");
const onnxruntime = require("onnxruntime-node");

function load(directory, count) {
  const inputs = JSON.parse(fs.readFileSync(`${directory}/inputs.json`));
  for (const [name, input] of Object.entries(inputs)) {
    const bytes = fs.readFileSync(`${directory}/${name}.raw`);
    const kind = input.type === "int64" ? BigInt64Array : Float32Array;
    input.row = input.dims.slice(1).reduce((a, b) => a * b, 1);
    input.data = new kind(bytes.buffer, bytes.byteOffset, count * input.row);
  }
  return inputs;
}

function feeds(inputs, first, count) {
  const result = {};
  for (const [name, { type, dims, row, data }] of Object.entries(inputs))
    result[name] = new onnxruntime.Tensor(type, data.subarray(first * row, (first + count) * row),
      [count, ...dims.slice(1)]);
  return result;
}

async function measure(session, inputs, batch, count) {
  await session.run(feeds(inputs, 0, Math.min(batch, count)));
  const cpu = process.cpuUsage(), clock = process.hrtime.bigint();
  for (let first = 0; first < count; first += batch)
    await session.run(feeds(inputs, first, Math.min(batch, count - first)));
  const used = process.cpuUsage(cpu);
  return [(used.user + used.system) / count, Number(process.hrtime.bigint() - clock) / 1000 / count];
}

async function main(directory, threads, batch, count) {
  const inputs = load(directory, count);
  const session = await onnxruntime.InferenceSession.create(`${directory}/model.onnx`, {
    intraOpNumThreads: threads, interOpNumThreads: 1, executionMode: "sequential", logSeverityLevel: 3 });
  if (batch > 0)
    return console.log((await measure(session, inputs, batch, count)).join(" "));
  const times = [];
  for (const size of [1, 4, 16, 64, 256].filter((size) => size <= count))
    times.push([(await measure(session, inputs, size, count))[1], size]);
  console.log(times.sort((a, b) => a[0] - b[0]).map(([time, size]) => `${size}: ${time.toFixed(1)}`).join(", "));
}

main(process.argv[2], ...process.argv.slice(3).map(Number));
