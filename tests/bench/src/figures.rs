//! Medians and percentiles, and the printing of figures.

use std::time::Duration;

/// Returns the value below which `share` (0 to 1) of the values are, by the nearest rank. Zero if there are no values.
pub fn percentile(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    let at = rank.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or_default()
}

pub fn median(values: &[Duration]) -> Duration {
    percentile(values, 0.5)
}

/// Formats a duration, such as `41.3 µs`, `7.2 ms` or `3.41 s`.
pub fn time(duration: Duration) -> String {
    let secs = duration.as_secs_f64();
    if secs >= 1.0 {
        format!("{secs:.2} s")
    } else if secs >= 1e-3 {
        format!("{:.1} ms", secs * 1e3)
    } else {
        format!("{:.1} µs", secs * 1e6)
    }
}

pub fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Formats a share of a duration, such as one mail's of a run.
pub fn each(duration: Duration, count: u32) -> String {
    time(duration / count.max(1))
}

/// Prints rows below a head, each column as wide as its widest cell; the first is aligned left, the others right.
pub fn table(head: &[&str], rows: &[Vec<String>]) {
    let mut all = vec![head.iter().map(|cell| (*cell).to_owned()).collect()];
    all.extend_from_slice(rows);
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = all.iter().filter_map(|row: &Vec<String>| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in &all {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        println!("  {}", cells.join("  ").trim_end());
    }
}
