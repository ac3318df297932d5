export function decide() {
  return ticket({
    title: "x",
    get body() {
      throw new Error("gotcha");
    },
  });
}
