/*
 * What ONNX Runtime gives for the graphs of tests/oracle/families.py, beside them.
 *
 * node onnxruntime_outputs.js DIRECTORY   reads DIRECTORY/list; runs DIRECTORY/FAMILY/GRAPH.onnx on
 * DIRECTORY/FAMILY/inputs.json and writes its last output, or the error, as GRAPH.onnxruntime.
 */
"use strict";
const fs = require("fs");
const path = require("path");
const onnxruntime = require("onnxruntime-node");

function tensor({ type, dims, data }) {
  const values = type === "int64" ? BigInt64Array.from(data.map(BigInt)) : Float32Array.from(data);
  return new onnxruntime.Tensor(type, values, dims);
}

async function run(graph, inputs) {
  const session = await onnxruntime.InferenceSession.create(graph, {
    intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 });
  const feeds = {};
  for (const name of session.inputNames) feeds[name] = tensor(inputs[name]);
  const last = session.outputNames[session.outputNames.length - 1];
  const found = (await session.run(feeds, [last]))[last];
  return { dims: found.dims, data: Array.from(found.data) };
}

async function main(directory) {
  const graphs = new Set();
  for (const line of fs.readFileSync(path.join(directory, "list"), "utf8").trim().split("\n")) {
    const [family, graph] = line.split("\t");
    graphs.add(path.join(directory, family, graph));
  }
  for (const stem of graphs) {
    const inputs = JSON.parse(fs.readFileSync(path.join(path.dirname(stem), "inputs.json")));
    let result;
    try {
      result = await run(`${stem}.onnx`, inputs);
    } catch (error) {
      result = { error: String(error.message) };
    }
    fs.writeFileSync(`${stem}.onnxruntime`, JSON.stringify(result));
  }
}

main(process.argv[2]);
