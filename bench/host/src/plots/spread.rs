//! How the samples of each operation, and of touches of memory on swap, are spread, on a logarithmic scale.

use bench_programs::cases::Group;

use super::KERNELS;
use crate::comparison::{Comparison, Row};
use crate::record::Measured;
use crate::svg::{Anchor, Drawing, Stroke};

/// The frame.
const LEFT: f64 = 240.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 60.0;
/// From a row to the next, and from a kernel's line to the other's.
const ROW: f64 = 24.0;
const KERNEL: f64 = 8.0;

/// A thin line from the least to the greatest, a thick one up to the 90th percentile, and a dot at the median, for each kernel.
pub(super) fn spread(comparison: &Comparison) -> Option<String> {
    let groups = [Group::Operations, Group::Touches];
    let rows: Vec<&Row> = groups
        .into_iter()
        .flat_map(|group| comparison.rows_of(group))
        .collect();
    let all = rows
        .iter()
        .flat_map(|row| KERNELS.map(|(_, _, side)| side(row).as_ref().ok()));
    let all: Vec<&Measured> = all.flatten().collect();
    let decade = |number: u64| (number.max(1) as f64).log10();
    let first = all.iter().map(|case| decade(case.min)).reduce(f64::min)?;
    let last = all.iter().map(|case| decade(case.max)).reduce(f64::max)?;
    let (first, last) = (first.floor(), last.ceil().max(first.floor() + 1.0));
    let x = |number: u64| LEFT + (decade(number) - first) / (last - first) * (RIGHT - LEFT);

    let bottom = TOP + rows.len() as f64 * ROW;
    let title = "Samples: least to greatest (thin), to the 90th percentile (thick), median (dot)";
    let mut drawing = Drawing::new(
        title,
        "instructions; of touches of memory on swap, ns",
        bottom + 40.0,
    );
    for power in first as u32..=last as u32 {
        let number = 10_u64.pow(power);
        let across = Stroke {
            colour: "#dddddd",
            width: 1.0,
            dashes: "",
        };
        drawing.line(&[(x(number), TOP), (x(number), bottom)], across);
        let words = short(number);
        drawing.word(x(number), bottom + 18.0, Anchor::Middle, &words);
    }
    for (index, row) in rows.iter().enumerate() {
        let middle = TOP + (index as f64 + 0.5) * ROW;
        drawing.word(LEFT - 10.0, middle + 4.0, Anchor::End, &row.name);
        for ((_, colour, side), y) in KERNELS
            .into_iter()
            .zip([middle - KERNEL / 2.0, middle + KERNEL / 2.0])
        {
            let Ok(case) = side(row) else { continue };
            for (end, width) in [(case.max, 1.0), (case.p90, 4.0)] {
                let stroke = Stroke {
                    colour,
                    width,
                    dashes: "",
                };
                drawing.line(&[(x(case.min), y), (x(end), y)], stroke);
            }
            drawing.dot((x(case.p50), y), colour);
        }
    }
    for ((kernel, colour, _), left) in KERNELS.into_iter().zip([RIGHT - 120.0, RIGHT - 60.0]) {
        drawing.dot((left, TOP - 14.0), colour);
        drawing.word(left + 8.0, TOP - 10.0, Anchor::Start, kernel);
    }
    Some(drawing.finish())
}

/// A power of ten in three characters and a letter.
fn short(number: u64) -> String {
    match number {
        1_000_000.. => format!("{} M", number / 1_000_000),
        1000.. => format!("{} k", number / 1000),
        _ => format!("{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::example;

    #[test]
    fn each_case_has_a_line_for_each_kernel() {
        let mut comparison = example::one((100, 100.0), (5000, 5000.0));
        comparison.rows[0].linux.as_mut().unwrap().max = 900_000;
        let text = spread(&comparison).unwrap();
        // Two of the rows' dots, two of the legend's.
        assert_eq!(text.matches("<circle").count(), 4, "{text}");
        assert!(text.contains(">100<") && text.contains(">1 M<"), "{text}");
        comparison.rows.clear();
        assert_eq!(spread(&comparison), None);
    }
}
