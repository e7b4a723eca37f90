//! What the guide to policies of one's own promises: its program, copied, prints what it says.

use super::context::{Context, text};
use super::platform::Need;
use super::{Test, Verdict};
use crate::new;

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![Test::new("own-policy-guide", &[Need::Disk], own_policy)]
}

/// The guide.
const GUIDE: &str = include_str!("../../../../docs/own-policy.md");
/// Blocks of the file that its program reads.
const FILE_BLOCKS: usize = 100;

/// Does what the guide says, with its own words.
fn own_policy(context: &Context) -> Verdict {
    let path = context.application("looper", |path| {
        new::write(&context.checkout.root, "looper", path).map_err(|error| error.to_string())?;
        std::fs::write(path.join("src/main.rs"), program()?).map_err(|error| error.to_string())
    })?;
    let data = text(&context.file("loop.data", &[7; FILE_BLOCKS * hyperexo_abi::BLOCK_BYTES])?);
    let image = text(&context.scratch.path().join("loop.img"));
    context.exo(&["fs", "make", &image, "--size", "1M"])?.succeeded()?;
    context.exo(&["fs", "put", &image, &data, "--to", "/data"])?.succeeded()?;
    let path = text(&path);
    for (words, line) in [&[][..], &["--", "policy=own"]].iter().zip(printed()?.lines()) {
        let mut all = vec!["run", &path, "--timeout", context.platform.seconds(), "--disk", &image];
        all.extend(context.platform.arguments());
        all.extend(*words);
        context.exo(&all)?.succeeded()?.shows(line)?;
    }
    Ok(())
}

/// The whole program of the guide.
fn program() -> Result<&'static str, String> {
    blocks(GUIDE)
        .find(|(language, code)| *language == "rust" && code.contains("libos_core::main!"))
        .map(|(_, code)| code)
        .ok_or_else(|| "docs/own-policy.md has no whole program".into())
}

/// The lines that it prints, without a policy of its own and with it.
fn printed() -> Result<&'static str, String> {
    let after = GUIDE.split_once("It prints\n").ok_or("docs/own-policy.md does not say what it prints")?.1;
    blocks(after).next().map(|(_, lines)| lines).ok_or_else(|| "docs/own-policy.md: no lines".into())
}

/// Fenced blocks with their languages.
fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_the_guide_has_fifty_lines() {
        let program = program().unwrap();
        let lines = program.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= 50, "{lines} lines");
        assert!(program.contains("impl ReplacementPolicy for") && program.contains("set_policy"));
        assert_eq!(printed().unwrap().lines().count(), 2);
    }
}
