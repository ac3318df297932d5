// Its text would be stored with each mail that the rule does not decide.
throw new Error("too much to say: " + "x".repeat(8 << 20));

export function decide() {}
