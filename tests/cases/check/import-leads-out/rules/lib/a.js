export const a = "a";
export * from "../../outside.js";
