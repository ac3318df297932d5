Error.stackTraceLimit = 0;

export function decide() {
  return ticket();
}
