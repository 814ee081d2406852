//! The tables in the READMEs: those of the kept run, and nothing typed.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bench_programs::cases::Group;

use crate::comparison::{Comparison, Row};
use crate::markdown::{grouped, title};

/// Between these lines stands what is made here.
const BEGIN: &str = "<!-- from reference.json -->\n";
const END: &str = "<!-- end -->";

/// Operations that the project's README shows, and whose bounds are tested; the others are in `bench/README.md`. In the order of the report, since some
/// leave a state behind: frames that are zeroed, or not.
pub const MOST_IMPORTANT: [&str; 15] = [
    "null-system-call",
    "first-touch-after-idle",
    "first-touch-steady",
    "read-unwritten",
    "copy-on-write",
    "copy-on-write-sole-owner",
    "fork-exit-wait-small",
    "vfork-exec-exit-wait",
    "thread-create-exit-join",
    "mmap-touch-munmap-64",
    "mprotect-write-64",
    "munmap-32-mib",
    "pipe-round-trip",
    "file-read-fault",
    "read-4-kib",
];

/// The documents, by their names below the workspace, and whether they show all operations.
const DOCUMENTS: [(&str, bool); 2] = [("README.md", false), ("bench/README.md", true)];

/// Puts the figures of `comparison` into all documents.
///
/// # Errors
/// One cannot be read or written, or has no place for them.
pub fn renew(root: &Path, comparison: &Comparison) -> Result<()> {
    for (name, all) in DOCUMENTS {
        let file = root.join(name);
        let text = read(&file)?;
        let new = renewed(&text, &tables(comparison, all));
        let new = new.with_context(|| format!("{} has no place for figures", file.display()))?;
        crate::save(&file, &new)?;
    }
    Ok(())
}

/// The documents whose figures are not those of `comparison`.
///
/// # Errors
/// One cannot be read.
pub fn outdated(root: &Path, comparison: &Comparison) -> Result<Vec<&'static str>> {
    let mut names = Vec::new();
    for (name, all) in DOCUMENTS {
        let text = read(&root.join(name))?;
        if renewed(&text, &tables(comparison, all)).as_deref() != Some(&*text) {
            names.push(name);
        }
    }
    Ok(names)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// `text` with `tables` in their place; `None` if there is no such place.
fn renewed(text: &str, tables: &str) -> Option<String> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text[begin..].find(END)?;
    Some(format!("{}{tables}{}", &text[..begin], &text[end..]))
}

fn tables(comparison: &Comparison, all: bool) -> String {
    let mut text = String::new();
    for group in Group::ALL {
        table(&mut text, comparison, group, all).expect("writing to a string succeeds");
    }
    text
}

fn table(to: &mut String, comparison: &Comparison, group: Group, all: bool) -> std::fmt::Result {
    let shown = |row: &&Row| {
        all || group != Group::Operations || MOST_IMPORTANT.contains(&row.name.as_str())
    };
    let rows: Vec<&Row> = comparison.rows_of(group).filter(shown).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        to,
        "\n| {} | auvm | Linux | ratio | of means |",
        title(group)
    )?;
    writeln!(to, "|---|--:|--:|--:|--:|")?;
    for row in &rows {
        let median = |side: &crate::comparison::Side| match side {
            Ok(case) => grouped(case.p50),
            Err(_) => "-".to_owned(),
        };
        let (auvm, linux) = (median(&row.auvm), median(&row.linux));
        let ratios = match row.ratios() {
            Some(ratios) => format!("{:.3} | {:.3}", ratios.p50, ratios.mean),
            None => "- | -".to_owned(),
        };
        writeln!(to, "| `{}` | {auvm} | {linux} | {ratios} |", row.name)?;
    }
    if let Some(means) = comparison.geometric_means(group)
        && comparison.rows_of(group).count() > 1
    {
        let of = match rows.len() == comparison.rows_of(group).count() {
            true => "geometric mean".to_owned(),
            false => format!(
                "geometric mean of all {}",
                comparison.rows_of(group).count()
            ),
        };
        let (p50, mean) = (means.p50, means.mean);
        writeln!(to, "| **{of}** | | | **{p50:.3}** | **{mean:.3}** |")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::example;

    #[test]
    fn what_is_between_the_lines_is_replaced() {
        let text = format!("before\n{BEGIN}old\n{END}\nafter\n");
        let comparison = example::one((1000, 1100.4), (4000, 4401.0));
        let new = renewed(&text, &tables(&comparison, false)).unwrap();
        assert!(new.starts_with("before\n") && new.ends_with(&format!("{END}\nafter\n")));
        let row = "| `read-unwritten` | 1,000 | 4,000 | 0.250 | 0.250 |\n";
        assert!(new.contains(row) && !new.contains("old"), "{new}");
        assert_eq!(renewed(&new, &tables(&comparison, false)), Some(new));
        assert_eq!(renewed("nothing", ""), None);
    }

    #[test]
    fn the_documents_show_the_kept_run() {
        let root = launcher::workspace::Workspace::find().unwrap();
        let kept = crate::kept().unwrap();
        let outdated = outdated(root.root(), &kept).unwrap();
        assert!(
            outdated.is_empty(),
            "{outdated:?}: `cargo bench -- --store` writes the figures of its run there"
        );
    }
}
