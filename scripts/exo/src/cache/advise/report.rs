//! What the advice says: tables, the lines to paste, JSON.

use super::super::simulate::aligned;
use super::character::{Character, Kind};
use super::plan::Plan;
use super::read_ahead::{self, Ahead};
use super::search::Step;
use super::units::{Unit, nameless};
use crate::recorded::Named;
use crate::units::{signed_percent, thousands};
use libos_fs::device::DiskTime;
use libos_fs::{CachePlan, PolicyKind, ReadAheadKind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What is advised for one size of the cache.
pub struct Advice {
    /// Blocks of cache.
    pub size: u64,
    /// From the general policy to the best plan; empty if all blocks fit.
    pub steps: Vec<Step>,
    /// Misses of each policy alone.
    pub general: Vec<(PolicyKind, u64)>,
    /// Misses of the best fixed set.
    pub fixed: u64,
    /// Misses of Belady's optimum.
    pub opt: u64,
    /// Whether the search ended because it had made the effort it was allowed.
    pub cut_short: bool,
    /// What each read-ahead policy makes of the plan; nothing if that was not tried.
    pub read_ahead: Option<Vec<Ahead>>,
}

/// All that is said.
pub struct Report {
    /// What the references are called.
    pub name: String,
    /// How many there are.
    pub references: u64,
    /// Blocks.
    pub distinct: u64,
    /// Files, the one with most references first.
    pub files: Vec<Character>,
    /// What files are called, by number.
    pub names: BTreeMap<u64, Named>,
    /// What plans give priorities to.
    pub units: Vec<Unit>,
    /// What the disk takes.
    pub time: DiskTime,
    /// By size.
    pub advice: Vec<Advice>,
}

/// Files that are shown.
const SHOWN_FILES: usize = 12;
/// Less than this share of the references is not worth a change.
const WORTH: f64 = 0.01;

impl Advice {
    /// Misses of the library's default policy.
    pub fn default_misses(&self) -> u64 {
        self.misses_of(PolicyKind::default())
    }

    fn misses_of(&self, wanted: PolicyKind) -> u64 {
        self.general.iter().find(|(kind, _)| *kind == wanted).map_or(0, |(_, misses)| *misses)
    }

    /// The best general policy; the default if no other is better.
    pub fn best_general(&self) -> (PolicyKind, u64) {
        let default = PolicyKind::default();
        let best = self.general.iter().copied().min_by_key(|(kind, misses)| (*misses, *kind != default));
        best.unwrap_or((default, 0))
    }

    /// The best plan found; `None` if it gains nothing that is worth it over the best general policy.
    pub fn plan(&self, references: u64) -> Option<&Step> {
        let worth = (references as f64 * WORTH).max(1.0) as u64;
        self.steps.last().filter(|step| step.misses + worth <= self.best_general().1)
    }
}

/// One size as a JSON line.
#[derive(Serialize)]
pub struct Line {
    size: u64,
    references: u64,
    default_misses: u64,
    general: &'static str,
    general_misses: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_misses: Option<u64>,
    fixed_misses: u64,
    opt_misses: u64,
    /// What to run: the text of a `CachePlan`, empty if it is the default.
    advised: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_ahead: Option<&'static str>,
    /// Blocks read under what is advised.
    #[serde(skip_serializing_if = "Option::is_none")]
    reads: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_ms: Option<f64>,
}

impl Report {
    /// A JSON line for each size.
    pub fn lines(&self) -> Vec<Line> {
        let line = |advice: &Advice| {
            let (general, general_misses) = advice.best_general();
            let plan = advice.plan(self.references);
            let ahead = advice.read_ahead.as_deref().and_then(read_ahead::best);
            Line {
                size: advice.size,
                references: self.references,
                default_misses: advice.default_misses(),
                general: general.name(),
                general_misses,
                plan: plan.map(|step| self.named(&step.plan).to_string()),
                plan_misses: plan.map(|step| step.misses),
                fixed_misses: advice.fixed,
                opt_misses: advice.opt,
                advised: self.advised(advice).to_string(),
                read_ahead: ahead.map(|ahead| ahead.kind.name()),
                reads: ahead.map(|ahead| ahead.blocks_read),
                read_requests: ahead.map(|ahead| ahead.requests),
                wait_ms: ahead.map(|ahead| ahead.wait_ns as f64 / 1e6),
            }
        };
        self.advice.iter().map(line).collect()
    }

    /// What a file is called.
    pub fn name(&self, file: u64) -> String {
        self.names.get(&file).map_or_else(|| nameless(file), |named| named.path.clone())
    }

    /// A plan as the library takes it.
    pub fn named(&self, plan: &Plan) -> CachePlan {
        CachePlan {
            policies: plan.policies.iter().map(|(priority, policy)| (*priority, *policy)).collect(),
            read_ahead: None,
            files: plan.raised().map(|(unit, priority)| (self.units[unit].path.clone(), priority)).collect(),
        }
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}: {} references to {} blocks of {} file{}\n\n{}",
            self.name,
            thousands(self.references),
            thousands(self.distinct),
            self.files.len(),
            if self.files.len() == 1 { "" } else { "s" },
            aligned(&self.file_table()),
        );
        let not_shown = self.files.len().saturating_sub(SHOWN_FILES);
        // Writing to a string does not fail.
        if not_shown > 0 {
            let _ = writeln!(text, "and {not_shown} more with fewer references");
        }
        let _ = write!(text, "\n{}", aligned(&self.size_table()));
        text.push_str(LIMITS);
        for advice in &self.advice {
            let _ = write!(text, "\n{}", self.explained(advice));
        }
        text
    }

    /// Files: heads, then a line for each.
    pub fn file_table(&self) -> Vec<Vec<String>> {
        let heads = ["file", "references", "blocks", "kind", "because"].map(str::to_owned).to_vec();
        let line = |file: &Character| {
            vec![
                self.name(file.file),
                thousands(file.references),
                thousands(file.blocks),
                file.kind.to_string(),
                file.evidence(),
            ]
        };
        std::iter::once(heads).chain(self.files.iter().take(SHOWN_FILES).map(line)).collect()
    }

    /// Misses by size: heads, then a line for each.
    pub fn size_table(&self) -> Vec<Vec<String>> {
        let heads =
            ["blocks of cache", "default (lru)", "best general", "", "best plan", "", "fixed set", "Belady"];
        let line = |advice: &Advice| {
            let (general, misses) = advice.best_general();
            let from_default = |misses| change(misses, advice.default_misses());
            let plan = advice.plan(self.references);
            vec![
                thousands(advice.size),
                thousands(advice.default_misses()),
                format!("{} ({general})", thousands(misses), general = general.name()),
                from_default(misses),
                plan.map_or_else(|| "—".to_owned(), |step| thousands(step.misses)),
                plan.map(|step| from_default(step.misses)).unwrap_or_default(),
                thousands(advice.fixed),
                thousands(advice.opt),
            ]
        };
        std::iter::once(heads.map(str::to_owned).to_vec()).chain(self.advice.iter().map(line)).collect()
    }

    /// What each step gains at one size, what read-ahead does, and what to write.
    fn explained(&self, advice: &Advice) -> String {
        let mut text = format!("With {} blocks of cache:\n", thousands(advice.size));
        text += &self.policies_explained(advice);
        text += &self.read_ahead_explained(advice);
        let plan = self.advised(advice);
        if plan == CachePlan::default() {
            return text;
        }
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n{}\n  On the command line of a program that takes it: plan={plan}\n",
            indented(&rust(&plan))
        );
        if self.names.is_empty() && !plan.files.is_empty() {
            text.push_str("  The trace does not name its files: put their paths in the place of /file-N.\n");
        }
        text
    }

    fn policies_explained(&self, advice: &Advice) -> String {
        if advice.steps.is_empty() {
            return "  all blocks fit: no policy makes a difference.\n".to_owned();
        }
        let (general, misses) = advice.best_general();
        if advice.plan(self.references).is_none() {
            return if self.keeps_default(advice) {
                format!("  no policy helps: keep the default. {}\n", self.why_not(advice))
            } else {
                format!(
                    "  {} for everything: {} misses, {} of the default's {}.\n  No plan for single files gains more.\n",
                    general.name(),
                    thousands(misses),
                    change(misses, advice.default_misses()),
                    thousands(advice.default_misses()),
                )
            };
        }
        let mut text = String::new();
        let mut before = advice.default_misses();
        let mut last: Option<&Plan> = None;
        for step in &advice.steps {
            let what = last.map_or_else(
                || format!("{} for everything", step.plan.policies[&0].name()),
                |last| self.difference(last, &step.plan),
            );
            let _ = writeln!(
                text,
                "  {:>11} misses  {:>8}  {what}",
                thousands(step.misses),
                change(step.misses, before)
            );
            (before, last) = (step.misses, Some(&step.plan));
        }
        if advice.cut_short {
            text.push_str("  The search ended at its limit of effort; --effort allows more.\n");
        }
        text
    }

    /// Whether no other policy is worth a line.
    fn keeps_default(&self, advice: &Advice) -> bool {
        let (general, misses) = advice.best_general();
        general == PolicyKind::default() || !self.is_worth(misses, advice.default_misses())
    }

    fn read_ahead_explained(&self, advice: &Advice) -> String {
        match &advice.read_ahead {
            Some(all) => format!(
                "\n  Read-ahead with that, on a disk that takes {} µs for a request and {} µs for a block:\n\n{}",
                self.time.request_ns / 1000,
                self.time.block_ns / 1000,
                indented(&aligned(&read_ahead::table(all)))
            ),
            None => "\n  Read-ahead was not tried: that takes memory for every block of the cache, and time \
                     (--effort).\n"
                .to_owned(),
        }
    }

    /// The plan without read-ahead: the best one, or the best policy, if it is worth a line.
    pub fn best_plan(&self, advice: &Advice) -> Plan {
        match advice.plan(self.references) {
            Some(step) => step.plan.clone(),
            None if advice.steps.is_empty() || self.keeps_default(advice) => {
                Plan::general(PolicyKind::default(), self.units.len())
            }
            None => Plan::general(advice.best_general().0, self.units.len()),
        }
    }

    /// All that is advised; nothing where the library's defaults do as well.
    pub fn advised(&self, advice: &Advice) -> CachePlan {
        let plan = self.best_plan(advice);
        let mut named = if plan.is_default() { CachePlan::default() } else { self.named(&plan) };
        named.read_ahead = advice
            .read_ahead
            .as_deref()
            .and_then(read_ahead::best)
            .map(|ahead| ahead.kind)
            .filter(|kind| *kind != ReadAheadKind::default());
        named
    }

    fn is_worth(&self, misses: u64, other: u64) -> bool {
        misses as f64 + self.references as f64 * WORTH <= other as f64
    }

    /// Why nothing helps.
    fn why_not(&self, advice: &Advice) -> &'static str {
        if !self.is_worth(advice.opt, advice.default_misses()) {
            "Not even perfect foresight would."
        } else if self.files.iter().all(|file| matches!(file.kind, Kind::Scan | Kind::OneShot)) {
            "Hardly a block is read twice."
        } else {
            "Only perfect foresight would: the program may know what the references do not show."
        }
    }

    /// What one plan has that the other does not, in words.
    fn difference(&self, before: &Plan, after: &Plan) -> String {
        let mut said: Vec<String> = Vec::new();
        for (index, unit) in self.units.iter().enumerate() {
            let (old, new) = (before.priorities[index], after.priorities[index]);
            if old != new {
                said.push(format!("{} at priority {new}", unit.path));
            }
        }
        for (priority, policy) in &after.policies {
            if before.policies.get(priority) != Some(policy) {
                said.push(format!("{} for priority {priority}", policy.name()));
            }
        }
        if after.keeps_out_lowest() && !before.keeps_out_lowest() {
            said.push("what is at 0 is kept out".to_owned());
        }
        said.join(", ")
    }
}

