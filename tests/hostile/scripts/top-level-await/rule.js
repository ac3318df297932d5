await new Promise(() => {});
export function decide() {}
