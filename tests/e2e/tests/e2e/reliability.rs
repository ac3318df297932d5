//! The tables of `docs/reliability.md` are generated from `tests/hostile/promises`. UPDATE=1 writes them.

use std::fmt::Write as _;

use postroom_e2e::promises::{self, Area};
use postroom_e2e::root;

const PAGE: &str = "docs/reliability.md";
const BEGIN: &str = "<!-- made from tests/hostile/promises: UPDATE=1 writes it -->\n";
const END: &str = "<!-- end -->\n";

#[test]
fn the_page_lists_every_promise() {
    let path = root().join(PAGE);
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect(BEGIN);
    let (_, after) = rest.split_once(END).expect(END);
    let tables: String = promises::areas().iter().map(table).collect();
    let wanted = format!("{before}{BEGIN}{tables}{END}{after}");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let stands = std::fs::read_to_string(&path).unwrap();
    assert!(
        stands == wanted,
        "{PAGE} is not what tests/hostile/promises says: UPDATE=1 writes it"
    );
}

fn table(area: &Area) -> String {
    let mut out = format!("\n### {}\n\n| promise | test |\n|---|---|\n", area.title);
    for promise in &area.promises {
        let package = promise.package.trim_start_matches("postroom-");
        let _ = writeln!(
            out,
            "| {} | {package} `{}` |",
            promise.promise, promise.test
        );
    }
    out.push('\n');
    out
}
