enum Queue { First, Second } // TS1294

export const decide: Decide = () => ticket({ queue: Queue[Queue.First] });