/// What the last two columns are.
const LIMITS: &str = "fixed set: the blocks most used in the whole run kept, all else passed through; the limit of who knows how\n\
                      often each block is used, but not when. Belady: the limit of who knows the future.\n";

/// A change in hundredths.
fn change(misses: u64, from: u64) -> String {
    if from == 0 {
        return String::new();
    }
    signed_percent(misses as f64 / from as f64 - 1.0)
}

/// The lines for a program, after it has mounted its volume.
pub fn rust(plan: &CachePlan) -> String {
    let mut text = String::from("// Found by `exo cache advise`; the types are in libos_fs.\n");
    if let Some(kind) = plan.read_ahead {
        let _ = writeln!(text, "volume.cache().set_read_ahead(ReadAheadKind::{kind:?});");
    }
    for (priority, policy) in &plan.policies {
        let _ = writeln!(text, "volume.manager().set_policy({priority}, PolicyKind::{policy:?});");
    }
    for (path, priority) in &plan.files {
        let _ = match path.strip_suffix('/') {
            Some(directory) => writeln!(text, "volume.set_priority_below({directory:?}, {priority})?;"),
            None => writeln!(text, "volume.manager().set_priority(&volume.open({path:?})?, {priority})?;"),
        };
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::character::characters;
    use super::super::units::units;
    use super::*;
    use libos_fs::FileId;

    /// The library's own documentation has these lines in a test: so they compile.
    #[test]
    fn lines_to_paste_are_those_of_the_library() {
        let plan = CachePlan {
            policies: vec![(0, PolicyKind::Lirs)],
            files: vec![("/index".into(), 1), ("/articles/".into(), -1)],
            read_ahead: Some(ReadAheadKind::Cluster),
        };
        let library = include_str!("../../../../../libos-fs/src/plan.rs");
        let lines = rust(&plan);
        assert_eq!(lines.lines().count(), 5);
        for line in lines.lines().skip(1) {
            assert!(library.contains(&format!("/// {line}\n")), "{line}");
        }
    }

    fn report(steps: Vec<Step>, lru: u64, opt: u64) -> Report {
        let references: Vec<_> = (0..2).flat_map(|_| (0..100).map(|block| (FileId(3), block))).collect();
        let files = characters(&references);
        let names = BTreeMap::from([(3, Named { path: "/a".to_owned(), bytes: None })]);
        let units = units(&files, &names);
        let general =
            PolicyKind::ALL.map(|kind| (kind, if kind == PolicyKind::Mru { 150 } else { lru })).into();
        let ahead = |kind, requests| Ahead { kind, blocks_read: 200, requests, wait_ns: requests * 100_000 };
        let read_ahead = Some(vec![ahead(ReadAheadKind::Sequential, 100), ahead(ReadAheadKind::Cluster, 50)]);
        let advice = vec![Advice { size: 50, steps, general, fixed: 151, opt, cut_short: false, read_ahead }];
        let time = DiskTime { request_ns: 100_000, block_ns: 20_000 };
        Report { name: "refs".into(), references: 200, distinct: 100, files, names, units, time, advice }
    }

    fn step(plan: Plan, misses: u64) -> Step {
        Step { plan, misses }
    }

    #[test]
    fn what_helps_is_told_step_by_step_with_its_lines() {
        let mru = Plan::general(PolicyKind::Mru, 1);
        let steps = vec![step(mru.clone(), 150), step(mru.with_unit(0, 1, PolicyKind::Fifo), 120)];
        let report = report(steps, 200, 100);
        let text = report.text();
        for part in [
            "150  −25.0 %  mru for everything",
            "120  −20.0 %  /a at priority 1, fifo for priority 1",
            "volume.manager().set_priority(&volume.open(\"/a\")?, 1)?;",
            "plan=read-ahead=cluster,0=mru,1=fifo,/a=1",
            "volume.cache().set_read_ahead(ReadAheadKind::Cluster);",
            "cluster 200 50 5.0 −50.0 %",
        ] {
            let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(squeezed.replace(" misses", "").contains(&part), "{part}\n{text}");
        }
        let line = serde_json::to_value(&report.lines()[0]).unwrap();
        assert_eq!((&line["plan_misses"], &line["opt_misses"]), (&120.into(), &100.into()));
    }

    #[test]
    fn what_does_not_help_is_told_too() {
        let only_mru = report(vec![step(Plan::general(PolicyKind::Mru, 1), 150)], 200, 100).text();
        assert!(only_mru.contains("mru for everything: 150 misses") && only_mru.contains("PolicyKind::Mru"));
        let nothing = report(vec![step(Plan::general(PolicyKind::Lru, 1), 150)], 150, 100).text();
        assert!(nothing.contains("no policy helps: keep the default. Only perfect foresight"), "{nothing}");
        let nobody = report(vec![step(Plan::general(PolicyKind::Lru, 1), 150)], 150, 150).text();
        assert!(nobody.contains("Not even perfect foresight"), "{nobody}");
        assert!(report(Vec::new(), 150, 100).text().contains("all blocks fit"));
    }
}
