//! Policies of the simulator, as the user names them: `lru`, `lirs:stack=unlimited`, `2q:in=10%:out=300%`,
//! `opt`.

use libos_fs::PolicyKind;
use libos_fs::cache::{Parameter, ReferenceString, Share};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A policy of the simulator: those of the library, and two limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// One that can run in a cache, with the parameters that its paper recommends.
    Kind(PolicyKind),
    /// The same with other parameters.
    Tuned(Tuned),
    /// The blocks most used in the whole run: the limit of who knows how often, but not when.
    Fixed,
    /// Belady's optimum, which knows the future.
    Opt,
}

/// Parameters that a policy has at most.
const MOST_PARAMETERS: usize = 2;

/// A policy with parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuned {
    kind: PolicyKind,
    /// In the order of [`PolicyKind::parameters`]; `None`: as by default.
    values: [Option<Share>; MOST_PARAMETERS],
}

impl From<PolicyKind> for Tuned {
    fn from(kind: PolicyKind) -> Tuned {
        Tuned { kind, values: [None; MOST_PARAMETERS] }
    }
}

impl Tuned {
    /// Its misses on a string with so many buffers. `progress` is told of references made.
    pub fn misses(self, string: &ReferenceString, buffers: usize, progress: &mut dyn FnMut(u64)) -> u64 {
        string.misses(self.kind, &self.values, buffers, progress)
    }

    /// Parameters that were set, and their values.
    fn set(&self) -> impl Iterator<Item = (&'static Parameter, Share)> {
        self.kind
            .parameters()
            .iter()
            .zip(self.values)
            .filter_map(|(parameter, value)| Some((parameter, value?)))
    }

    /// Sets a parameter, `NAME=SHARE`.
    fn with(mut self, word: &str) -> Result<Tuned, String> {
        let (parameters, policy) = (self.kind.parameters(), self.kind.name());
        if parameters.is_empty() {
            return Err(format!("{policy} has no parameters, and {word:?} sets one"));
        }
        let known = || {
            let each = |parameter: &Parameter| format!("{}={}", parameter.name, parameter.default);
            parameters.iter().map(each).collect::<Vec<_>>().join(", ")
        };
        let (name, value) = word.split_once('=').ok_or_else(|| {
            format!("{word:?} is no parameter of {policy}, NAME=SHARE; there are, by default: {}", known())
        })?;
        let at = parameters.iter().position(|parameter| parameter.name == name).ok_or_else(|| {
            format!("{policy} has no parameter {name:?}; there are, by default: {}", known())
        })?;
        let share: Share = value.parse().map_err(|error| format!("{name}={value} of {policy}: {error}"))?;
        let most = parameters[at].most;
        if share > most {
            return Err(format!("{name}={value} of {policy}: {most} at most"));
        }
        if self.values[at].replace(share).is_some() {
            return Err(format!("{name} of {policy} is given twice"));
        }
        Ok(self)
    }
}

impl Policy {
    /// All of them, without parameters.
    pub fn all() -> impl Iterator<Item = Policy> {
        PolicyKind::ALL.into_iter().map(Policy::Kind).chain([Policy::Fixed, Policy::Opt])
    }

    /// Its name, with the parameters that were set; [`Policy::from_str`] understands it.
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Policy::Kind(kind) => kind.name().into(),
            Policy::Tuned(tuned) => {
                let word = |(parameter, value): (&Parameter, Share)| format!(":{}={value}", parameter.name);
                let words: String = tuned.set().map(word).collect();
                if words.is_empty() {
                    tuned.kind.name().into()
                } else {
                    (tuned.kind.name().to_owned() + &words).into()
                }
            }
            Policy::Fixed => "fixed".into(),
            Policy::Opt => "opt".into(),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Policy, String> {
        let mut words = text.split(':');
        let name = words.next().unwrap_or_default();
        let known = Policy::all().find(|policy| policy.name() == name).ok_or_else(|| {
            let known: Vec<_> = Policy::all().map(Policy::name).collect();
            format!("unknown policy {name:?}, there are: {}", known.join(", "))
        })?;
        let mut words = words.peekable();
        match (known, words.peek()) {
            (_, None) => Ok(known),
            (Policy::Kind(kind), _) => words.try_fold(Tuned::from(kind), Tuned::with).map(Policy::Tuned),
            (_, Some(word)) => Err(format!("{name} has no parameters, and {word:?} sets one")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_policies_are_told_what_there_is() {
        let message = "lra".parse::<Policy>().unwrap_err();
        assert!(message.contains("lra") && message.contains("fifo") && message.contains("opt"), "{message}");
    }

    #[test]
    fn names_have_the_parameters_that_are_set() {
        for name in ["lru", "opt", "lirs:stack=unlimited", "2q:in=2.5%:out=300%", "s3-fifo:small=20%"] {
            assert_eq!(name.parse::<Policy>().unwrap().name(), name);
        }
        let ordered = "lirs:stack=100%:hir=5%".parse::<Policy>().unwrap();
        assert_eq!(ordered.name(), "lirs:hir=5%:stack=100%");
    }

    #[test]
    fn every_parameter_finds_its_place() {
        for kind in PolicyKind::ALL {
            assert!(kind.parameters().len() <= MOST_PARAMETERS, "{}", kind.name());
        }
    }

    #[test]
    fn wrong_parameters_are_told_what_there_is() {
        let message = |text: &str| text.parse::<Policy>().unwrap_err();
        assert!(message("lirs:size=1%").contains("there are, by default: hir=1%, stack=200%"));
        assert!(message("lirs:stack").contains("NAME=SHARE"));
        assert!(message("lirs:").contains("NAME=SHARE"));
        assert!(message("lirs:stack=5").contains("write 20%"));
        assert!(message("s3-fifo:small=101%").contains("100% at most"));
        assert!(message("lirs:hir=unlimited").contains("100% at most"));
        assert!(message("2q:in=1%:in=2%").contains("given twice"));
        assert!(message("fifo:in=1%").contains("fifo has no parameters"));
        assert!(message("opt:in=1%").contains("opt has no parameters"));
    }
}
