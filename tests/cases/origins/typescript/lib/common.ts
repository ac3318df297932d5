export type Level = "warning" | "critical";

export function firing<T extends string>(host: T, severity: Level): Action {
  return alert({ key: host, state: "firing", severity });
}
