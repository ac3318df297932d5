// Builds the component. Without these features the JavaScript runtime imports only the contract.
import { writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize({
  sourcePath: "rule.js",
  witPath: "wit",
  // With `rule` it would import kv and lookup, used or not, and need both grants.
  worldName: "plain-rule",
  disableFeatures: ["random", "stdio", "clocks", "http", "fetch-event"],
});
await writeFile("{{name}}.wasm", component);
