//! What got worse since the run that was kept.

use std::fmt::Write;

use crate::comparison::{Comparison, Side};
use crate::record::Measured;

/// A change below this part is not worth a line.
const NOTABLE: f64 = 0.01;

/// A change of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The case, the kernel and the figure.
    pub what: String,
    /// As it was kept.
    pub before: f64,
    /// As it is.
    pub now: f64,
}

impl Change {
    fn part(&self) -> f64 {
        self.now / self.before.max(1.0) - 1.0
    }
}

/// A sentence for every figure that changed by more than 1%: auvm's that got worse, auvm's that got better, and Linux's, which should not move.
pub fn against(before: &Comparison, now: &Comparison) -> String {
    let mut text = String::new();
    let ours = changes(before, now, "auvm", |row| &row.auvm);
    let (worse, better): (Vec<_>, Vec<_>) = ours
        .into_iter()
        .partition(|change| change.now > change.before);
    let theirs = changes(before, now, "Linux", |row| &row.linux);
    let groups = [
        ("Worse than the reference", worse),
        ("Better than the reference", better),
        ("Linux itself differs from the reference", theirs),
    ];
    for (title, changes) in groups
        .into_iter()
        .filter(|(_, changes)| !changes.is_empty())
    {
        writeln!(text, "{title}:").expect("writing to a string succeeds");
        for change in changes {
            let Change { what, before, now } = &change;
            writeln!(
                text,
                "  {what}: {before:.0} -> {now:.0} ({:+.1}%)",
                change.part() * 100.0
            )
            .expect("writing to a string succeeds");
        }
    }
    if text.is_empty() {
        text.push_str("No case differs from the reference by more than 1%.\n");
    }
    text
}

/// The notable changes on one side, of cases that were measured both times.
fn changes(
    before: &Comparison,
    now: &Comparison,
    kernel: &str,
    side: impl Fn(&crate::comparison::Row) -> &Side,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for row in &now.rows {
        let old = before.rows.iter().find(|old| old.name == row.name);
        let (Some(Ok(old)), Ok(new)) = (old.map(&side), side(row)) else {
            continue;
        };
        let figures = |case: &Measured| [("p50", case.p50 as f64), ("mean", case.mean)];
        let pairs = figures(old).into_iter().zip(figures(new));
        changes.extend(pairs.map(|((figure, before), (_, now))| Change {
            what: format!("{} {figure} on {kernel}", row.name),
            before,
            now,
        }));
    }
    changes.retain(|change| (change.now - change.before).abs() > change.before * NOTABLE);
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::example;

    #[test]
    fn what_got_worse_is_printed() {
        let before = example::one((1000, 1100.0), (4000, 4400.0));
        let text = against(&before, &example::one((1011, 1000.0), (4000, 4400.0)));
        assert_eq!(
            text,
            "Worse than the reference:\n  read-unwritten p50 on auvm: 1000 -> 1011 (+1.1%)\n\
             Better than the reference:\n  read-unwritten mean on auvm: 1100 -> 1000 (-9.1%)\n"
        );
    }

    #[test]
    fn one_percent_is_nothing() {
        let before = example::one((1000, 1100.0), (4000, 4400.0));
        let text = against(&before, &example::one((1010, 1100.0), (4000, 4400.0)));
        assert_eq!(
            text,
            "No case differs from the reference by more than 1%.\n"
        );
    }

    #[test]
    fn linux_should_not_move() {
        let before = example::one((1, 1.0), (4000, 4400.0));
        let text = against(&before, &example::one((1, 1.0), (3000, 4400.0)));
        assert!(text.starts_with("Linux itself"), "{text}");
    }

    #[test]
    fn cases_that_are_new_are_no_change() {
        let now = example::one((1, 1.0), (1, 1.0));
        let before = Comparison {
            rows: vec![],
            ..now.clone()
        };
        assert!(against(&before, &now).starts_with("No case"));
    }
}
