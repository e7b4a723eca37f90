//! Pages: one file each, without scripts, readable in light and dark, on paper, by keyboard and by ear. What
//! a chart shows stands in a table beside it.
//!
//! | module | what |
//! |---|---|
//! | [`bars`] | horizontal bars |
//! | [`histogram`] | shares by class, several series above each other |
//! | [`lines`] | curves over sizes or time |

pub mod bars;
#[cfg(test)]
pub mod browser;
pub mod histogram;
pub mod lines;

use std::fmt::Write;

/// A page with a heading and a body of sections.
pub fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}</main>\n\
         </body>\n</html>\n"
    )
}

/// A table. Every line has a cell for each head.
pub struct Table<'a> {
    /// What it shows.
    pub caption: &'a str,
    /// Heads of the columns.
    pub heads: Vec<String>,
    /// Which column names the line.
    pub names: usize,
    /// Lines: a class (see [`STYLE`]), and cells.
    pub lines: Vec<(String, Vec<String>)>,
}

impl Table<'_> {
    /// As HTML. A table wider than the page scrolls, by the keyboard too.
    pub fn html(&self) -> String {
        let caption = escape(self.caption);
        let mut text = format!(
            "<div class=\"wide\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table>\n\
             <caption>{caption}</caption>\n<thead><tr>"
        );
        // Writing to a string does not fail.
        for head in &self.heads {
            let _ = write!(text, "<th scope=\"col\">{}</th>", escape(head));
        }
        text.push_str("</tr></thead>\n<tbody>\n");
        for (class, cells) in &self.lines {
            let _ = write!(text, "<tr class=\"{}\">", escape(class));
            for (column, cell) in cells.iter().enumerate() {
                let (tag, scope) = if column == self.names { ("th", " scope=\"row\"") } else { ("td", "") };
                let _ = write!(text, "<{tag}{scope}>{}</{tag}>", escape(cell));
            }
            text.push_str("</tr>\n");
        }
        text.push_str("</tbody></table></div>\n");
        text
    }
}

/// Facts with their names.
pub fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut text = String::from("<dl>\n");
    for (name, value) in facts {
        let _ = writeln!(text, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(&value));
    }
    text.push_str("</dl>\n");
    text
}

/// Text as HTML wants it.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Class of the colour and dashes of a policy's curve: the same in all charts of a page. `index` counts the
/// policies that are neither the default, nor the application's own, nor the optimum.
pub fn series_class(policy: &str, index: usize) -> String {
    match policy {
        "default" | "own" | "opt" => policy.to_owned(),
        _ => format!("c{} d{}", index % COLOURS, index / COLOURS % DASHES),
    }
}

/// Colours of [`STYLE`] for [`series_class`].
const COLOURS: usize = 8;
/// Kinds of dashes, the unbroken line included.
const DASHES: usize = 3;

/// A number with one decimal, as SVG wants it.
fn coordinate(value: f64) -> String {
    format!("{value:.1}")
}

