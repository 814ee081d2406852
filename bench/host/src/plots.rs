//! The report's drawings.

mod spread;

use bench_programs::cases::Group;

use crate::comparison::{Comparison, Row, Side};
use crate::svg::{Anchor, BOTTOM, Drawing, HEIGHT, LEFT, RIGHT, Stroke, TOP};

/// A kernel's name, its colour, and its side of a row.
type Kernel = (&'static str, &'static str, fn(&Row) -> &Side);

const KERNELS: [Kernel; 2] = [
    ("auvm", "#1b7f5c", |row| &row.auvm),
    ("Linux", "#c2452d", |row| &row.linux),
];

/// How the lines of loads differ, in the order in which they come.
const DASHES: [&str; 3] = ["", "7,4", "2,3"];

/// Between lines of the legend.
const LINE: f64 = 20.0;

/// The file with the drawing of a group, and what it shows.
pub fn of(group: Group) -> Option<(&'static str, &'static str)> {
    match group {
        Group::Operations => Some(("spread.svg", "spread of the samples")),
        Group::Boot | Group::Touches => None,
        Group::Memory => Some(("memory.svg", "memory of a task that sleeps")),
        Group::Paging => Some(("paging.svg", "time over the number of processes")),
    }
}

/// The drawings that the comparison has rows for: the name of a file and what is in it.
pub fn all(comparison: &Comparison) -> Vec<(&'static str, String)> {
    let drawn = |group| {
        let (name, _) = of(group)?;
        let text = match group {
            Group::Operations => spread::spread(comparison),
            Group::Boot | Group::Touches => None,
            Group::Memory => memory(comparison),
            Group::Paging => paging(comparison),
        };
        Some((name, text?))
    };
    Group::ALL.into_iter().filter_map(drawn).collect()
}

/// A paging case: its load, how many processes, and its row.
struct Load<'a> {
    pattern: &'a str,
    processes: u32,
    row: &'a Row,
}

/// Time of the paging loads over the number of processes.
fn paging(comparison: &Comparison) -> Option<String> {
    let loads = comparison.rows_of(Group::Paging).filter_map(|row| {
        let (pattern, processes) = row.name.strip_prefix("paging-")?.rsplit_once('-')?;
        let processes = processes.parse().ok()?;
        Some(Load {
            pattern,
            processes,
            row,
        })
    });
    let loads: Vec<Load> = loads.collect();
    let milliseconds = |side: &Side| side.as_ref().ok().map(|case| case.mean / 1000.0);
    let times = loads
        .iter()
        .flat_map(|load| KERNELS.map(|(_, _, side)| milliseconds(side(load.row))));
    let most = times.flatten().reduce(f64::max)?;
    let last = loads.iter().map(|load| load.processes).max()?;

    let mut drawing = Drawing::new(
        "Paging: 256 MiB of private memory where 65 MiB are free, swap disk of 100 us",
        "ms of guest time",
        HEIGHT,
    );
    let y = drawing.vertical_axis(most);
    drawing.horizontal_axis("processes");
    // Powers of two are as far from each other as any.
    let widest = f64::from(last.max(2)).log2();
    let x =
        |processes: u32| LEFT + 20.0 + f64::from(processes).log2() / widest * (RIGHT - LEFT - 40.0);
    let mut counts: Vec<u32> = loads.iter().map(|load| load.processes).collect();
    counts.sort_unstable();
    counts.dedup();
    for count in counts {
        drawing.word(x(count), BOTTOM + 18.0, Anchor::Middle, &format!("{count}"));
    }
    let mut patterns: Vec<&str> = loads.iter().map(|load| load.pattern).collect();
    patterns.dedup();
    let mut legend = TOP;
    for (pattern, dashes) in patterns.iter().zip(DASHES.into_iter().cycle()) {
        for (kernel, colour, side) in KERNELS {
            let points = loads.iter().filter(|load| load.pattern == *pattern);
            let points = points.filter_map(|load| {
                let time = milliseconds(side(load.row))?;
                Some((x(load.processes), y(time)))
            });
            let points: Vec<(f64, f64)> = points.collect();
            let stroke = Stroke {
                colour,
                width: 1.5,
                dashes,
            };
            drawing.line(&points, stroke);
            points.iter().for_each(|point| drawing.dot(*point, colour));
            drawing.line(&[(RIGHT + 15.0, legend), (RIGHT + 45.0, legend)], stroke);
            let words = format!("{kernel}, {pattern}");
            drawing.word(RIGHT + 52.0, legend + 4.0, Anchor::Start, &words);
            legend += LINE;
        }
    }
    Some(drawing.finish())
}

/// Memory of a blocked task: a bar for each kernel, side by side.
fn memory(comparison: &Comparison) -> Option<String> {
    let rows: Vec<&Row> = comparison.rows_of(Group::Memory).collect();
    let kib = |side: &Side| side.as_ref().ok().map(|case| case.mean / 1024.0);
    let sizes = rows
        .iter()
        .flat_map(|row| KERNELS.map(|(_, _, side)| kib(side(row))));
    let most = sizes.flatten().reduce(f64::max)?;

    let mut drawing = Drawing::new("Memory of a task that sleeps", "KiB", HEIGHT);
    let y = drawing.vertical_axis(most);
    drawing.horizontal_axis("");
    let room = (RIGHT - LEFT) / rows.len() as f64;
    let width = room / 4.0;
    for (index, row) in rows.iter().enumerate() {
        let middle = LEFT + (index as f64 + 0.5) * room;
        drawing.word(middle, BOTTOM + 18.0, Anchor::Middle, &row.name);
        for ((_, colour, side), left) in KERNELS.into_iter().zip([middle - width, middle]) {
            if let Some(size) = kib(side(row)) {
                drawing.bar(left, width, y(size), colour);
                let words = format!("{size:.1}");
                drawing.word(left + width / 2.0, y(size) - 5.0, Anchor::Middle, &words);
            }
        }
    }
    for ((kernel, colour, _), legend) in KERNELS.into_iter().zip([TOP, TOP + LINE]) {
        drawing.dot((RIGHT + 30.0, legend), colour);
        drawing.word(RIGHT + 52.0, legend + 4.0, Anchor::Start, kernel);
    }
    Some(drawing.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::example;

    fn renamed(name: &str) -> Comparison {
        let mut comparison = example::one((500_000, 500_000.0), (3_000_000, 3_000_000.0));
        comparison.rows[0].name = name.to_owned();
        comparison
    }

    #[test]
    fn a_load_is_a_line_for_each_kernel() {
        let plots = all(&renamed("paging-cyclic-8"));
        let [(name, text)] = &plots[..] else {
            panic!("{plots:?}");
        };
        assert_eq!(*name, "paging.svg");
        assert_eq!(text.matches("<circle").count(), 2, "{text}");
        assert!(text.contains("Linux, cyclic") && text.contains(">3000<"));
    }

    #[test]
    fn a_task_is_a_bar_for_each_kernel() {
        let plots = all(&renamed("blocked-thread"));
        let [(name, text)] = &plots[..] else {
            panic!("{plots:?}");
        };
        assert_eq!(*name, "memory.svg");
        assert!(text.contains(">488.3<"), "{text}");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(all(&renamed("boot")).is_empty());
    }
}
