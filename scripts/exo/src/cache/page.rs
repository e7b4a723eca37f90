//! The page of `exo cache simulate`.

use super::replay::Misses;
use crate::page::lines::{Chart, Line, Scale};
use crate::page::{Table, document, facts, series_class};
use crate::units::{human_bytes, thousands};
use hyperexo_abi::BLOCK_BYTES;

/// What there is in a trace, and how much of it was simulated.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// References of the whole trace.
    pub references: u64,
    /// Distinct blocks, which are an estimate if there was but a sample.
    pub distinct: u64,
    /// Share of the blocks that were simulated.
    pub rate: f64,
}

/// The page for a trace of this name. `errors` are those of the results, in the same order, if they are of a
/// sample.
pub fn page(name: &str, counts: &Counts, found: &[Misses], sizes: &[u64], errors: &[u64]) -> String {
    let lines = miss_ratio_curves(found);
    let chart = Chart {
        title: "Misses, share of references",
        x_name: "cache, blocks",
        scale: Scale::Share,
        lines: &lines,
    };
    let mut tables = table(found, sizes).html();
    if !errors.is_empty() {
        let of_error = |(misses, error): (&Misses, &u64)| Misses { misses: *error, ..misses.clone() };
        let errors: Vec<Misses> = found.iter().zip(errors).map(of_error).collect();
        let caption = "By how many misses the table above may be off: half of the interval that has the right number in 99 of \
                       100 cases. A sample of the blocks was simulated.";
        tables += &Table { caption, ..table(&errors, sizes) }.html();
    }
    let distinct = thousands(counts.distinct);
    let bytes = human_bytes(counts.distinct.saturating_mul(BLOCK_BYTES as u64));
    let body = format!(
        "{}<section>\n<h2>Miss-ratio curves</h2>\n{}{tables}</section>\n",
        facts([
            ("References", thousands(counts.references)),
            ("Distinct blocks", format!("{distinct} ({bytes})")),
            ("Simulated blocks", format!("{} %", (counts.rate * 1e5).round() / 1e3)),
        ]),
        chart.svg(),
    );
    document(&format!("Misses of {name}"), &body)
}

/// A curve for each policy.
pub fn miss_ratio_curves(found: &[Misses]) -> Vec<Line> {
    found
        .chunk_by(|one, next| one.policy == next.policy)
        .enumerate()
        .map(|(index, of_policy)| Line {
            name: of_policy[0].policy.to_string(),
            points: of_policy.iter().map(|misses| (misses.size as f64, misses.ratio())).collect(),
            class: series_class(&of_policy[0].policy, index),
        })
        .collect()
}

/// Misses of every policy at every size: a line for each size.
pub fn table(found: &[Misses], sizes: &[u64]) -> Table<'static> {
    let policies: Vec<&[Misses]> = found.chunk_by(|one, next| one.policy == next.policy).collect();
    let cell = |of_policy: &[Misses], size: u64| {
        of_policy
            .iter()
            .find(|misses| misses.size == size)
            .map_or_else(|| "—".into(), |misses| thousands(misses.misses))
    };
    let line = |size: &u64| {
        let cells = policies.iter().map(|of_policy| cell(of_policy, *size));
        (String::new(), std::iter::once(thousands(*size)).chain(cells).collect())
    };
    let names = policies.iter().map(|of_policy| of_policy[0].policy.to_string());
    Table {
        caption: "Misses by size of the cache, in blocks of 4096 bytes. opt is Belady’s optimum, the limit of who knows the \
                  future; fixed keeps the blocks most used in the whole run, the limit of who knows how often each \
                  is used, but not when.",
        heads: std::iter::once("cache".to_owned()).chain(names).collect(),
        names: 0,
        lines: sizes.iter().map(line).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::Policy;
    use super::super::replay::replay;
    use super::super::trace::Trace;
    use super::*;
    use crate::page::browser::{browser, judge};
    use crate::page::tests::stands_alone;
    use indicatif::ProgressBar;
    use std::num::NonZero;

    #[test]
    fn a_browser_finds_no_fault_in_the_page() {
        let Some(browser) = browser("a_browser_finds_no_fault_in_the_page") else { return };
        judge(&browser, &sample().0);
    }

    /// A page of 400 references, with how many policies and sizes it shows.
    fn sample() -> (String, usize, usize) {
        let references: Vec<u64> = (0..100).collect::<Vec<_>>().repeat(4);
        let trace = Trace::of(&references).unwrap();
        let (policies, sizes) = (Policy::all().collect::<Vec<_>>(), [10, 50, 90]);
        let found = replay(&trace, &policies, &sizes, NonZero::<usize>::MIN, &ProgressBar::hidden());
        let counts = Counts { references: 400, distinct: 100, rate: 1.0 };
        (page("a <trace>", &counts, &found, &sizes, &[]), policies.len(), sizes.len())
    }

    #[test]
    fn the_page_has_a_curve_and_a_column_for_each_policy() {
        let (text, policies, sizes) = sample();
        if let Some(path) = std::env::var_os("EXO_TEST_CACHE_PAGE") {
            std::fs::write(path, &text).unwrap();
        }
        stands_alone(&text);
        assert!(text.contains("Misses of a &lt;trace&gt;"));
        assert_eq!(text.matches("<polyline").count(), policies);
        assert_eq!(text.matches("<th scope=\"row\">").count(), sizes);
        let loop_of_opt = 100 + 3 * (100 - 90);
        assert!(text.contains(&format!("<td>{loop_of_opt}</td></tr>")), "opt is last: {text}");
    }
}
