while (true) {}
export function decide() {}
