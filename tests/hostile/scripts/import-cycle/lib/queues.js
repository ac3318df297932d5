// Uses what the rule has not created yet.
import { names } from "../rule.js";
export const one = names[0];
