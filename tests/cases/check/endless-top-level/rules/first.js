for (;;) {}
export function decide() {}
