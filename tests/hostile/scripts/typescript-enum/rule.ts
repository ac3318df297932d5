// An enum is code, not a type.
  enum Queue { First, Second }
export function decide() {
  return ticket({ queue: Queue[0] });
}
