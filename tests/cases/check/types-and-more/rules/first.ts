enum Queue {
  First,
}
export function decide() {
  return ticket({ queue: String(Queue.First) });
}
