const always = ticket({ queue: "Service desk" });

export const decide = () => always;