/// Colours of text and lines differ from the paper by 4.5 to 1 and more, of bars and curves by 3 to 1 (WCAG
/// 2.2, success criteria 1.4.3 and 1.4.11).
const STYLE: &str = "
:root { --paper: #fdfdfb; --ink: #1b1f24; --faint: #5b6470; --line: #d8dce1; --default: #6b7683; --own: #0b7a57;
  --other: #a06a1b; --mark: #b3261e; --c0: #1f6fb2; --c1: #b85c00; --c2: #7b3fa0; --c3: #00797a; --c4: #b0216b;
  --c5: #6b6b00; --c6: #7a4b2a; --c7: #3d4bb8; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e8eaed; --faint: #a4adb8; --line: #353c44;
  --default: #8b97a5; --own: #3fbf93; --other: #d29b4a; --mark: #ff8a80; --c0: #6db3f2; --c1: #f0a050;
  --c2: #c79be8; --c3: #4fc4c4; --c4: #f07ab0; --c5: #c4c44f; --c6: #cfa07a; --c7: #9aa5ff; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem; } h3 { font-size: 1.05rem; margin: 2rem 0 .25rem; }
.headline { font-size: 1.1rem; margin: .2rem 0; border-left: 4px solid var(--own); padding-left: .6rem; }
.wide { overflow-x: auto; margin-top: 1.5rem; } .wide:focus-visible { outline: 2px solid var(--c0); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { caption-side: bottom; text-align: left; color: var(--faint); padding-top: .5rem; }
th, td { padding: .3rem .4rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, tbody th { text-align: left; }
tr.own th, tr.own td { font-weight: 600; }
svg { display: block; width: 100%; max-width: 46rem; height: auto; margin: .75rem 0; }
svg text { font: 14px system-ui, sans-serif; fill: var(--ink); }
svg .title { font-weight: 600; } svg .note { fill: var(--mark); font-size: 13px; }
svg .axis { fill: var(--faint); font-size: 12px; } svg .grid { stroke: var(--line); } svg .name { font-size: 12px; }
svg rect.default { fill: var(--default); } svg rect.own { fill: var(--own); } svg rect.other { fill: var(--other); }
svg rect.peer { fill: var(--c2); }
svg .mark { stroke: var(--mark); stroke-width: 2; stroke-dasharray: 5 4; }
svg .curve { fill: none; stroke-width: 2; } svg .lead { stroke-width: 1; opacity: .5; }
svg g.default { --s: var(--default); } svg g.own { --s: var(--own); } svg g.opt { --s: var(--ink); }
svg g.c0 { --s: var(--c0); } svg g.c1 { --s: var(--c1); } svg g.c2 { --s: var(--c2); } svg g.c3 { --s: var(--c3); }
svg g.c4 { --s: var(--c4); } svg g.c5 { --s: var(--c5); } svg g.c6 { --s: var(--c6); } svg g.c7 { --s: var(--c7); }
svg g .curve, svg g .lead { stroke: var(--s); } svg g circle, svg g rect { fill: var(--s); }
svg g.default .curve { stroke-width: 4.5; } svg g.own .curve { stroke-width: 3.5; } svg g.opt .curve { stroke-dasharray: 2 4; stroke-width: 2.5; }
svg g.d1 .curve { stroke-dasharray: 8 4; } svg g.d2 .curve { stroke-dasharray: 8 3 2 3; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; } dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
@media print { :root { --paper: #fff; --ink: #000; --faint: #444; --line: #bbb; --default: #6b7683; --own: #0b7a57;
  --other: #a06a1b; --mark: #b3261e; --c0: #1f6fb2; --c1: #b85c00; --c2: #7b3fa0; --c3: #00797a; --c4: #b0216b;
  --c5: #6b6b00; --c6: #7a4b2a; --c7: #3d4bb8; } svg, tr { break-inside: avoid; } .wide { overflow: visible; }
  table { font-size: 8pt; } th, td { padding: .15rem .3rem; } }
";

#[cfg(test)]
pub mod tests {
    use super::*;

    /// What every page must keep to: nothing from elsewhere, no scripts, every element closed, every drawing
    /// with words.
    pub fn stands_alone(text: &str) {
        assert!(!text.contains("<script") && !text.contains("http") && !text.contains("url("), "{text}");
        for tag in ["table", "section", "dl", "svg", "main", "tbody", "g", "div"] {
            let open = text.matches(&format!("<{tag}>")).count() + text.matches(&format!("<{tag} ")).count();
            assert_eq!(open, text.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert_eq!(text.matches("<svg").count(), text.matches("role=\"img\" aria-label=\"").count());
        assert!(!text.contains("NaN") && !text.contains(">inf"));
    }

    #[test]
    fn tables_have_heads_for_columns_and_lines() {
        let table = Table {
            caption: "a & b",
            heads: vec!["x".into(), "name".into()],
            names: 1,
            lines: vec![("own".into(), vec!["1".into(), "<p>".into()])],
        };
        let html = table.html();
        assert!(
            html.contains("<th scope=\"col\">name</th>") && html.contains("<th scope=\"row\">&lt;p&gt;</th>")
        );
        assert!(html.contains("<caption>a &amp; b</caption>") && html.contains("tabindex=\"0\""));
        stands_alone(&document("t", &html));
    }

    #[test]
    fn twenty_four_policies_look_different() {
        let classes: std::collections::BTreeSet<String> =
            (0..24).map(|index| series_class("x", index)).collect();
        assert_eq!(classes.len(), 24);
        assert_eq!(series_class("opt", 5), "opt");
    }
}
