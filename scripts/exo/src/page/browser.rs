//! Pages in a browser without a screen: for tests that have Debian's `chromium`.

use super::escape;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the browser found, in one width.
#[derive(Debug, Deserialize)]
struct Findings {
    /// Width of the frame, in pixels.
    width: u32,
    /// Whether the page was shown dark.
    dark: bool,
    /// Drawings seen.
    drawings: usize,
    /// What is wrong.
    faults: Vec<String>,
}

/// Widths of a telephone and of a screen.
const WIDTHS: [u32; 2] = [340, 1100];

/// Shows the page in both widths, light and dark, and looks for: what is wider than the page; text without
/// contrast; words outside of their drawing, or over one another; tables without caption or heads, or that
/// the keyboard does not reach; links to elsewhere.
const JUDGE: &str = r#"
const rgb = text => text.match(/[\d.]+/g).slice(0, 3).map(Number);
const luminance = colour => {
  const [r, g, b] = rgb(colour).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
};
const contrast = (a, b) => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + .05) / (low + .05);
};
const judge = frame => {
  const page = frame.contentDocument, view = frame.contentWindow, faults = [];
  const fault = (what, node) => faults.push(what + ': ' + (node?.textContent ?? '').trim().slice(0, 60));
  if (page.documentElement.scrollWidth > view.innerWidth) fault('wider than the page', null);
  const paper = view.getComputedStyle(page.body).backgroundColor;
  for (const node of page.querySelectorAll('body *')) {
    const words = [...node.childNodes].some(child => child.nodeType == 3 && child.data.trim());
    if (!words) continue;
    const style = view.getComputedStyle(node);
    const colour = node instanceof view.SVGElement ? style.fill : style.color;
    if (contrast(colour, paper) < 4.5) fault('too little contrast', node);
  }
  for (const drawing of page.querySelectorAll('svg')) {
    const box = drawing.getBoundingClientRect();
    if (!drawing.getAttribute('aria-label')) fault('no words for', drawing);
    const names = [];
    for (const text of drawing.querySelectorAll('text')) {
      const place = text.getBoundingClientRect();
      const inside = place.left >= box.left - 1 && place.right <= box.right + 1 && place.bottom <= box.bottom + 1;
      if (!inside) fault('outside of its drawing', text);
      if (text.classList.contains('name')) names.push([place, text]);
    }
    names.forEach(([a, one], at) => names.slice(at + 1).forEach(([b]) => {
      // Lines of text may touch, letters may not.
      const deep = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (a.left < b.right && b.left < a.right && deep > a.height / 3) fault('names cover each other', one);
    }));
  }
  for (const table of page.querySelectorAll('table')) {
    if (!table.caption?.textContent) fault('no caption', table);
    if ([...table.rows].some(row => !row.querySelector('th[scope]'))) fault('a line without a head', table);
    if (table.parentElement.tabIndex != 0) fault('not reached by the keyboard', table.caption);
  }
  for (const node of page.querySelectorAll('[src], [href]')) fault('from elsewhere', node);
  const dark = view.matchMedia('(prefers-color-scheme: dark)').matches;
  return { width: view.innerWidth, dark, drawings: page.querySelectorAll('svg').length, faults };
};
addEventListener('load', () => {
  document.querySelector('pre').textContent = JSON.stringify([...document.querySelectorAll('iframe')].map(judge));
  document.querySelectorAll('iframe').forEach(frame => frame.remove());
});
"#;

/// The browser; where there is none, says that `test` is not offered.
pub fn browser(test: &str) -> Option<PathBuf> {
    host_needs::program(test, "chromium")
}

/// Judges a page in a browser, in light and dark.
///
/// # Panics
///
/// If something is wrong with the page.
pub fn judge(browser: &Path, page: &str) {
    let drawings = page.matches("<svg").count();
    for dark in [false, true] {
        for (found, width) in look(browser, page, dark).into_iter().zip(WIDTHS) {
            assert!(found.faults.is_empty(), "{found:#?}");
            assert_eq!((found.width, found.dark, found.drawings), (width, dark, drawings));
        }
    }
}

/// What the browser finds in each of [`WIDTHS`].
fn look(browser: &Path, page: &str, dark: bool) -> Vec<Findings> {
    let frames: String = WIDTHS
        .iter()
        .map(|width| {
            let page = escape(page);
            format!(
                "<iframe width=\"{width}\" height=\"900\" style=\"border: 0\" srcdoc=\"{page}\"></iframe>"
            )
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder for scratch files");
    let file = folder.path().join("judge.html");
    let harness = format!(
        "<!DOCTYPE html><meta charset=\"utf-8\"><body>{frames}<pre></pre><script>{JUDGE}</script></body>"
    );
    std::fs::write(&file, harness).expect("the page is written");
    let output = Command::new("timeout")
        .arg("120")
        .arg(browser)
        // The page is our own. Root, as which tests run in containers, has no sandbox.
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }))
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", file.display()))
        .output()
        .expect("the browser starts");
    let dom = String::from_utf8_lossy(&output.stdout);
    let json = dom.split_once("<pre>").and_then(|(_, rest)| rest.split_once("</pre>")).map(|(json, _)| json);
    let json = json.unwrap_or_default().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let findings: Vec<Findings> = serde_json::from_str(&json)
        .unwrap_or_else(|error| panic!("{error}: {dom} {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(findings.len(), WIDTHS.len());
    findings
}

#[test]
fn faults_are_found() {
    let Some(browser) = browser("faults_are_found") else { return };
    let pale = "<p style=\"color: #ccc\">pale</p>";
    let wide = "<div style=\"width: 3000px\">wide</div>";
    let bare = "<table><tr><td>1</td></tr></table><svg width=\"20\"><text x=\"-90\" y=\"9\">out</text></svg>";
    let page = format!("<!DOCTYPE html><body style=\"background: white\">{pale}{wide}{bare}</body>");
    for found in look(&browser, &page, false) {
        for fault in [
            "too little contrast: pale",
            "wider than the page",
            "no caption",
            "without a head",
            "no words for",
            "outside of its drawing: out",
        ] {
            assert!(found.faults.iter().any(|text| text.contains(fault)), "{fault}: {found:#?}");
        }
    }
}
