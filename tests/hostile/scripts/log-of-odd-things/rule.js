const stubborn = () => {
  throw new Error("no");
};

export function decide() {
  const cycle = {};
  cycle.self = cycle;
  const error = Object.defineProperty(new Error("x"), "name", { get: stubborn });
  console.log(new Proxy({}, { get: stubborn, getPrototypeOf: stubborn }), { toJSON: stubborn }, error, cycle);
  console.log(Symbol("s"), 5n, undefined, null, Object.create(null), stubborn, new Map(), /x/);
  return ignore("all of it was logged");
}
