//! Blocks read by every policy at every size of the cache, a line for each workload and size: the whole
//! comparison at a glance where there are several sizes.

use super::summary::Row;
use super::table::{aligned, cache_size};
use crate::units::{signed_percent, thousands};
use results::Role;

/// Heads and cells of the matrix.
pub struct Matrix {
    /// Of the columns. The first is left-aligned.
    pub heads: Vec<String>,
    /// A line for each workload and size.
    pub lines: Vec<Vec<String>>,
    /// Whether some blocks are made without being read, so that misses are more than reads.
    pub makes_blocks: bool,
}

/// What is under the matrix where blocks are made.
pub const NOTE: &str = "The limits are misses, and so is what is compared with them: where a program makes blocks that it did not \
                        read, misses are more than reads.";

/// The matrix; `None` if every workload ran with one size only.
pub fn matrix(rows: &[Row]) -> Option<Matrix> {
    let keys = once_each(rows.iter().map(key));
    let several = keys.iter().any(|one| keys.iter().any(|other| one.0 == other.0 && one.1 != other.1));
    let names = once_each(rows.iter().map(|row| row.name.as_str()));
    let heads = ["workload", "cache"].into_iter().chain(names.iter().copied()).chain([
        "Belady",
        "own ± Belady",
        "fixed set",
        "own ± fixed set",
    ]);
    let line = |wanted: &(&str, u64)| {
        let of_key: Vec<&Row> = rows.iter().filter(|row| key(row) == *wanted).collect();
        let reads = |name: &&str| {
            let found = of_key.iter().find(|row| row.name == **name);
            found.map_or_else(|| "—".to_owned(), |row| thousands(row.reads))
        };
        let mut cells =
            vec![wanted.0.to_owned(), of_key.first().map_or_else(String::new, |row| cache_size(row))];
        cells.extend(names.iter().map(reads));
        let own = of_key.iter().find(|row| row.line.role == Role::Own);
        for limit in [|row: &Row| row.line.opt_misses, |row: &Row| row.line.fixed_misses] {
            let limit = of_key.iter().find_map(|row| limit(row));
            let excess = own.zip(limit.filter(|limit| *limit > 0));
            let excess =
                excess.map(|(row, limit)| signed_percent(row.line.misses as f64 / limit as f64 - 1.0));
            let cell = |text: Option<String>| text.unwrap_or_else(|| "—".to_owned());
            cells.extend([cell(limit.map(thousands)), cell(excess)]);
        }
        cells
    };
    several.then(|| Matrix {
        heads: heads.map(str::to_owned).collect(),
        lines: keys.iter().map(line).collect(),
        makes_blocks: rows.iter().any(|row| row.line.role != Role::Peer && row.line.misses > row.reads),
    })
}

/// Items in the order of their first appearance.
fn once_each<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.fold(Vec::new(), |mut found, item| {
        if !found.contains(&item) {
            found.push(item);
        }
        found
    })
}

fn key(row: &Row) -> (&str, u64) {
    (&row.line.workload, row.line.cache_blocks)
}

impl Matrix {
    /// As text.
    pub fn text(&self) -> String {
        let lines: Vec<Vec<String>> = std::iter::once(&self.heads).chain(&self.lines).cloned().collect();
        let table = aligned(&lines, |column| column == 0);
        let note = if self.makes_blocks { format!("{NOTE}\n") } else { String::new() };
        format!("\nBlocks read, by size of the cache:\n{table}{note}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::summary::rows;
    use super::super::summary::tests::{sample, samples};
    use super::*;

    #[test]
    fn one_size_needs_no_matrix() {
        assert!(matrix(&rows(&samples())).is_none());
    }

    #[test]
    fn a_line_for_each_size_and_a_column_for_each_policy() {
        let mut all = samples();
        for mut larger in samples() {
            larger.line.cache_blocks = 90;
            (larger.line.reads, larger.line.misses) = (150, 189);
            all.push(larger);
        }
        all.push(sample("linux", Role::Peer, 0, 400, 1.0));
        let found = matrix(&rows(&all)).unwrap();
        assert_eq!(
            found.heads,
            [
                "workload",
                "cache",
                "default",
                "own",
                "linux",
                "Belady",
                "own ± Belady",
                "fixed set",
                "own ± fixed set"
            ]
        );
        assert_eq!(
            found.lines[0],
            ["din", "80 (80 %)", "500", "180", "400", "180", "+0.0 %", "200", "−10.0 %"]
        );
        assert_eq!(found.lines[1], ["din", "90 (90 %)", "150", "150", "—", "180", "+5.0 %", "200", "−5.5 %"]);
        assert_eq!(found.lines.len(), 2);
        assert!(found.makes_blocks && found.text().contains(NOTE));
        let widths: Vec<usize> =
            found.text().lines().skip(2).take(3).map(|line| line.chars().count()).collect();
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{}", found.text());
    }
}
