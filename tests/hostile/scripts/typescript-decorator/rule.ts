const once = (what: unknown, _context: unknown): unknown => what;

class Report {
  @once
  title: string = "Disk full";
}

export function decide() {
  return ticket({ title: new Report().title });
}
