export type Queue = "first" | "second";
export const queues: Queue[] = ["first", "second"];
