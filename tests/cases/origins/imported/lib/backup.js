import { firing } from "./common.js";

export const set = (mail) => firing(`backup/${mail.subject}`);
