throw new Error("not today");
export function decide() {}
