// The rule is asked for what it has not made yet.
import { names } from "../rule.js";
export const one = names[0];
