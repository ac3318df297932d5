export function decide() {}
