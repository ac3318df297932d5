// Makes the component. Without these features the JavaScript runtime imports nothing but the contract.
import { writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize({
  sourcePath: "rule.js",
  witPath: "wit",
  // `rule` would have it import kv and lookup, used or not, which then have to be granted.
  worldName: "plain-rule",
  disableFeatures: ["random", "stdio", "clocks", "http", "fetch-event"],
});
await writeFile("{{name}}.wasm", component);
