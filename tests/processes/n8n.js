// Runs a workflow, starting at one of its nodes: node n8n.js WORKFLOW NODE ITEMS FOLDER. It supports
// the node types that the workflows in the docs use, fails for others, and saves files to FOLDER.
const fs = require("fs");
const path = require("path");

const [, , file, start, items, folder] = process.argv;
const workflow = JSON.parse(fs.readFileSync(file));

function valueOf(text, item) {
  if (typeof text !== "string" || !text.startsWith("=")) return text;
  const run = (code) => new Function("$json", "$binary", `return ${code}`)(item.json, item.binary);
  const whole = /^=\{\{(.*)\}\}$/.exec(text);
  if (whole) return run(whole[1]);
  return text.slice(1).replace(/\{\{(.*?)\}\}/g, (_, code) => run(code));
}

function holds({ conditions: { conditions } }, item) {
  return conditions.every((one) => {
    if (one.operator.operation !== "equals") throw one.operator.operation;
    return valueOf(one.leftValue, item) === valueOf(one.rightValue, item);
  });
}

async function request(parameters, item) {
  const options = { method: parameters.method || "GET", headers: {} };
  if (parameters.genericAuthType === "httpHeaderAuth") options.headers["X-API-Key"] = "YOUR-KEY";
  if (parameters.sendBody) {
    options.headers["Content-Type"] = "application/json";
    options.body = valueOf(parameters.jsonBody, item);
  }
  const response = await fetch(valueOf(parameters.url, item), options);
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  if (parameters.options.response?.response.responseFormat !== "file") {
    return { json: await response.json() };
  }
  const [, fileName] = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition"));
  const bytes = Buffer.from(await response.arrayBuffer());
  return { json: {}, binary: { data: { fileName, bytes } } };
}

const kinds = {
  manualTrigger: () => [[{ json: {} }]],
  webhook: (_, given) => [given],
  set: ({ assignments: { assignments } }, given) => [given.map((item) => ({
    json: Object.fromEntries(assignments.map(({ name, value }) => [name, valueOf(value, item)])),
  }))],
  httpRequest: async (parameters, given) => [
    await Promise.all(given.map((item) => request(parameters, item))),
  ],
  wait: async (_, given) => {
    await new Promise((resume) => setTimeout(resume, 100));
    return [given];
  },
  if: (parameters, given) => [
    given.filter((item) => holds(parameters, item)),
    given.filter((item) => !holds(parameters, item)),
  ],
  filter: (parameters, given) => [given.filter((item) => holds(parameters, item))],
  splitOut: ({ fieldToSplitOut }, given) => [given.flatMap((item) => {
    const list = fieldToSplitOut.split(".").reduce((value, key) => value[key], item.json);
    return list.map((json) => ({ json }));
  })],
  readWriteFile: (parameters, given) => {
    for (const item of given) {
      const name = path.basename(valueOf(parameters.fileName, item));
      fs.writeFileSync(path.join(folder, name), item.binary.data.bytes);
    }
    return [given];
  },
};

async function run(name, given) {
  if (!given.length) return;
  const node = workflow.nodes.find((one) => one.name === name);
  const outputs = await kinds[node.type.split(".")[1]](node.parameters, given);
  const next = workflow.connections[name]?.main ?? [];
  for (const [index, output] of outputs.entries()) {
    for (const { node: following } of next[index] ?? []) await run(following, output);
  }
}

run(start, JSON.parse(items));
