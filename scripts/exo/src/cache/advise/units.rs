//! What a plan gives priorities to: single files, or all files below a directory where there are many.

use super::character::Character;
use crate::recorded::Named;
use libos_fs::FileId;
use std::collections::BTreeMap;

/// Most units: each costs a simulation for every priority and policy.
pub const MOST_UNITS: usize = 12;

/// A file, or all files below a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Path of the file; of a directory it ends with `/`.
    pub path: String,
    /// The files.
    pub files: Vec<FileId>,
}

/// The units of a program's files, which are sorted by their references. Files without a name are in none,
/// unless nobody has a name: then the name is for the reader to fill in.
pub fn units(files: &[Character], names: &BTreeMap<u64, Named>) -> Vec<Unit> {
    let unit = |file: &Character, path: String| Unit { path, files: vec![FileId(file.file)] };
    if names.is_empty() {
        return files.iter().take(MOST_UNITS).map(|file| unit(file, nameless(file.file))).collect();
    }
    let mut units: Vec<Unit> =
        files.iter().filter_map(|file| Some(unit(file, names.get(&file.file)?.path.clone()))).collect();
    while units.len() > MOST_UNITS {
        let Some(directory) = fullest_of_the_deepest(&units) else {
            units.truncate(MOST_UNITS);
            break;
        };
        let (below, mut rest): (Vec<Unit>, Vec<Unit>) =
            units.into_iter().partition(|unit| unit.path.starts_with(&directory));
        rest.push(Unit { path: directory, files: below.into_iter().flat_map(|unit| unit.files).collect() });
        units = rest;
    }
    units
}

/// What a file without a name is called.
pub fn nameless(file: u64) -> String {
    format!("/file-{file}")
}

/// Of the directories that lie deepest and hold more than one unit, the one with most; with `/` at its end.
fn fullest_of_the_deepest(units: &[Unit]) -> Option<String> {
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    for unit in units {
        let inside = unit.path.trim_end_matches('/');
        if let Some(end) = inside.rfind('/') {
            *held.entry(&inside[..=end]).or_default() += 1;
        }
    }
    let depth = |directory: &str| directory.matches('/').count();
    held.into_iter()
        .filter(|(_, count)| *count > 1)
        .max_by_key(|(directory, count)| (depth(directory), *count))
        .map(|(directory, _)| directory.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::character::characters;
    use super::*;

    fn of(paths: &[String]) -> Vec<Unit> {
        let references: Vec<_> = (0..paths.len() as u64).map(|file| (FileId(file), 0)).collect();
        let names = paths
            .iter()
            .enumerate()
            .map(|(file, path)| (file as u64, Named { path: path.clone(), bytes: None }))
            .collect();
        units(&characters(&references), &names)
    }

    #[test]
    fn many_files_of_a_directory_are_one() {
        let mut paths: Vec<String> = (0..200).map(|at| format!("/gli/articles/{at}")).collect();
        paths.extend(["/gli/index".to_owned(), "/task".to_owned()]);
        let found = of(&paths);
        let told: Vec<(&str, usize)> = found.iter().map(|unit| (&*unit.path, unit.files.len())).collect();
        assert_eq!(told, [("/gli/index", 1), ("/task", 1), ("/gli/articles/", 200)]);
    }

    #[test]
    fn deep_trees_are_folded_from_below_and_nothing_is_lost() {
        let paths: Vec<String> = (0..600).map(|at| format!("/cs/{}/src/{}/{at}", at % 5, at % 7)).collect();
        let found = of(&paths);
        assert!(found.len() <= MOST_UNITS && found.len() >= 5, "{found:?}");
        let mut all: Vec<u64> = found.iter().flat_map(|unit| &unit.files).map(|file| file.0).collect();
        all.sort_unstable();
        assert_eq!(all, (0..600).collect::<Vec<_>>());
        assert!(found.iter().all(|unit| unit.path.ends_with('/')));
    }

    #[test]
    fn files_of_the_root_can_be_one_too() {
        let paths: Vec<String> = (0..20).map(|at| format!("/{at}")).collect();
        assert_eq!(of(&paths).len(), 1);
    }
}
