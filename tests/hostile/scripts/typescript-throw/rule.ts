interface Found { name: string; "ü": unknown }
export function decide(mail: { subject: string }): Found[] {
  const found: Found | null = null as Found | null; return [(found as Found)!.name.length];
}
